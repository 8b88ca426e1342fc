// A file of settings: lines `HFT_NAME=value`, as the EnvironmentFile of a systemd unit. Read at the start and
// again on SIGHUP.

import { readFileSync } from 'node:fs';
import { RecorderError } from './errors.ts';

/**
 * Settings by name. Empty lines, and those that begin with # or ;, are comments; a value may be in quotes.
 * @throws RecorderError for a file that cannot be read, or a line that is no setting
 */
export function readConfigFile(path: string): Record<string, string> {
  const values: Record<string, string> = {};
  for (const [index, line] of textOf(path).split('\n').entries()) {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#') || trimmed.startsWith(';')) continue;
    const [, name, value] = /^(\w+)\s*=\s*(.*)$/.exec(trimmed) ?? [];
    // What stands there may be a secret: it is not shown.
    if (name === undefined || value === undefined)
      throw new RecorderError('config_file', `line ${index + 1}: NAME=value is expected`);
    values[name] = /^(["']).*\1$/.test(value) ? value.slice(1, -1) : value;
  }
  return values;
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const { code } = cause as { code?: string };
    throw new RecorderError('config_file', `the file cannot be read (${code ?? 'unknown error'})`, { cause });
  }
}
