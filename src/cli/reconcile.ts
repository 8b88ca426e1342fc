// `recorder reconcile`: received = logged = inserted, proven by counting.

import Table from 'cli-table3';
import type { Command } from 'commander';
import { type EmbeddedServer, startEmbedded } from '../clickhouse/child.ts';
import { type Config, clickhouseUrls, isClickhouseOn } from '../config.ts';
import { RecorderError } from '../errors.ts';
import { realFileSystem } from '../io/real-file-system.ts';
import type { SettingName } from '../settings.ts';
import { connectClickHouse } from '../sink/clickhouse-client.ts';
import { ServerError } from '../sink/server-error.ts';
import { clickhouseAddress } from '../supervisor/clickhouse-address.ts';
import type { LsnRange } from '../supervisor/replay/lsn-difference.ts';
import { type ReconcileReport, reconcile, type TopicReport } from '../supervisor/replay/reconcile.ts';
import { readStatus, recorderState } from '../supervisor/status-file.ts';
import { addSettingFlags, CLICKHOUSE_SERVER, configOf, printLine, reportFailure, toJson } from './options.ts';

const SETTINGS: readonly SettingName[] = [
  'walDir',
  'clickhouseDisabled',
  ...CLICKHOUSE_SERVER,
  'embeddedPath',
  'clickhouseEnabled',
];

const POLL_MS = 250;

interface ReconcileFlags {
  json?: boolean;
  embedded?: boolean;
  wait: string;
}

/** Servers to look at: as configured, else where the recorder delivers; none when ClickHouse is off. */
export function serversOf(config: Config): string[] {
  if (isClickhouseOn(config, false)) return clickhouseUrls(config);
  if (config.clickhouseDisabled) return [];
  const url = readStatus(realFileSystem, config.walDir)?.clickhouseUrl;
  return url === undefined ? [] : [url];
}

/** Reconciles until everything matches, nothing more can arrive, or the time is over. */
async function settle(config: Config, urls: readonly string[], waitMs: number): Promise<ReconcileReport> {
  const client = urls.length === 0 ? null : connectClickHouse(clickhouseAddress(config, urls));
  const { walDir, clickhouseDatabase: database } = config;
  const deadline = performance.now() + waitMs;
  try {
    for (;;) {
      const isOver = performance.now() >= deadline;
      const isRunning = recorderState(realFileSystem, walDir) === 'running';
      const report = await reconcile({ fileSystem: realFileSystem, walDir, client, database }).catch(
        (error: unknown) => {
          // A server that restarts answers soon.
          if (isOver || !(error instanceof ServerError) || error.outcome === 'refused') throw error;
          return 'unavailable' as const;
        },
      );
      if (report === null) {
        throw new RecorderError('wal_absent', `there is no write-ahead log in ${walDir}`, {
          hint: 'name its directory with --wal-dir',
        });
      }
      if (report !== 'unavailable') {
        if (report.matches || !isRunning || client === null || isOver) return report;
      }
      await Bun.sleep(POLL_MS);
    }
  } finally {
    await client?.close();
  }
}

const COLUMNS = [
  'received',
  'logged',
  'inserted',
  'pending',
  'deadLettered',
  'lost',
  'duplicated',
  'foreign',
] as const;

function rangeText(ranges: readonly LsnRange[]): string {
  return ranges
    .map(({ firstLsn, lastLsn }) => (firstLsn === lastLsn ? String(firstLsn) : `${firstLsn}-${lastLsn}`))
    .join(', ');
}

function printReport(report: ReconcileReport): void {
  const table = new Table({
    head: ['topic', ...COLUMNS.map((name) => (name === 'deadLettered' ? 'dead' : name))],
    colAligns: ['left', ...COLUMNS.map(() => 'right' as const)],
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    style: { head: [], border: [] },
  });
  const row = (name: string, counts: TopicReport | ReconcileReport) =>
    table.push([name, ...COLUMNS.map((column) => counts[column].toLocaleString('en-US'))]);
  for (const [name, counts] of Object.entries(report.topics)) row(name, counts);
  row('all', report);
  printLine(table.toString());
  for (const [name, topic] of Object.entries(report.topics)) {
    if (topic.missingLsns.length > 0) printLine(`${name}: missing LSNs ${rangeText(topic.missingLsns)}`);
    if (topic.foreignLsns.length > 0) printLine(`${name}: foreign LSNs ${rangeText(topic.foreignLsns)}`);
  }
  if (report.damaged.length > 0) printLine(`damaged in the WAL: LSNs ${rangeText(report.damaged)}`);
  if (report.accepted.length > 0) {
    printLine(`accepted as lost: ${report.acceptedRows} rows, LSNs ${rangeText(report.accepted)}`);
  }
  printLine(
    `gaps: ${report.gaps} sequence numbers; frames: ${report.malformed} malformed, ${report.resent} resent`,
  );
  for (const note of report.notes) printLine(`note: ${note}`);
  printLine(report.matches ? 'received = logged = inserted' : 'MISMATCH');
}

async function run(command: Command, flags: ReconcileFlags): Promise<void> {
  const json = flags.json === true;
  let embedded: EmbeddedServer | null = null;
  try {
    const config = configOf(command);
    let urls = serversOf(config);
    const isRunning = recorderState(realFileSystem, config.walDir) === 'running';
    if (flags.embedded === true && !isRunning) {
      embedded = await startEmbedded({ path: config.embeddedPath });
      urls = [embedded.url];
    }
    const report = await settle(config, urls, Number(flags.wait) * 1000);
    if (json) printLine(toJson(report));
    else printReport(report);
    if (!report.matches) process.exitCode = 1;
  } catch (error) {
    reportFailure(error, json);
  } finally {
    await embedded?.stop();
  }
}

/** Adds `recorder reconcile`. */
export function registerReconcile(program: Command): void {
  const command = program
    .command('reconcile')
    .description('compare what was received, what the WAL holds and what ClickHouse has, row by row')
    .option('--json', 'print one JSON object as the last line')
    .option('--embedded', 'start the embedded ClickHouse server of a recorder that has stopped')
    .option(
      '--wait <seconds>',
      'how long a running recorder may take to deliver the rest, and a server to answer',
      '10',
    );
  addSettingFlags(command, SETTINGS).action((flags: ReconcileFlags) => run(command, flags));
}
