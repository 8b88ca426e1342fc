// `recorder doctor`: everything that can be wrong before or beside a run, and what to type.

import Table from 'cli-table3';
import type { Command } from 'commander';
import { type Config, ConfigError, clickhouseUrls, isClickhouseOn } from '../config.ts';
import { checkClickhouse } from './doctor-clickhouse.ts';
import { type Finding, wrong } from './doctor-finding.ts';
import {
  checkConfig,
  checkDiskSpeed,
  checkLimits,
  checkSocket,
  checkSpace,
  checkWalDirectory,
} from './doctor-host.ts';
import { checkRecorder, checkWal, runningPid } from './doctor-wal.ts';
import { addSettingFlags, configOf, printLine, reportFailure, toJson } from './options.ts';
import { serversOf } from './reconcile.ts';

async function findingsFor(config: Config): Promise<Finding[]> {
  const directory = checkWalDirectory(config);
  const found = [...checkConfig(config, process.env), ...directory, ...checkSocket(config)];
  // What cannot be written cannot be looked into either.
  const isUsable = directory.every(({ level }) => level !== 'error');
  if (isUsable) {
    found.push(...checkLimits(config, runningPid(config)));
    found.push(...checkSpace(config), ...(await checkDiskSpeed(config)));
    found.push(...(await checkRecorder(config)), ...checkWal(config));
  }
  const urls = isUsable ? serversOf(config) : isClickhouseOn(config, false) ? clickhouseUrls(config) : [];
  found.push(...(await checkClickhouse(config, urls)));
  return found;
}

/** Findings of the configuration alone, where it is not valid. */
function configFindings(error: ConfigError): Finding[] {
  return error.problems.map((problem) => wrong('config', problem, 'recorder config --help'));
}

function printFindings(findings: readonly Finding[]): void {
  const table = new Table({
    head: ['', 'check', 'finding'],
    wordWrap: true,
    colWidths: [9, 13, 90],
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    style: { head: [], border: [] },
  });
  for (const { check, level, message } of findings) table.push([level, check, message]);
  printLine(table.toString());
  // Commands stand alone, so that they can be copied.
  for (const { check, message, command } of findings.filter((finding) => finding.command !== null)) {
    printLine(`\n# ${check}: ${message}\n${command}`);
  }
}

/** Adds `recorder doctor`. */
export function registerDoctor(program: Command): void {
  const command = program
    .command('doctor')
    .description('check configuration, host, disk, WAL and ClickHouse; say what mends what is wrong')
    .option('--json', 'print one JSON object as the last line');
  addSettingFlags(command);
  command.action(async (flags: { json?: boolean }) => {
    try {
      let findings: Finding[];
      try {
        findings = await findingsFor(configOf(command));
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        findings = configFindings(error);
      }
      const count = (level: Finding['level']) => findings.filter((one) => one.level === level).length;
      const [warnings, errors] = [count('warning'), count('error')];
      const isWell = errors === 0;
      if (flags.json === true) printLine(toJson({ ok: isWell, warnings, errors, findings }));
      else printFindings(findings);
      // Sockets of the client must not keep the process.
      process.exit(isWell ? 0 : 1);
    } catch (error) {
      reportFailure(error, flags.json === true);
      process.exit();
    }
  });
}
