// From the text of a setting to its value. Each parser throws ExpectedError that says what was expected.

import { RecorderError } from './errors.ts';

/** Thrown by a setting's parser: says what was expected. */
export class ExpectedError extends RecorderError {
  constructor(expected: string) {
    super('config_invalid', `expected ${expected}`);
  }
}

export const text = (value: string): string => value;

export function nonEmpty(value: string): string {
  if (value === '') throw new ExpectedError('a text that is not empty');
  return value;
}

export function boolean(value: string): boolean {
  const lower = value.toLowerCase();
  if (['1', 'true', 'on', 'yes'].includes(lower)) return true;
  if (['0', 'false', 'off', 'no', ''].includes(lower)) return false;
  throw new ExpectedError('1, 0, true, false, on or off');
}

export function oneOf<const T extends string>(...names: T[]): (value: string) => T {
  return (value) => {
    const found = names.find((name) => name.toLowerCase() === value.toLowerCase());
    if (found === undefined) throw new ExpectedError(names.join(' or '));
    return found;
  };
}

export function integer(least: number, most: number, unit: string): (value: string) => number {
  return (value) => {
    const parsed = /^\d+$/.test(value) ? Number(value) : Number.NaN;
    if (parsed >= least && parsed <= most) return parsed;
    throw new ExpectedError(`a whole number of ${unit} from ${least} to ${most}`);
  };
}

const BYTE_UNITS: Record<string, number> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

export function bytes(least: number, most: number): (value: string) => number {
  return (value) => {
    const match = /^(\d+)\s*([kmgt]?)(?:i?b)?$/i.exec(value);
    const parsed = match === null ? Number.NaN : Number(match[1]) * BYTE_UNITS[match[2]!.toLowerCase()]!;
    if (parsed >= least && parsed <= most) return parsed;
    throw new ExpectedError(`a size from ${least} to ${most} bytes, as a number or like 64MiB`);
  };
}

export function socketMode(value: string): number {
  if (!/^0?[0-7]{3}$/.test(value)) throw new ExpectedError('an octal file mode such as 0600');
  return Number.parseInt(value, 8);
}

const NATIVE_PORTS: Record<string, string> = { '9000': '8123', '9440': '8443 (https)' };

export function httpPort(value: string): number {
  const http = NATIVE_PORTS[value];
  if (http !== undefined) {
    throw new ExpectedError(
      `ClickHouse's HTTP port, usually 8123: ${value} is its native protocol, use ${http}`,
    );
  }
  return integer(0, 65_535, 'port')(value);
}

export function hostList(value: string): string[] {
  const hosts = value.split(',').map((host) => host.trim());
  for (const host of hosts) {
    if (host === '' || /\s/.test(host))
      throw new ExpectedError('host names or http(s):// addresses, separated by commas');
    if (/:(9000|9440)$/.test(host))
      throw new ExpectedError(`${host} with ClickHouse's HTTP port, usually 8123`);
  }
  return hosts;
}

export function databaseName(value: string): string {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(value))
    throw new ExpectedError('a database name of letters, digits and _');
  return value;
}

export const milliseconds = (least: number, most: number) => integer(least, most, 'milliseconds');

/** An empty text is null: derived from something else. */
export function optional<T>(parse: (value: string) => T): (value: string) => T | null {
  return (value) => (value === '' ? null : parse(value));
}

export const fullPolicy = oneOf('block', 'drop');

/** `topic=drop,topic=block` by topic. */
export function topicPolicies(value: string): Record<string, 'block' | 'drop'> {
  const policies: Record<string, 'block' | 'drop'> = {};
  for (const part of value.split(',').map((text) => text.trim())) {
    if (part === '') continue;
    const [topic = '', policy = ''] = part.split('=', 2).map((text) => text.trim());
    if (!/^\w+$/.test(topic)) throw new ExpectedError('topic=drop or topic=block, separated by commas');
    policies[topic.toLowerCase()] = fullPolicy(policy);
  }
  return policies;
}

const MAX_ID = 2 ** 32 - 2;
const userId = integer(0, MAX_ID, 'user ids');

/** `1000,1001`; null where nothing is given. */
export function userIds(value: string): readonly number[] | null {
  if (value === '') return null;
  return value.split(',').map((part) => userId(part.trim()));
}

/** User and group as they were given: numbers, or names of this host; null: stays as it is. */
export interface SocketOwner {
  user: string | null;
  group: string | null;
}

export function socketOwner(value: string): SocketOwner | null {
  if (value === '') return null;
  const match = /^([\w.-]*)(?::([\w.-]+))?$/.exec(value);
  if (match === null) throw new ExpectedError('user, user:group or :group, numbers or names');
  return { user: match[1] || null, group: match[2] ?? null };
}
