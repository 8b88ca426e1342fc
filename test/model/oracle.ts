// What must hold of the rows at the server, whatever happened: the reference that histories are held against.

import type { FileSystem } from '../../src/io/file-system.ts';
import { DEAD_LETTER_DIRECTORY, listDeadLetters } from '../../src/sink/dead-letter.ts';
import { readFlushLog } from '../../src/sink/flush-log.ts';
import { segmentsAmong } from '../../src/wal/format.ts';
import { type Cell, rowsOfBody } from './insert-rows.ts';
import { FEED_SOURCE, type ModelFeed } from './model-feed.ts';
import type { ModelProducer, SentFrame } from './model-producer.ts';
import type { StoredRow } from './model-server.ts';
import { DIR } from './process.ts';
import { modelTopics } from './topics.ts';

export class Oracle {
  /** Rows may be lost, and sent again under another number: not under the policy `group`. */
  mayForget = false;
  /** Gaps may be reported that refused frames left: the disk has failed, and did not keep their numbers. */
  mayForgetRefused = false;
  readonly #producers: readonly ModelProducer[];
  readonly #feed: ModelFeed | null;
  /** Numbers of the feed that a row says never came. */
  readonly #reported = new Set<number>();
  /** By source, session and seq. */
  readonly #stored = new Set<string>();
  /** By WAL. */
  readonly #lsns = new Map<bigint, Set<bigint>>();
  /** By table and stream: the last sequence number and LSN. */
  readonly #last = new Map<string, { seq: bigint; lsn: bigint }>();
  /** LSNs by topic. */
  readonly #delivered = new Map<string, bigint[]>();
  readonly #dead: { topic: string; firstLsn: bigint; lastLsn: bigint }[] = [];

  constructor(producers: readonly ModelProducer[], feed: ModelFeed | null) {
    this.#producers = producers;
    this.#feed = feed;
  }

  /**
   * A group was given up. An attempt at it that no answer came to may still get through, then or later: its
   * rows are in the table and in the dead letter, under the token that guards the letter's replay.
   */
  died(topic: string, firstLsn: bigint, lastLsn: bigint): void {
    this.#dead.push({ topic, firstLsn, lastLsn });
  }

  /** Takes a row that the server has just stored. */
  stored({ topic, cells }: StoredRow): void {
    const key = this.#check(topic, cells);
    const [lsn, seq] = [cells['wal_lsn'] as bigint, cells['seq'] as bigint];
    const wal = this.#lsns.get(cells['wal_id'] as bigint) ?? new Set();
    this.#lsns.set(cells['wal_id'] as bigint, wal);
    if (wal.has(lsn)) throw new Error(`LSN ${lsn} is there twice: ${key}`);
    wal.add(lsn);
    const delivered = this.#delivered.get(topic) ?? [];
    this.#delivered.set(topic, delivered);
    delivered.push(lsn);
    if (this.#stored.has(key) && !this.mayForget) throw new Error(`${key} is there twice`);
    this.#stored.add(key);
    if (this.#dead.some((dead) => dead.topic === topic && dead.firstLsn <= lsn && lsn <= dead.lastLsn))
      return;
    const place = `${topic} ${cells['source']} ${cells['session']}`;
    const last = this.#last.get(place);
    if (last !== undefined && last.lsn >= lsn) throw new Error(`${place}: LSN ${lsn} after ${last.lsn}`);
    // Datagrams come in any order.
    if (last !== undefined && last.seq >= seq && !this.mayForget && cells['source'] !== FEED_SOURCE) {
      throw new Error(`${place}: seq ${seq} after ${last.seq}`);
    }
    this.#last.set(place, { seq, lsn });
  }

  /**
   * After a power loss: what the disk has of the flush log says of every row that was delivered, and whose
   * segment has gone, that it was. A flusher would else look for rows that nobody has any more.
   */
  checkpoint(fileSystem: FileSystem): void {
    if (this.mayForget || !fileSystem.exists(DIR)) return;
    const oldest = segmentsAmong(fileSystem.list(DIR))[0]?.baseLsn;
    if (oldest === undefined) return;
    const progress = readFlushLog(fileSystem, DIR)?.progress;
    for (const [topic, lsns] of this.#delivered) {
      const nextLsn = progress?.get(topic)?.nextLsn ?? 0n;
      const gone = lsns.find((lsn) => nextLsn <= lsn && lsn < oldest);
      if (gone === undefined) continue;
      throw new Error(`${topic}: the segment of LSN ${gone} has gone before the flush log was durable`);
    }
  }

  /** Every frame that was acknowledged is at the server, or in a dead letter. */
  finish(fileSystem: FileSystem): void {
    const dead = new Set<string>();
    for (const letter of listDeadLetters(fileSystem, DIR)) {
      const body = fileSystem.readFile(`${DIR}/${DEAD_LETTER_DIRECTORY}/${letter.bodyFile}`);
      const model = modelTopics.find(({ topic }) => topic === letter.topic)!;
      const rows = rowsOfBody(model, body, letter.format);
      if (rows.length !== letter.rowCount) throw new Error(`a dead letter has ${rows.length} rows`);
      for (const cells of rows) dead.add(this.#check(letter.topic, cells));
    }
    if (this.mayForget) return;
    for (const { source, session, frames, ackedSeq } of this.#producers) {
      for (const [index, { model }] of frames.slice(0, ackedSeq).entries()) {
        const key = keyOf(source, session, BigInt(index + 1));
        if (model !== null && !this.#stored.has(key) && !dead.has(key)) throw new Error(`${key} is lost`);
      }
    }
    this.#finishFeed(dead);
  }

  /** Every datagram's frame is there, or a row says that it never came. */
  #finishFeed(dead: ReadonlySet<string>): void {
    if (this.#feed === null) return;
    const { source, session, frames } = this.#feed;
    for (const [index, { model }] of frames.entries()) {
      const key = keyOf(source, session, BigInt(index + 1));
      const isThere = this.#stored.has(key) || dead.has(key) || this.#reported.has(index + 1);
      if (model !== null && !isThere) throw new Error(`${key} is missing, and no gap says so`);
    }
  }

  /** The row is what was sent. */
  #check(topic: string, cells: Record<string, Cell>): string {
    const { source, session, seq } = cells as { source: string; session: string; seq: bigint };
    const key = keyOf(source, session, seq);
    if (topic === 'gaps') return this.#checkGap(key, cells);
    const sent: SentFrame | undefined = this.#framesOf(source)[Number(seq) - 1];
    if (sent === undefined) throw new Error(`${key} in ${topic} was never sent`);
    if (sent.model?.topic !== topic || sent.id !== cells['id'] || sent.text !== cells['text']) {
      throw new Error(`${key} in ${topic} is not what was sent`);
    }
    return key;
  }

  #framesOf(source: string): readonly SentFrame[] {
    if (source === FEED_SOURCE) return this.#feed?.frames ?? [];
    return this.#producers.find((producer) => producer.source === source)?.frames ?? [];
  }

  /** Producers leave nothing out: a gap is what the recorder has lost, or refused and could not keep. */
  #checkGap(key: string, cells: Record<string, Cell>): string {
    const { source, first_seq, last_seq } = cells as { source: string; first_seq: bigint; last_seq: bigint };
    const numbers = `${first_seq} to ${last_seq}`;
    if (source === FEED_SOURCE) {
      const { state } = cells as { state: bigint };
      for (let seq = first_seq; seq <= last_seq; seq++) {
        if (state === 1n) this.#reported.add(Number(seq));
      }
      return `gap ${numbers} ${state} of ${key}`;
    }
    const missing = this.#framesOf(source).slice(Number(first_seq) - 1, Number(last_seq));
    const isRefused = missing.every(({ model }) => model === null);
    if (this.mayForget || (isRefused && this.mayForgetRefused)) return `gap at ${key}`;
    throw new Error(`${key}: a gap from ${first_seq} to ${last_seq}, and nothing is missing`);
  }
}

const keyOf = (source: string, session: string, seq: bigint) => `${source}/${session} ${seq}`;
