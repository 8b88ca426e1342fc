// The program as its users run it: real processes, started by the command line. RECORDER_COMMAND names
// another program than the sources, for example the compiled binary: every test then runs against that.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const main = join(import.meta.dir, '../../src/main.ts');
const given = process.env['RECORDER_COMMAND']?.trim() ?? '';

/** Command line of the program; append a command and its flags. */
export const recorderCommand: readonly string[] =
  given === '' ? [process.execPath, main] : given.split(/\s+/);

/** The environment without settings of the recorder, so that a developer's own do not change a test. */
export function cleanEnvironment(extra: Record<string, string> = {}): Record<string, string> {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('HFT_'));
  return { ...(Object.fromEntries(own) as Record<string, string>), ...extra };
}

/** What a command that has ended left behind; `json` is its last line where that is JSON. */
export interface CommandResult<Json = Record<string, unknown>> {
  code: number;
  output: string;
  errors: string;
  json: Json;
}

export interface CommandOptions {
  env?: Record<string, string>;
  cwd?: string;
  command?: readonly string[];
}

/** Runs a command of the program to its end. */
export async function run<Json = Record<string, unknown>>(
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult<Json>> {
  const child = Bun.spawn([...(options.command ?? recorderCommand), ...args], {
    env: cleanEnvironment(options.env),
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const [output, errors, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  const last = output.trimEnd().split('\n').at(-1) ?? '';
  return { code, output, errors, json: (last.startsWith('{') ? JSON.parse(last) : {}) as Json };
}

export interface RecorderOptions extends CommandOptions {
  /** Further flags of serve */
  flags?: readonly string[];
}

/** How a recorder ended. */
export interface RecorderEnd {
  code: number | null;
  signal: NodeJS.Signals | number | null;
  output: string;
}

/** A running `recorder serve`. */
export interface RecorderProcess {
  readonly pid: number;
  readonly home: string;
  readonly socket: string;
  readonly walDir: string;
  /** Address of the embedded server; empty without one. */
  readonly clickhouseUrl: string;
  /** Ports of the UDP lines, in the order of the configuration. */
  readonly udpPorts: readonly number[];
  /** Messages of the log, a line each: level, then text. */
  log(): string;
  /** Waits until the log has a message that matches. */
  logged(pattern: RegExp): Promise<string>;
  alive(): boolean;
  /** Sends the signal and waits for the end. */
  end(signal: 'SIGTERM' | 'SIGINT' | 'SIGKILL'): Promise<RecorderEnd>;
}

/** A temporary directory; `using` removes it. */
export function temporaryHome(): { path: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), 'recorder-it-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** Polls until `look` gives something; throws after `timeoutMs` with what `describe` says. */
export async function until<T>(
  look: () => T | Promise<T>,
  describe: string | (() => string),
  timeoutMs = 30_000,
): Promise<NonNullable<T>> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== null && found !== undefined && found !== false) return found as NonNullable<T>;
    if (performance.now() > deadline) {
      throw new Error(`not within ${timeoutMs} ms: ${typeof describe === 'string' ? describe : describe()}`);
    }
    await Bun.sleep(20);
  }
}

const LEVELS: Record<number, string> = { 30: 'info', 40: 'warn', 50: 'error', 60: 'fatal' };

/** A line of the log as text; what is no log line stays as it is. */
function logText(line: string): string {
  try {
    const { level, msg } = JSON.parse(line) as { level: number; msg: string };
    return `${LEVELS[level] ?? level}: ${msg}`;
  } catch {
    return line;
  }
}

/**
 * Starts `serve` with its socket, WAL and embedded data under `home`, and waits until it is ready.
 * @throws Error with its log where it ends before
 */
export async function startRecorderProcess(
  home: string,
  options: RecorderOptions = {},
): Promise<RecorderProcess> {
  const socket = join(home, 's');
  const walDir = join(home, 'wal');
  const places = ['--socket', socket, '--wal-dir', walDir, '--embedded-path', join(home, 'clickhouse')];
  const command = [...(options.command ?? recorderCommand), 'serve', ...places, '--json'];
  const child = Bun.spawn([...command, ...(options.flags ?? [])], {
    // Any free ports: the tests may run beside a server.
    env: cleanEnvironment({
      HFT_WAL_SEGMENT_BYTES: '8MiB',
      HFT_CLICKHOUSE_PORT: '0',
      HFT_RECORDER_HTTP: '127.0.0.1:0',
      ...options.env,
    }),
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const log: string[] = [];
  const reading = readLines(child.stderr, (line) => log.push(logText(line)));
  const output = new Response(child.stdout).text();
  const alive = () => child.exitCode === null && child.signalCode === null;
  const shown = () => `${command.join(' ')}:\n${log.join('\n')}`;
  const logged = (pattern: RegExp) => until(() => log.find((line) => pattern.test(line)), shown);
  const end: RecorderProcess['end'] = async (signal) => {
    if (alive()) child.kill(signal);
    await child.exited;
    await reading;
    return { code: child.exitCode, signal: child.signalCode, output: await output };
  };
  try {
    await until(() => log.includes('info: ready') || !alive(), shown, 60_000);
    if (!alive()) {
      await reading;
      throw new Error(`ended with code ${child.exitCode}: ${shown()}`);
    }
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
  const found = (pattern: RegExp) => log.flatMap((line) => pattern.exec(line)?.[1] ?? []);
  return {
    pid: child.pid,
    home,
    socket,
    walDir,
    clickhouseUrl: found(/embedded ClickHouse \S+ on (\S+),/)[0] ?? '',
    udpPorts: found(/receiving \S+ on \S+:(\d+),/).map(Number),
    log: () => log.join('\n'),
    logged,
    alive,
    end,
  };
}

async function readLines(stream: ReadableStream<Uint8Array>, take: (line: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop()!;
    for (const line of lines) take(line);
  }
  if (rest !== '') take(rest);
}

/** Runs SQL at a server over HTTP; the rows as lists of texts, NULL as null. Works on every version. */
export async function sql(url: string, text: string): Promise<(string | null)[][]> {
  const response = await fetch(url, {
    method: 'POST',
    body: `${text} FORMAT TabSeparatedRaw`,
    keepalive: false,
  });
  const body = await response.text();
  if (!response.ok) throw new Error(`${body}\n${text}`);
  return body
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split('\t').map((cell) => (cell === '\\N' ? null : cell)));
}

/** The same where one value is expected. */
export async function sqlValue(url: string, text: string): Promise<string | null> {
  return (await sql(url, text))[0]?.[0] ?? null;
}

/** Runs a statement without a result. */
export async function sqlCommand(url: string, text: string): Promise<void> {
  const response = await fetch(url, { method: 'POST', body: text, keepalive: false });
  const body = await response.text();
  if (!response.ok) throw new Error(`${body}\n${text}`);
}

/** One topic in `reconcile --json`. */
export interface ReconcileCounts {
  received: number;
  logged: number;
  inserted: number;
  gaps: number;
  lost: number;
  duplicated: number;
  pending: number;
  deadLettered: number;
}

export interface ReconcileJson extends ReconcileCounts {
  malformed: number;
  resent: number;
  matches: boolean;
  topics: Record<string, ReconcileCounts>;
}

/** Runs `reconcile --json` on the recorder's WAL. */
export function reconcile(walDir: string, ...flags: string[]): Promise<CommandResult<ReconcileJson>> {
  return run<ReconcileJson>(['reconcile', '--wal-dir', walDir, '--json', '--wait', '60', ...flags]);
}

/**
 * As `reconcile`, once more where the recorder has written of itself meanwhile; with the number of such rows
 * at that moment. Flags of the database: as the command takes them.
 */
export async function reconcileWithOwn(
  walDir: string,
  url: string,
  database = 'hft',
  ...flags: string[]
): Promise<CommandResult<ReconcileJson> & { own: number }> {
  for (let before = await ownRows(url, database); ; ) {
    const counted = await reconcile(walDir, ...flags);
    const own = await ownRows(url, database);
    if (own === before) return { ...counted, own };
    before = own;
  }
}

/** Rows that recorders have written of themselves, changes of their health: on top of what was sent. */
export async function ownRows(url: string, database = 'hft'): Promise<number> {
  const exists = await sqlValue(url, `EXISTS TABLE ${database}.logs`);
  if (exists !== '1') return 0;
  return Number(await sqlValue(url, `SELECT count() FROM ${database}.logs WHERE source = 'recorder'`));
}
