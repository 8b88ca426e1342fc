// From flags, environment and defaults to one typed, validated configuration. All errors are reported at
// once.

import leven from 'leven';
import { readConfigFile } from './config-file.ts';
import { RecorderError } from './errors.ts';
import { readSecretFile } from './secret-files.ts';
import type { Setting } from './setting.ts';
import { fullPolicy } from './setting-parsers.ts';
import { flagOf, type SettingName, settings } from './settings.ts';

type Values = { [K in SettingName]: (typeof settings)[K] extends Setting<infer T> ? T : never };

/** Where a value came from. */
export type Origin = 'flag' | 'environment' | 'file' | 'default';

/** Validated settings; `origins` says of each where it came from. */
export type Config = Readonly<Values> & {
  readonly origins: Readonly<Record<SettingName, Origin>>;
  /** The flag --allow-missing-segments: an operator's word for one start, so no setting. */
  readonly allowMissingSegments?: boolean;
};

/** Texts given as flags, by setting name. */
export type Overrides = Partial<Record<SettingName, string>>;

export const settingNames = Object.keys(settings) as SettingName[];

/** All problems of a configuration in one error, a line each. */
export class ConfigError extends RecorderError {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(
      'config_invalid',
      `configuration is not valid:\n${problems.map((problem) => `  ${problem}`).join('\n')}`,
      {
        hint: '`recorder config` lists all settings',
      },
    );
    this.problems = problems;
  }
}

/** Variables by name. */
type Environment = Record<string, string | undefined>;

/** What the file of settings says, where one is named; its faults become problems. */
function fileSettings(overrides: Overrides, env: Environment, problems: string[]): Environment {
  const path = overrides.configFile ?? env[settings.configFile.env] ?? '';
  if (path === '') return {};
  try {
    return readConfigFile(path);
  } catch (error) {
    if (!(error instanceof RecorderError)) throw error;
    problems.push(`${settings.configFile.env}=${JSON.stringify(path)}: ${error.message}`);
    return {};
  }
}

/**
 * Reads all settings: a flag wins over the file of settings, which wins over the environment, which wins over
 * the default.
 * Throws ConfigError that names every invalid setting, what it was, and what was expected.
 */
export function loadConfig(overrides: Overrides, env: Environment): Config {
  const values: Record<string, unknown> = {};
  const origins: Record<string, Origin> = {};
  const problems: string[] = [];
  const file = fileSettings(overrides, env, problems);
  for (const name of settingNames) {
    const setting: Setting<unknown> = settings[name];
    const flag = overrides[name];
    const given = file[setting.env];
    const variable = env[setting.env];
    const origin = originOf(flag, given, variable);
    const text = flag ?? given ?? variable ?? setting.fallback;
    origins[name] = origin;
    try {
      values[name] = setting.parse(text.trim());
    } catch (error) {
      if (!(error instanceof RecorderError)) throw error;
      const shown = setting.secret ? '…' : JSON.stringify(text);
      problems.push(`${origin === 'flag' ? flagOf(setting.env) : setting.env}=${shown}: ${error.message}`);
    }
  }
  readSecrets(values, origins, problems);
  readTopicPolicies({ ...env, ...file }, values, problems);
  if (problems.length > 0) throw new ConfigError(problems);
  return { ...(values as Values), origins: origins as Record<SettingName, Origin> };
}

function originOf(flag: unknown, file: unknown, variable: unknown): Origin {
  if (flag !== undefined) return 'flag';
  if (file !== undefined) return 'file';
  return variable !== undefined ? 'environment' : 'default';
}

/** Fills in the secrets whose setting `…_FILE` names a file. */
function readSecrets(
  values: Record<string, unknown>,
  origins: Record<string, Origin>,
  problems: string[],
): void {
  for (const name of settingNames.filter((candidate) => settings[candidate].secret)) {
    const { env } = settings[name];
    const fileName = settingNames.find((candidate) => settings[candidate].env === `${env}_FILE`);
    const path = fileName === undefined ? '' : values[fileName];
    if (typeof path !== 'string' || path === '') continue;
    if (values[name] !== '') {
      problems.push(`${env} and ${env}_FILE: one of them is expected`);
      continue;
    }
    try {
      values[name] = readSecretFile(path);
      origins[name] = 'file';
    } catch (error) {
      if (!(error instanceof RecorderError)) throw error;
      problems.push(`${env}_FILE=${JSON.stringify(path)}: ${error.message}`);
    }
  }
}

/** Prefix of the variables that set the policy of one topic, whichever topics there are. */
const POLICY_PREFIX = `${settings.walFullPolicy.env}_`;

/** Puts the policies of single topics over those of the list. */
function readTopicPolicies(env: Environment, values: Record<string, unknown>, problems: string[]): void {
  const single: Config['walFullPolicy'] = {};
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith(POLICY_PREFIX) || text === undefined) continue;
    try {
      single[name.slice(POLICY_PREFIX.length).toLowerCase()] = fullPolicy(text.trim());
    } catch (error) {
      if (!(error instanceof RecorderError)) throw error;
      problems.push(`${name}=${JSON.stringify(text)}: ${error.message}`);
    }
  }
  values['walFullPolicy'] = { ...(values['walFullPolicy'] as Config['walFullPolicy']), ...single };
}

/** Whether rows are to be delivered to ClickHouse; `embedded` is the flag --embedded. */
export function isClickhouseOn(config: Config, embedded: boolean): boolean {
  if (config.clickhouseDisabled) return false;
  if (embedded) return true;
  if (config.origins.clickhouseEnabled !== 'default') return config.clickhouseEnabled;
  return config.origins.clickhouseHosts !== 'default';
}

/** Addresses of the configured ClickHouse servers, `http://host:port`, in the order given. */
export function clickhouseUrls(config: Config): string[] {
  return config.clickhouseHosts.map((host) => {
    const url = new URL(host.includes('://') ? host : `http://${host}`);
    if (url.port === '' && !/:\d+$/.test(host)) url.port = String(config.clickhousePort);
    return url.origin;
  });
}

/** Warnings for HFT_ variables, and names in the file of settings, that no setting has, with the nearest. */
export function unknownVariables(env: Environment, configFile = ''): string[] {
  const known = settingNames.map((name) => settings[name].env as string);
  const file = configFile === '' ? {} : readConfigFile(configFile);
  return Object.keys({ ...env, ...file })
    .filter((name) => name.startsWith('HFT_') && !known.includes(name) && !name.startsWith(POLICY_PREFIX))
    .map((name) => {
      const nearest = known.toSorted((a, b) => leven(a, name) - leven(b, name))[0]!;
      return `${name} is not a setting: ignored. Did you mean ${nearest}?`;
    });
}
