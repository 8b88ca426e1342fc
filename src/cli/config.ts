// `recorder config`: every setting with its value and where it came from.

import Table from 'cli-table3';
import type { Command } from 'commander';
import { type Config, settingNames, unknownVariables } from '../config.ts';
import { type SettingName, settings } from '../settings.ts';
import { addSettingFlags, configOf, printLine, reportFailure, toJson } from './options.ts';

function shownValue(config: Config, name: SettingName): string {
  const value = config[name];
  if (settings[name].secret) return value === '' ? '' : '(set)';
  if (name === 'socketMode') return `0${config.socketMode.toString(8)}`;
  if (value === null) return '';
  if (name === 'socketOwner') return ownerText(config.socketOwner);
  if (typeof value === 'object' && !Array.isArray(value))
    return Object.entries(value)
      .map(([topic, policy]) => `${topic}=${policy}`)
      .join(',');
  return Array.isArray(value) ? value.join(',') : String(value);
}

function ownerText(owner: Config['socketOwner']): string {
  if (owner === null) return '';
  return `${owner.user ?? ''}${owner.group === null ? '' : `:${owner.group}`}`;
}

function showConfig(config: Config, json: boolean): void {
  const rows = settingNames.map((name) => ({
    name: settings[name].env as string,
    value: shownValue(config, name),
    origin: config.origins[name],
    description: settings[name].description,
    reloads: settings[name].reloads,
  }));
  const warnings = unknownVariables(process.env, config.configFile);
  if (json) {
    printLine(toJson({ settings: rows, warnings }));
    return;
  }
  const table = new Table({
    head: ['setting', 'value', 'from', 'meaning'],
    wordWrap: true,
    colWidths: [null, 24, 13, 60],
    style: { head: [], border: [] },
  });
  for (const { name, value, origin, description, reloads } of rows)
    table.push([name, value, origin, reloads ? `${description}. SIGHUP reloads it` : description]);
  printLine(table.toString());
  for (const warning of warnings) printLine(`warning: ${warning}`);
}

/** Adds `recorder config`. */
export function registerConfig(program: Command): void {
  const command = program
    .command('config')
    .description('list every setting with its value and where it came from')
    .option('--json', 'print one JSON object as the last line');
  addSettingFlags(command).action((options: { json?: boolean }) => {
    try {
      showConfig(configOf(command), options.json === true);
    } catch (error) {
      reportFailure(error, options.json === true);
    }
  });
}
