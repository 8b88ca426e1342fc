// What ClickHouse holds against what was sent, row by row: an oracle that shares no code with the recorder's
// encoders. The expected bytes of a row are made here from the row that the producer had, in ClickHouse's
// RowBinary; the server's own RowBinary of the same columns must be the same bytes.

import type { FeedEvent } from '../../src/feed/event.ts';
import type { Row } from '../../src/schema/build-frame.ts';
import type { ColumnModel, TopicModel } from '../../src/schema/model.ts';
import { topicByName, topics } from '../../src/schema/registry.ts';

/** What one producer session sends. */
export interface ExpectedSession {
  source: string;
  session: string;
  /** Events in the order of their sequence numbers, from 1. */
  events: Iterable<FeedEvent[]>;
  rows: number;
  /** Frames that the recorder has acknowledged. */
  acked: number;
}

export interface StoredReport {
  /** Rows in the tables that came from these sessions. */
  clickhouse: number;
  /** Acknowledged rows that no table has. */
  lost: number;
  /** Rows beyond one for each (source, session, seq). */
  duplicated: number;
  /** Rows whose content or table is not what was sent. */
  changed: number;
  /** Rows of sessions or sequence numbers that nobody sent; the recorder's own rows are not among them. */
  foreign: number;
  topics: Record<string, number>;
  /** The first few findings, in words. */
  examples: string[];
}

interface Session extends ExpectedSession {
  hashes: BigUint64Array;
  seen: Uint8Array;
}

const SEQ_RANGE = 250_000;
/** Leaves out the rows that the recorder makes itself, of its health for example. */
const OTHERS = "source != 'recorder'";
const EXAMPLES = 10;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Bytes of one row in RowBinary, written into a buffer that is used again. */
class RowBytes {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;

  /** Hash of a row of `model`; rows of other topics with the same bytes have another. */
  hash(model: TopicModel, row: Row): bigint {
    this.#at = 0;
    for (const column of model.columns) this.#cell(column, row[column.name]);
    return hashOf(model, this.#bytes.subarray(0, this.#at));
  }

  #cell(column: ColumnModel, value: unknown): void {
    const absent = value === undefined || value === null;
    if (column.nullable) this.#scalar('uint8', 1, absent ? 1 : 0);
    if (absent && column.nullable) return;
    if (column.kind === 'fixed') this.#scalar(column.scalar, column.widthBytes, value ?? column.defaultBits);
    else if (column.kind === 'string') {
      const text = value instanceof Uint8Array ? value : encoder.encode(absent ? '' : String(value));
      this.#length(text.length);
      this.#room(text.length);
      this.#bytes.set(text, this.#at);
      this.#at += text.length;
    } else {
      const items = (value ?? []) as ArrayLike<unknown>;
      this.#length(items.length);
      for (let i = 0; i < items.length; i++) this.#scalar(column.scalar, column.widthBytes, items[i]);
    }
  }

  #scalar(scalar: string, widthBytes: number, value: unknown): void {
    this.#room(8);
    const isFloat = scalar.startsWith('float') && typeof value !== 'bigint';
    if (isFloat && widthBytes === 8) this.#view.setFloat64(this.#at, Number(value), true);
    else if (isFloat) this.#view.setFloat32(this.#at, Number(value), true);
    else this.#view.setBigInt64(this.#at, BigInt.asIntN(64, BigInt(value as number)), true);
    this.#at += widthBytes;
  }

  #length(length: number): void {
    this.#room(10);
    for (; length > 127; length = Math.floor(length / 128)) this.#bytes[this.#at++] = (length % 128) | 0x80;
    this.#bytes[this.#at++] = length;
  }

  #room(sizeBytes: number): void {
    if (this.#at + sizeBytes <= this.#bytes.length) return;
    const grown = new Uint8Array((this.#at + sizeBytes) * 2);
    grown.set(this.#bytes);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

function hashOf(model: TopicModel, bytes: Uint8Array): bigint {
  return Bun.hash.xxHash3(bytes, BigInt(topics.indexOf(model) + 1));
}

/** Walks over RowBinary of (source, session, seq, columns of the topic). */
class RowBinaryReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get ended(): boolean {
    return this.at >= this.#bytes.length;
  }

  text(): string {
    const length = this.#length();
    this.at += length;
    return decoder.decode(this.#bytes.subarray(this.at - length, this.at));
  }

  u64(): number {
    this.at += 8;
    return Number(this.#view.getBigUint64(this.at - 8, true));
  }

  /** Bytes of the topic's columns. */
  row(model: TopicModel): Uint8Array {
    const start = this.at;
    for (const column of model.columns) {
      if (column.nullable && this.#bytes[this.at++] === 1) continue;
      const length = column.kind === 'fixed' ? 1 : this.#length();
      this.at += length * column.widthBytes;
    }
    return this.#bytes.subarray(start, this.at);
  }

  #length(): number {
    let [length, factor] = [0, 1];
    for (;;) {
      const byte = this.#bytes[this.at++]!;
      length += (byte & 0x7f) * factor;
      if (byte < 128) return length;
      factor *= 128;
    }
  }
}

function expect(session: ExpectedSession): Session {
  const hashes = new BigUint64Array(session.rows + 1);
  const bytes = new RowBytes();
  let seq = 0;
  for (const batch of session.events) {
    for (const { topic, row } of batch) {
      if (seq < session.rows) hashes[++seq] = bytes.hash(topicByName(topic)!, row);
    }
  }
  if (seq !== session.rows) throw new Error(`${session.source}: ${seq} events, not ${session.rows}`);
  return { ...session, hashes, seen: new Uint8Array(session.rows + 1) };
}

/** Compares the tables of `database` with what the sessions sent. Throws Error with the server's words. */
export async function compareStored(
  url: string,
  database: string,
  expected: readonly ExpectedSession[],
): Promise<StoredReport> {
  const report: StoredReport = {
    clickhouse: 0,
    lost: 0,
    duplicated: 0,
    changed: 0,
    foreign: 0,
    topics: {},
    examples: [],
  };
  const say = (text: string) => {
    if (report.examples.length < EXAMPLES) report.examples.push(text);
  };
  const sessions = new Map(expected.map((one) => [`${one.source}/${one.session}`, expect(one)]));
  const lastSeq = Math.max(...expected.map(({ rows }) => rows));
  for (const model of topics) {
    if (model.topic === 'gaps') continue;
    for (let first = 0; first <= lastSeq; first += SEQ_RANGE) {
      // Whatever lies beyond the last number is foreign: the last range is open.
      const below = first + SEQ_RANGE > lastSeq ? '' : ` AND seq < ${first + SEQ_RANGE}`;
      const where = `seq >= ${first}${below}`;
      compareRows(model, await fetchRows(url, database, model, where), sessions, report, say);
    }
  }
  for (const [name, { acked, seen }] of sessions) {
    const missing = missingRanges(seen, acked);
    report.lost += missing.reduce((sum, { first, last }) => sum + last - first + 1, 0);
    for (const { first, last } of missing) say(`${name}: ${first} to ${last} are acknowledged and not there`);
  }
  return report;
}

async function fetchRows(url: string, database: string, model: TopicModel, where: string) {
  const columns = ['source', 'session', 'seq', ...model.columns.map(({ name }) => name)];
  const list = columns.map((name) => `\`${name}\``).join(', ');
  const body = `SELECT ${list} FROM ${database}.${model.table} WHERE ${where} AND ${OTHERS} FORMAT RowBinary`;
  const response = await fetch(url, { method: 'POST', body, keepalive: false });
  if (!response.ok) throw new Error(`${await response.text()}\n${body}`);
  return new Uint8Array(await response.arrayBuffer());
}

function compareRows(
  model: TopicModel,
  bytes: Uint8Array,
  sessions: ReadonlyMap<string, Session>,
  report: StoredReport,
  say: (text: string) => void,
): void {
  const reader = new RowBinaryReader(bytes);
  while (!reader.ended) {
    const name = `${reader.text()}/${reader.text()}`;
    const seq = reader.u64();
    const row = reader.row(model);
    const session = sessions.get(name);
    if (session === undefined || seq < 1 || seq > session.rows) {
      report.foreign++;
      say(`${model.topic}: ${name} ${seq} was never sent`);
      continue;
    }
    report.clickhouse++;
    report.topics[model.topic] = (report.topics[model.topic] ?? 0) + 1;
    if (session.seen[seq] === 1) {
      report.duplicated++;
      say(`${model.topic}: ${name} ${seq} is there twice`);
    } else if (hashOf(model, row) !== session.hashes[seq]) {
      report.changed++;
      say(`${model.topic}: ${name} ${seq} is not what was sent`);
    }
    session.seen[seq] = 1;
  }
  if (reader.at !== bytes.length) throw new Error(`${model.topic}: the answer ends within a row`);
}

function missingRanges(seen: Uint8Array, acked: number): { first: number; last: number }[] {
  const ranges: { first: number; last: number }[] = [];
  for (let seq = 1; seq <= acked; seq++) {
    if (seen[seq] === 1) continue;
    const last = ranges.at(-1);
    if (last !== undefined && last.last === seq - 1) last.last = seq;
    else ranges.push({ first: seq, last: seq });
  }
  return ranges;
}
