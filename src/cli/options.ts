// What the commands share: the settings as flags, the last JSON line, and how an error leaves the program.

import { type Command, Option } from 'commander';
import { type Config, loadConfig, type Overrides, settingNames, unknownVariables } from '../config.ts';
import { describeError, RecorderError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { flagOf, type SettingName, settings } from '../settings.ts';

/** Short forms of the flags that are typed most: `--socket` for `--recorder-socket`. */
const SHORT_PREFIX = '--recorder-';

/** How a ClickHouse server is spoken to, whichever it is. */
export const CLICKHOUSE_ACCESS = [
  'clickhouseUser',
  'clickhousePassword',
  'clickhousePasswordFile',
  'clickhouseCaFile',
  'clickhouseCertFile',
  'clickhouseKeyFile',
  'clickhouseDatabase',
  'clickhouseTimeoutMs',
] as const satisfies readonly SettingName[];

/** Which ClickHouse server, and how it is spoken to. */
export const CLICKHOUSE_SERVER = [
  'clickhouseHosts',
  'clickhousePort',
  ...CLICKHOUSE_ACCESS,
] as const satisfies readonly SettingName[];

/** Adds a flag for each of the named settings (all, unless given) to a command. */
export function addSettingFlags(command: Command, names: readonly SettingName[] = settingNames): Command {
  for (const name of names) {
    const setting = settings[name];
    const flag = flagOf(setting.env);
    const fallback = setting.fallback === '' ? '' : `, default ${setting.fallback}`;
    const short = flag.startsWith(SHORT_PREFIX) ? `--${flag.slice(SHORT_PREFIX.length)}` : null;
    command.addOption(
      new Option(
        `${short ?? flag} <${setting.placeholder}>`,
        `${setting.description} (${setting.env}${fallback})`,
      ),
    );
    if (short !== null) command.addOption(new Option(`${flag} <${setting.placeholder}>`).hideHelp());
  }
  return command;
}

function camelCase(flag: string): string {
  return flag.slice(2).replaceAll(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** Configuration from a command's flags and the environment; throws ConfigError with all problems. */
export function configOf(command: Command): Config {
  const given = command.opts<Record<string, string | undefined>>();
  const overrides: Overrides = {};
  for (const name of settingNames) {
    const flag = flagOf(settings[name].env);
    const short = flag.startsWith(SHORT_PREFIX)
      ? given[camelCase(`--${flag.slice(SHORT_PREFIX.length)}`)]
      : undefined;
    const text = given[camelCase(flag)] ?? short;
    if (text !== undefined) overrides[name] = text;
  }
  return loadConfig(overrides, process.env);
}

/** Logs a warning for each HFT_ variable, and line of the file of settings, that is no setting. */
export function warnUnknownVariables(logger: Logger, { configFile }: Config): void {
  for (const warning of unknownVariables(process.env, configFile)) logger.warn(warning);
}

/** JSON text with bigints as numbers where they are exact, and as strings where they are not. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) => {
    if (typeof item !== 'bigint') return item;
    const number = Number(item);
    return Number.isSafeInteger(number) ? number : item.toString();
  });
}

/** Writes a line to standard output. */
export function printLine(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Says what went wrong and what to do next, and sets exit code 1. Bugs show their stack. */
export function reportFailure(error: unknown, json: boolean): void {
  process.exitCode = 1;
  const expected = error instanceof RecorderError;
  const text = expected || !(error instanceof Error) ? describeError(error) : (error.stack ?? error.message);
  process.stderr.write(`recorder: ${text}\n`);
  if (json)
    printLine(toJson({ error: { code: expected ? error.code : 'internal', message: describeError(error) } }));
}
