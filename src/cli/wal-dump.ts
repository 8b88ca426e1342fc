// Rows of a WAL as text: JSON lines (one object a row, topic first) or CSV (one topic, with a header line).

import { stringify } from 'csv-stringify/sync';
import { openBlock } from '../columns/block-codec.ts';
import { rowAt } from '../columns/block-rows.ts';
import { RecorderError } from '../errors.ts';
import { errorCode, type FileSystem } from '../io/file-system.ts';
import { provenanceColumns, readTopicModel, type TopicModel } from '../schema/model.ts';
import { type CursorDamage, createCursor, type WalBlock } from '../wal/cursor.ts';
import { openHorizon } from '../wal/horizon.ts';
import { ownerState, readLock } from '../wal/lock.ts';
import { readableEndLsn } from '../wal/segment-list.ts';

/** Flags of `wal dump` as typed. */
export interface DumpOptions {
  topic?: string;
  fromLsn?: string;
  toLsn?: string;
  limit?: string;
  format: string;
}

export interface DumpRequest {
  topic: string | null;
  fromLsn: bigint;
  toLsn: bigint | null;
  limit: number;
  format: 'jsonl' | 'csv';
}

export interface DumpSummary {
  rows: number;
  firstLsn: bigint | null;
  lastLsn: bigint | null;
  /** Ranges within the request that could not be read. */
  damagedRanges: number;
}

function wholeNumber(flag: string, text: string): bigint {
  if (/^\d{1,20}$/.test(text)) return BigInt(text);
  throw new RecorderError('bad_option', `${flag} ${text}: a whole number is expected`);
}

/** Checks the flags; throws RecorderError that says what was expected. */
export function parseDumpOptions(options: DumpOptions): DumpRequest {
  const { format } = options;
  if (format !== 'jsonl' && format !== 'csv') {
    throw new RecorderError('bad_option', `--format ${format}: jsonl or csv is expected`);
  }
  if (format === 'csv' && options.topic === undefined) {
    throw new RecorderError('bad_option', 'CSV has one list of columns', { hint: 'add --topic' });
  }
  return {
    topic: options.topic ?? null,
    fromLsn: options.fromLsn === undefined ? 0n : wholeNumber('--from-lsn', options.fromLsn),
    toLsn: options.toLsn === undefined ? null : wholeNumber('--to-lsn', options.toLsn),
    limit:
      options.limit === undefined ? Number.POSITIVE_INFINITY : Number(wholeNumber('--limit', options.limit)),
    format,
  };
}

/**
 * Where reading ends: at the horizon of a WAL in use; without an owner, what is readable and the horizon are
 * both taken.
 */
export function readableEnd(fileSystem: FileSystem, dir: string): bigint {
  const durable = openHorizon(fileSystem, dir)?.durableLsn() ?? null;
  const owner = readLock(fileSystem, dir);
  if (durable !== null && owner !== null && ownerState(owner) !== 'dead') return durable;
  const readable = readableEndLsn(fileSystem, dir);
  return durable !== null && durable > readable ? durable : readable;
}

/**
 * Writes to standard output with its back-pressure; false when nobody reads any more (`| head`), which is no
 * error.
 */
async function write(text: string): Promise<boolean> {
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

const csvCell = (value: unknown) => (Array.isArray(value) ? JSON.stringify(value) : value);

class DumpWriter {
  readonly #format: 'jsonl' | 'csv';
  readonly #models = new Map<bigint, TopicModel>();
  #headerDone = false;

  constructor(format: 'jsonl' | 'csv') {
    this.#format = format;
  }

  /** Text of rows `start` to `end` of a block. */
  text(block: WalBlock, start: number, end: number): string {
    const model = this.#modelOf(block);
    const view = openBlock(model, block.payload, block.header.rowCount);
    const origin = { lsn: block.header.lsn, recorder: block.meta.recorder, walId: block.walId };
    const rows: Record<string, unknown>[] = [];
    for (let index = start; index < end; index++) rows.push(rowAt(view, index, origin));
    if (this.#format === 'csv') return this.#csv(model, rows);
    return rows.map((row) => `${JSON.stringify({ topic: model.topic, ...row })}\n`).join('');
  }

  #csv(model: TopicModel, rows: Record<string, unknown>[]): string {
    const columns = [...model.columns.map(({ name }) => name), ...provenanceColumns];
    const cells = rows.map((row) => columns.map((column) => csvCell(row[column])));
    if (!this.#headerDone) cells.unshift(columns);
    this.#headerDone = true;
    // NULL is an empty cell, the empty string is "".
    const string = (value: string) => ({ value, quoted_empty: true });
    return stringify(cells, { cast: { boolean: String, string } });
  }

  /** Blocks are read by the schema in their segment, not by the program's. */
  #modelOf({ topic }: WalBlock): TopicModel {
    const known = this.#models.get(topic.fingerprint);
    if (known !== undefined) return known;
    const model = readTopicModel(topic.bfbs);
    this.#models.set(topic.fingerprint, model);
    return model;
  }
}

/** Prints the requested rows to standard output; damage goes to standard error. */
export async function dumpWal(
  fileSystem: FileSystem,
  dir: string,
  request: DumpRequest,
): Promise<DumpSummary> {
  const summary: DumpSummary = { rows: 0, firstLsn: null, lastLsn: null, damagedRanges: 0 };
  const endLsn = readableEnd(fileSystem, dir);
  const stopLsn = request.toLsn !== null && request.toLsn + 1n < endLsn ? request.toLsn + 1n : endLsn;
  const onDamage = (damage: CursorDamage) => {
    summary.damagedRanges++;
    const { firstLsn, lastLsn, reason, segment } = damage;
    process.stderr.write(
      `recorder: rows ${firstLsn} to ${lastLsn} cannot be read: ${reason} in ${segment}\n`,
    );
  };
  const { fromLsn, topic } = request;
  const cursor = createCursor({ fileSystem, dir, durableLsn: () => endLsn, fromLsn, topic, onDamage });
  // The callback of each write has the error too.
  process.stdout.on('error', () => undefined);
  const writer = new DumpWriter(request.format);
  try {
    while (summary.rows < request.limit && cursor.lsn < stopLsn) {
      const block = cursor.next();
      if (block === null || block.header.lsn >= stopLsn) break;
      if (!(await dumpBlock(block, request, stopLsn, writer, summary))) break;
    }
  } finally {
    cursor.close();
  }
  return summary;
}

async function dumpBlock(
  block: WalBlock,
  request: DumpRequest,
  stopLsn: bigint,
  writer: DumpWriter,
  summary: DumpSummary,
): Promise<boolean> {
  const { lsn, rowCount } = block.header;
  const start = request.fromLsn > lsn ? Number(request.fromLsn - lsn) : 0;
  const inRange = Math.min(rowCount, Number(stopLsn - lsn));
  const end = Math.min(inRange, start + request.limit - summary.rows);
  if (end <= start) return true;
  summary.rows += end - start;
  summary.firstLsn ??= lsn + BigInt(start);
  summary.lastLsn = lsn + BigInt(end - 1);
  return write(writer.text(block, start, end));
}
