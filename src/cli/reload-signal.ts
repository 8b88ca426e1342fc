// SIGHUP: the settings are read again, and what may change while the process runs is taken over.

import { type Config, unknownVariables } from '../config.ts';
import { describeError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { reload } from '../reload.ts';
import { type SettingName, settings } from '../settings.ts';

export interface ReloadOptions {
  /** What was read at the start. */
  loaded: Config;
  /** What the process runs with: the same, but for the address of an embedded server. */
  running: Config;
  /** Reads the settings again. Throws ConfigError. */
  load(): Config;
  /** Takes the values over. Throws a RecorderError for one that does not fit. */
  apply(config: Config): void;
  logger: Logger;
}

const namesOf = (names: readonly SettingName[]): string => names.map((name) => settings[name].env).join(', ');

/**
 * Reloads at every SIGHUP, unless the process runs on a terminal, whose end is the same signal. Settings that
 * are not valid change nothing, and are an error in the log.
 */
export function reloadOnSignal({ loaded, running, load, apply, logger }: ReloadOptions): void {
  if (process.stderr.isTTY === true) return;
  let [before, current] = [loaded, running];
  process.on('SIGHUP', () => {
    try {
      const next = load();
      const { config, changed, needRestart } = reload(current, before, next);
      // First, so that what follows from the new values is told as they say.
      logger.level = config.logLevel;
      apply(config);
      [before, current] = [next, config];
      for (const warning of unknownVariables(process.env, config.configFile)) logger.warn(warning);
      const what = changed.length === 0 ? 'nothing has changed' : `${namesOf(changed)} changed`;
      logger.info(`SIGHUP: settings read again, ${what}`);
      if (needRestart.length > 0) logger.warn(`${namesOf(needRestart)} changed: takes effect with a restart`);
    } catch (error) {
      logger.level = current.logLevel;
      logger.error(`SIGHUP: the settings stay as they are: ${describeError(error)}`);
    }
  });
}
