// `recorder tap`: rows as they become durable, read from the WAL.

import type { Command } from 'commander';
import { parseRowFilter, type RowFilter } from '../columns/row-filter.ts';
import { RecorderError } from '../errors.ts';
import { errorCode, type FileSystem } from '../io/file-system.ts';
import { realFileSystem } from '../io/real-file-system.ts';
import { provenanceColumns } from '../schema/model.ts';
import { topics } from '../schema/registry.ts';
import { recorderState } from '../supervisor/status-file.ts';
import type { CursorDamage } from '../wal/cursor.ts';
import { type Horizon, openHorizon } from '../wal/horizon.ts';
import { addSettingFlags, reportFailure } from './options.ts';
import { printable } from './printable.ts';
import { lastRows, TapCursor, type TapRequest, type TapRow } from './tap-source.ts';
import { directoryOf } from './wal-command.ts';
import { readableEnd } from './wal-dump.ts';

interface TapFlags {
  topic?: string[];
  symbol?: string[];
  where?: string[];
  once?: boolean;
  last?: string;
  limit?: string;
  json?: boolean;
}

/** Pause when nothing new is durable: seen within the blink of an eye, and no load while nothing happens. */
const POLL_MS = 50;
const DEFAULT_LAST = 10;
const MAX_LAST = 1_000_000;

function count(flag: string, text: string | undefined, fallback: number, most: number): number {
  if (text === undefined) return fallback;
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value <= most) return value;
  throw new RecorderError('bad_option', `${flag} ${text}: a whole number up to ${most} is expected`);
}

function checkTopics(names: readonly string[]): void {
  const known = topics.map(({ topic }) => topic);
  const unknown = names.find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw new RecorderError('unknown_topic', `there is no topic ${unknown}`, {
    hint: `topics: ${known.join(', ')}`,
  });
}

/** A misspelt column would match nothing for ever: it is an error where no chosen topic has it. */
function checkColumns(filter: RowFilter, names: readonly string[]): void {
  const chosen = topics.filter(({ topic }) => names.length === 0 || names.includes(topic));
  const known = new Set<string>([
    ...provenanceColumns,
    ...chosen.flatMap(({ columns }) => columns.map(({ name }) => name)),
  ]);
  const unknown = filter.columns.find((column) => !known.has(column));
  if (unknown === undefined) return;
  throw new RecorderError('unknown_column', `no topic has a column ${unknown}`, {
    hint: `columns: ${[...known].sort().join(', ')}`,
  });
}

function filtersOf({ topic = [], symbol = [], where = [] }: TapFlags): RowFilter[] {
  const filters = where.map((text) => parseRowFilter(text));
  if (symbol.length > 0) {
    const wanted = new Set(symbol);
    filters.push({ columns: ['symbol'], matches: (row) => wanted.has(row['symbol'] as string) });
  }
  for (const filter of filters) checkColumns(filter, topic);
  return filters;
}

const quoted = (text: string) => (/^[^\s="]+$/.test(text) ? text : JSON.stringify(text));

/** One line a person reads: when, topic, number, then the columns that say something. */
function textOf({ topic, ...row }: TapRow): string {
  const { recorder: _r, source, session, seq, ingest_ts: at, wal_id: _w, wal_lsn: lsn, ...own } = row;
  const cells = Object.entries(own)
    .filter(([, value]) => value !== null && value !== '' && !(Array.isArray(value) && value.length === 0))
    .map(
      ([name, value]) =>
        `${name}=${typeof value === 'object' ? JSON.stringify(value) : quoted(String(value))}`,
    );
  return printable(`${String(at)} ${topic} #${lsn} ${source}/${session}:${seq} ${cells.join(' ')}`);
}

/** Writes with back-pressure; false when nobody reads any more (`| head`), which is no error. */
async function print(rows: readonly TapRow[], json: boolean): Promise<boolean> {
  if (rows.length === 0) return true;
  const text = rows.map((row) => `${json ? JSON.stringify(row) : textOf(row)}\n`).join('');
  try {
    await new Promise<void>((resolve, reject) => {
      process.stdout.write(text, (error) => (error ? reject(error) : resolve()));
    });
    return true;
  } catch (error) {
    if (errorCode(error) === 'EPIPE') return false;
    throw new RecorderError('output_failed', 'standard output cannot be written', { cause: error });
  }
}

function say(text: string): void {
  process.stderr.write(`recorder: ${text}\n`);
}

/** The horizon of a WAL, which may be made yet, or anew. */
function followHorizon(fileSystem: FileSystem, dir: string): () => bigint {
  let horizon: Horizon | null = null;
  return () => {
    horizon ??= openHorizon(fileSystem, dir);
    return horizon?.durableLsn() ?? 0n;
  };
}

/** Shows rows until `limit` is reached, somebody interrupts, or nobody reads. */
async function follow(request: TapRequest, fromLsn: bigint, limit: number, json: boolean): Promise<void> {
  let isAsked = false;
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => (isAsked = true));
  const cursor = new TapCursor(request, fromLsn, followHorizon(request.fileSystem, request.dir));
  let left = limit;
  try {
    while (!isAsked && left > 0) {
      const rows = cursor.next();
      if (rows === null) {
        await Bun.sleep(POLL_MS);
        continue;
      }
      const shown = rows.slice(0, left);
      left -= shown.length;
      if (!(await print(shown, json))) return;
    }
  } finally {
    cursor.close();
  }
}

async function tap(dir: string, flags: TapFlags): Promise<void> {
  const fileSystem = realFileSystem;
  checkTopics(flags.topic ?? []);
  const filters = filtersOf(flags);
  const once = flags.once === true;
  const last = count('--last', flags.last, once ? DEFAULT_LAST : 0, MAX_LAST);
  const limit = count('--limit', flags.limit, Number.POSITIVE_INFINITY, Number.MAX_SAFE_INTEGER);
  const onDamage = ({ firstLsn, lastLsn, reason, segment }: CursorDamage) =>
    say(`rows ${firstLsn} to ${lastLsn} cannot be read: ${reason} in ${segment}`);
  const request: TapRequest = { fileSystem, dir, topics: new Set(flags.topic), filters, onDamage };
  // The callback of each write has the error too.
  process.stdout.on('error', () => undefined);
  const endLsn = readableEnd(fileSystem, dir);
  const rows = last === 0 ? [] : lastRows(request, endLsn, Math.min(last, limit));
  if (!(await print(rows, flags.json === true)) || once) return;
  if (recorderState(fileSystem, dir) !== 'running') say(`no recorder is running on ${dir}; waiting for one`);
  await follow(request, endLsn, limit - rows.length, flags.json === true);
}

/** Adds `recorder tap`. */
export function registerTap(program: Command): void {
  const command = program
    .command('tap')
    .description('show rows as they become durable; reads the WAL and asks the recorder nothing')
    .argument('[dir]', 'WAL directory instead of the configured one')
    .option('--topic <names...>', 'only these topics')
    .option('--symbol <names...>', 'only these symbols')
    .option(
      '--where <condition>',
      'only rows that meet it, as in "price > 10 and (side = buy or qty < 5)"; repeatable',
      (text: string, all: string[] = []) => [...all, text],
    )
    .option('--once', 'show the last rows that are there, then end')
    .option('--last <n>', `begin with the last n matching rows (default 0; ${DEFAULT_LAST} with --once)`)
    .option('--limit <n>', 'end after n rows')
    .option('--json', 'one JSON object a line');
  addSettingFlags(command, ['walDir']);
  command.action(async (argument: string | undefined, flags: TapFlags) => {
    try {
      await tap(directoryOf(command, argument, realFileSystem), flags);
      // A pipe that nobody reads must not keep the process.
      process.exit();
    } catch (error) {
      reportFailure(error, flags.json === true);
    }
  });
}
