// What a running process takes over from settings that were read again. Pure.

import { type Config, settingNames } from './config.ts';
import { type SettingName, settings } from './settings.ts';

export interface Reload {
  config: Config;
  /** Settings that have another value now. */
  changed: SettingName[];
  /** Settings whose new value needs a restart. */
  needRestart: SettingName[];
}

/**
 * `running` with the values of `next` where they may change while the process runs. `before` is what was
 * read last: a running configuration may differ from it, by the address of an embedded server.
 */
export function reload(running: Config, before: Config, next: Config): Reload {
  const differing = settingNames.filter((name) => !Bun.deepEquals(before[name], next[name]));
  const changed = differing.filter((name) => settings[name].reloads);
  const values = Object.fromEntries(changed.map((name) => [name, next[name]])) as Partial<Config>;
  const origins = {
    ...running.origins,
    ...Object.fromEntries(changed.map((name) => [name, next.origins[name]])),
  };
  const needRestart = differing.filter((name) => !settings[name].reloads);
  return { config: { ...running, ...values, origins }, changed, needRestart };
}
