// `recorder demo`: the whole job in one command. Three processes: the embedded ClickHouse server, the
// recorder, and a simulated engine that feeds all six topics; then the counts, and a few answers in SQL.
//
// Everything is real: the rows go through the Unix socket, the write-ahead log and HTTP as in production. The
// server is a process of its own and outlives the recorder, so that the counts are taken after the recorder
// has drained.

import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { type EmbeddedServer, startEmbedded } from '../clickhouse/child.ts';
import { RecorderError } from '../errors.ts';
import { realFileSystem } from '../io/real-file-system.ts';
import { ownCommand } from '../own-program.ts';
import { connectClickHouse, type SqlClient } from '../sink/clickhouse-client.ts';
import { type ReconcileReport, reconcile } from '../supervisor/replay/reconcile.ts';
import { readStatus } from '../supervisor/status-file.ts';
import { startProgress } from './demo-progress.ts';
import { printAnswers } from './demo-questions.ts';
import { printLine, reportFailure, toJson } from './options.ts';

const DATABASE = 'hft';
const START_TIMEOUT_MS = 30_000;
const DRAIN_TIMEOUT_MS = 300_000;
/** Beyond its own deadline the recorder is killed. */
const KILL_TIMEOUT_MS = DRAIN_TIMEOUT_MS + 30_000;
/** Settings of the caller that the recorder of the demo takes over; all others have their defaults. */
const INHERITED_SETTINGS = [
  'HFT_CLICKHOUSE_FORMAT',
  'HFT_BATCHER_SCHEMA_EXTRACT',
  'HFT_WAL_SYNC',
  'HFT_LOG_LEVEL',
];

interface DemoFlags {
  rows: number;
  seed: number;
  dir?: string;
  keep?: boolean;
  json?: boolean;
}

interface DemoResult {
  sent: number;
  durable: number;
  clickhouse: number;
  lost: number;
  duplicated: number;
  seconds: number;
}

/** Where the demo's parts keep their things. */
interface Places {
  root: string;
  walDir: string;
  socket: string;
  log: string;
}

function parseCount(text: string): number {
  const count = Number(text.replaceAll('_', ''));
  if (!Number.isSafeInteger(count) || count < 1) throw new InvalidArgumentError('expected a number from 1');
  return count;
}

function makePlaces(dir: string | undefined): Places {
  const root = dir === undefined ? mkdtempSync(join(tmpdir(), 'recorder-demo-')) : resolve(dir);
  mkdirSync(root, { recursive: true });
  return {
    root,
    walDir: join(root, 'wal'),
    socket: join(root, 'recorder.sock'),
    log: join(root, 'recorder.log'),
  };
}

/** The environment without the caller's settings, which are for another recorder. */
function cleanEnvironment(more: Record<string, string>): Record<string, string | undefined> {
  const kept = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('HFT_') || INHERITED_SETTINGS.includes(name),
  );
  return { ...Object.fromEntries(kept), ...more };
}

function failure(what: string, { log }: Places): RecorderError {
  const lines = readFileSync(log, 'utf8').trim().split('\n').slice(-10).join('\n');
  return new RecorderError('demo_failed', `${what}; the end of ${log}:\n${lines}`);
}

async function isListening(socket: string): Promise<boolean> {
  try {
    const connection = await Bun.connect({ unix: socket, socket: { data: () => undefined } });
    connection.end();
    return true;
  } catch {
    return false;
  }
}

/** Starts `recorder serve` and waits until it listens. */
async function startRecorder(places: Places, server: EmbeddedServer): Promise<Bun.Subprocess> {
  const log = openSync(places.log, 'a');
  const recorder = Bun.spawn(
    [...ownCommand(), 'serve', '--wal-dir', places.walDir, '--socket', places.socket],
    {
      env: cleanEnvironment({
        HFT_CLICKHOUSE_HOST: new URL(server.url).hostname,
        HFT_CLICKHOUSE_PORT: String(server.port),
        HFT_CLICKHOUSE_DATABASE: DATABASE,
        HFT_DRAIN_TIMEOUT_MS: String(DRAIN_TIMEOUT_MS),
      }),
      stdin: 'ignore',
      stdout: 'ignore',
      stderr: log,
    },
  );
  closeSync(log);
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await isListening(places.socket))) {
    const isDead = recorder.exitCode !== null || recorder.signalCode !== null;
    if (isDead || performance.now() > deadline) {
      recorder.kill('SIGKILL');
      throw failure('the recorder did not start', places);
    }
    await Bun.sleep(20);
  }
  return recorder;
}

/** Runs the simulated engine to its end; rows that it sent. */
async function runFeed(places: Places, { rows, seed }: DemoFlags, interrupt: AbortSignal): Promise<number> {
  const log = openSync(places.log, 'a');
  const numbers = ['--rows', String(rows), '--seed', String(seed)];
  const feed = Bun.spawn([...ownCommand(), 'feed', 'sim', ...numbers, '--socket', places.socket, '--json'], {
    env: cleanEnvironment({}),
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: log,
  });
  closeSync(log);
  interrupt.addEventListener('abort', () => feed.kill('SIGTERM'));
  const [text, code] = await Promise.all([new Response(feed.stdout).text(), feed.exited]);
  if (interrupt.aborted) throw new RecorderError('interrupted', 'the demo was interrupted');
  if (code !== 0) throw failure(`the feed ended with exit code ${code}`, places);
  const last = JSON.parse(text.trim().split('\n').at(-1) ?? '{}') as { sent?: number };
  if (last.sent === undefined) throw failure('the feed did not say how much it sent', places);
  return last.sent;
}

/** Lets the recorder drain; throws when it does not end by itself and well. */
async function stopRecorder(recorder: Bun.Subprocess, places: Places): Promise<void> {
  recorder.kill('SIGTERM');
  const timer = setTimeout(() => recorder.kill('SIGKILL'), KILL_TIMEOUT_MS);
  const code = await recorder.exited;
  clearTimeout(timer);
  if (code !== 0) throw failure(`the recorder ended with exit code ${code}`, places);
}

function resultOf(sent: number, report: ReconcileReport, own: number, seconds: number): DemoResult {
  const clickhouse = report.inserted - own;
  return {
    sent,
    durable: report.logged - own,
    clickhouse,
    lost: Math.max(0, sent - clickhouse),
    duplicated: report.duplicated,
    seconds: Number(seconds.toFixed(3)),
  };
}

/** Rows that the recorder made itself, of gaps and of its health; nobody sent them. */
function ownRows(walDir: string): number {
  const topics = Object.values(readStatus(realFileSystem, walDir)?.topics ?? {});
  return topics.reduce((sum, { own }) => sum + (own ?? 0), 0);
}

/** Feeds, drains and counts, with a running server. */
async function record(
  places: Places,
  server: EmbeddedServer,
  client: SqlClient,
  flags: DemoFlags,
  interrupt: AbortSignal,
): Promise<DemoResult> {
  const recorder = await startRecorder(places, server);
  try {
    const startedMs = performance.now();
    const progress = startProgress(flags.rows, places.walDir, client);
    let sent: number;
    try {
      sent = await runFeed(places, flags, interrupt);
      await stopRecorder(recorder, places);
    } finally {
      await progress.stop();
    }
    const seconds = (performance.now() - startedMs) / 1000;
    const { walDir } = places;
    const report = await reconcile({ fileSystem: realFileSystem, walDir, client, database: DATABASE });
    if (report === null) throw failure('the recorder left no write-ahead log', places);
    return resultOf(sent, report, ownRows(walDir), seconds);
  } finally {
    recorder.kill('SIGKILL');
    await recorder.exited;
  }
}

function printResult(result: DemoResult, places: Places, keep: boolean): void {
  const { sent, durable, clickhouse, lost, duplicated, seconds } = result;
  const count = (value: number) => value.toLocaleString('en-US');
  printLine(
    `\nsent ${count(sent)}, durable ${count(durable)}, in ClickHouse ${count(clickhouse)}: ` +
      `lost ${count(lost)}, duplicated ${count(duplicated)}, ` +
      `${seconds.toFixed(1)} s, ${count(Math.round(sent / seconds))} rows/s`,
  );
  if (keep) {
    printLine(
      `kept in ${places.root}; look around with: recorder clickhouse --path ${places.root}/clickhouse`,
    );
  }
}

async function run(flags: DemoFlags): Promise<void> {
  const json = flags.json === true;
  const keep = flags.keep === true || flags.dir !== undefined;
  const interrupt = new AbortController();
  // The parts of the demo are stopped in order, and what it made is removed, before it ends.
  for (const name of ['SIGINT', 'SIGTERM']) process.on(name, () => interrupt.abort());
  let places: Places | null = null;
  let server: EmbeddedServer | null = null;
  try {
    places = makePlaces(flags.dir);
    server = await startEmbedded({ path: join(places.root, 'clickhouse') });
    const client = connectClickHouse({
      urls: [server.url],
      user: 'default',
      password: '',
      timeoutMs: 60_000,
    });
    try {
      const result = await record(places, server, client, flags, interrupt.signal);
      if (!json) await printAnswers(client);
      if (json) printLine(toJson(result));
      else printResult(result, places, keep);
      const { sent, clickhouse, lost, duplicated } = result;
      if (lost !== 0 || duplicated !== 0 || clickhouse !== sent) process.exitCode = 1;
    } finally {
      await client.close();
    }
  } catch (error) {
    reportFailure(error, json);
  } finally {
    await server?.stop();
    if (places !== null && !keep) rmSync(places.root, { recursive: true, force: true });
  }
}

/** Adds `recorder demo`. */
export function registerDemo(program: Command): void {
  program
    .command('demo')
    .description('the whole job at once: embedded ClickHouse, recorder and a simulated engine, then SQL')
    .option('--rows <n>', 'rows to send', parseCount, 200_000)
    .option('--seed <n>', 'seed of the simulation', parseCount, 1)
    .option('--dir <dir>', 'work in this directory and keep it, instead of a temporary one')
    .option('--keep', 'keep the temporary directory')
    .option('--json', 'print one JSON object as the last line, and no tables')
    .action(run);
}
