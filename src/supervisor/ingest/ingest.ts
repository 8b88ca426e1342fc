// Ingest: frames from the listeners become rows in batches, batches become blocks in the WAL.
//
// Invariants:
//   - a frame ends in exactly one place: a batch, the quarantine (malformed), or the shed counter;
//   - a batch that the WAL cannot take waits in memory, in order, and no later position counts as sealed
// before it;
//   - seal() returns true only when every row accepted so far lies in the WAL (written, not yet synced).
//
// The hot path is frame(): no allocation, no throw. Everything here runs on the main thread.

import { readClock, type Timestamp } from '../../clock.ts';
import { type Batch, commitRow, createBatch, isFull } from '../../columns/batch.ts';
import { discardRow } from '../../columns/clean-cells.ts';
import { assert } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { FrameRun, FrameSink, GapEvent, MalformedEvent } from '../../net/frame-sink.ts';
import { Malformed, malformedName } from '../../schema/malformed.ts';
import { identifierWord } from '../../schema/model.ts';
import { WalFullError, WalWriteError } from '../../wal/errors.ts';
import type { BufferedRows } from '../guards/memory-guard.ts';
import { GAPS_TOPIC } from './gap-rows.ts';
import type { IngestOptions } from './ingest-options.ts';
import {
  allocatedBytes,
  blockOf,
  createTopic,
  emptyBatch,
  NOTHING_STOPPED,
  SHED_CAUSES,
  type ShedCause,
  type Stopped,
  type TopicIngest,
} from './topic-ingest.ts';

const TWO_32 = 0x1_0000_0000;
/** An identifier that no topic has: the frame is shorter than one with an identifier. */
const NO_IDENTIFIER = 0;

export class Ingest implements FrameSink {
  readonly topics: readonly TopicIngest[];
  /** Refused frames and broken framing, by reason. */
  readonly malformedByReason = new Map<string, number>();
  readonly #options: IngestOptions;
  readonly #byIdentifier = new Map<number, TopicIngest>();
  readonly #now: Timestamp = { low: 0, high: 0 };
  readonly #run: FrameRun = { count: 0, end: 0 };
  #origin = '';
  #lastIdentifier = NO_IDENTIFIER;
  #lastTopic: TopicIngest | undefined;
  readonly #buffered: BufferedRows = { rows: 0, bytes: 0, openBytes: 0 };
  #waitingBytes = 0;
  #waitingRows = 0;
  #touched = false;
  #stopped = NOTHING_STOPPED;
  /** The sender of this chunk is to be held back. */
  #isHeld = false;

  constructor(options: IngestOptions) {
    this.#options = options;
    this.topics = options.topics.map((model, index) =>
      createTopic(model, index, options.createExtract, options.batchRows),
    );
    for (const topic of this.topics) {
      // A gap is what the recorder itself has found: no producer can claim one.
      if (topic.model.topic === GAPS_TOPIC) continue;
      this.#byIdentifier.set(identifierWord(topic.model.identifier), topic);
    }
  }

  chunkStart(origin: string): void {
    this.#readClock();
    this.#origin = origin;
    this.#touched = false;
    this.#isHeld = false;
  }

  frame(
    streamId: number,
    seqLow: number,
    seqHigh: number,
    bytes: Uint8Array,
    view: DataView,
    start: number,
    end: number,
  ): void {
    this.#touched = true;
    const identifier = end - start >= 8 ? view.getUint32(start + 4, true) : NO_IDENTIFIER;
    if (identifier !== this.#lastIdentifier) {
      this.#lastIdentifier = identifier;
      this.#lastTopic = this.#byIdentifier.get(identifier);
    }
    const topic = this.#lastTopic;
    if (topic === undefined) {
      this.#refuse(Malformed.unknown_identifier, streamId, seqLow, seqHigh, bytes, start, end);
      return;
    }
    const batch = topic.batch;
    const code = topic.extract(view, bytes, start, end, batch);
    if (code !== Malformed.ok) {
      topic.malformed++;
      this.#refuse(code, streamId, seqLow, seqHigh, bytes, start, end);
      return;
    }
    topic.received++;
    if (topic.drops !== 'none' && this.#drops(topic, streamId)) {
      discardRow(batch);
      return;
    }
    commitRow(batch, streamId, seqLow, seqHigh, this.#now.low, this.#now.high);
    if (isFull(batch) || batch.sizeBytes >= limits.batchBytes) this.#sealTopic(topic);
  }

  run(
    streamId: number,
    seqLow: number,
    seqHigh: number,
    bytes: Uint8Array,
    view: DataView,
    start: number,
    end: number,
    maxFrameBytes: number,
  ): FrameRun {
    const run = this.#run;
    run.count = 0;
    run.end = start;
    // Behind the size prefix and the root's offset.
    const topic = this.#byIdentifier.get(view.getUint32(start + 8, true));
    if (topic === undefined || topic.runs === null || topic.drops !== 'none') return run;
    const { low: tsLow, high: tsHigh } = this.#now;
    const origin = { streamId, seqLow, seqHigh, tsLow, tsHigh };
    run.end = topic.runs.read(topic.batch, bytes, start, end, maxFrameBytes, origin);
    run.count = topic.runs.rows;
    if (run.count === 0) return run;
    this.#touched = true;
    topic.received += run.count;
    if (isFull(topic.batch) || topic.batch.sizeBytes >= limits.batchBytes) this.#sealTopic(topic);
    return run;
  }

  malformed(event: MalformedEvent): void {
    this.#touched = true;
    this.#count(event.reason);
    this.#options.quarantine(event);
  }

  gap(event: GapEvent): void {
    this.#options.gap(event);
  }

  chunkEnd(): boolean {
    if (this.#touched) this.#options.pending();
    return this.#isHeld;
  }

  /**
   * Records a frame of the program's own, for example a gap's row.
   * @throws where the frame is not one of the topic: a bug
   */
  record(topic: TopicIngest, frame: Uint8Array, streamId: number, seq: number): void {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    this.#readClock();
    const code = topic.extract(view, frame, 0, frame.length, topic.batch);
    assert(code === Malformed.ok, `own ${topic.model.topic} frame is ${malformedName(code)}`);
    topic.received++;
    topic.own++;
    commitRow(topic.batch, streamId, seq % TWO_32, Math.floor(seq / TWO_32), this.#now.low, this.#now.high);
    if (isFull(topic.batch)) this.#sealTopic(topic);
    this.#options.pending();
  }

  /** Rows dropped on purpose since the start, by topic and cause. */
  *shedRows(): Generator<{ topic: string; cause: ShedCause; rows: number }> {
    for (const { model, shedByCause } of this.topics) {
      for (const cause of SHED_CAUSES) yield { topic: model.topic, cause, rows: shedByCause[cause] };
    }
  }

  /** Rows that are not in the WAL, in open batches and in full ones that wait for room; reused. */
  buffered(): BufferedRows {
    const buffered = this.#buffered;
    buffered.openBytes = 0;
    buffered.rows = this.#waitingRows;
    for (const { batch } of this.topics) {
      buffered.openBytes += batch.sizeBytes;
      buffered.rows += batch.rowCount;
    }
    buffered.bytes = buffered.openBytes + this.#waitingBytes;
    return buffered;
  }

  /** Seals the topic whose open batch is the largest. */
  sealFullest(): void {
    let fullest = this.topics[0]!;
    for (const topic of this.topics) if (topic.batch.sizeBytes > fullest.batch.sizeBytes) fullest = topic;
    if (fullest.batch.rowCount > 0) this.#sealTopic(fullest);
  }

  /** Says what is dropped from now on: datagrams of `shed`, for memory, and what `stopped` says, for disk. */
  setDrops(shed: ReadonlySet<number>, stopped: Stopped): void {
    this.#stopped = stopped;
    for (const topic of this.topics) {
      const forDisk = stopped.topics.get(topic.index);
      topic.drops = forDisk ?? (shed.has(topic.index) ? 'datagrams' : 'none');
      topic.dropCause = forDisk === undefined ? 'memory' : 'disk';
    }
  }

  /** Moves every row into the WAL; false when the WAL has no room for now. */
  seal(): boolean {
    const withRows = this.topics.filter(({ batch, waiting }) => batch.rowCount > 0 || waiting.length > 0);
    let allSealed = true;
    for (const topic of withRows) {
      // The last block of the round ends the group, where all before it are there: no second write for it.
      const endsGroup: boolean = allSealed && topic === withRows.at(-1);
      allSealed = this.#sealTopic(topic, endsGroup) && allSealed;
    }
    return allSealed;
  }

  /** Appends what waits and the open batch, which may end the group; false when they wait for room. */
  #sealTopic(topic: TopicIngest, endsGroup = false): boolean {
    while (topic.waiting.length > 0) {
      const oldest = topic.waiting[0]!;
      if (!this.#append(topic, oldest, false)) break;
      topic.waiting.shift();
      this.#waitingBytes -= allocatedBytes(oldest);
      this.#waitingRows -= oldest.rowCount;
    }
    if (
      topic.waiting.length === 0 &&
      (topic.batch.rowCount === 0 || this.#append(topic, topic.batch, endsGroup))
    ) {
      emptyBatch(topic);
      return true;
    }
    // Only a full batch has to make room for the next row; others go on filling.
    if (isFull(topic.batch) || topic.batch.sizeBytes >= limits.batchBytes) {
      topic.waiting.push(topic.batch);
      this.#waitingBytes += allocatedBytes(topic.batch);
      this.#waitingRows += topic.batch.rowCount;
      topic.batch = createBatch(topic.model, topic.batchRows);
    }
    return false;
  }

  #append(topic: TopicIngest, batch: Batch, endsGroup: boolean): boolean {
    try {
      this.#options.append({ ...blockOf(topic, batch, this.#options.streamName), endsGroup });
    } catch (error) {
      if (error instanceof WalFullError || error instanceof WalWriteError) return false;
      throw error;
    }
    topic.logged += batch.rowCount;
    if (topic.isVital) for (const streamId of batch.streamIds) this.#options.noteVital(streamId);
    return true;
  }

  #readClock(): void {
    if (!readClock(this.#now)) return;
    for (const { batch } of this.topics) batch.inTimeOrder &&= batch.rowCount === 0;
  }

  /** Whether a row is dropped; counts it then. A stream that brings a stopped topic is held back instead. */
  #drops(topic: TopicIngest, streamId: number): boolean {
    const { isDatagram, isVital } = this.#options;
    if (topic.drops === 'datagrams' && !isDatagram(streamId)) {
      if (topic.dropCause === 'disk') this.#isHeld ||= this.#stopped.holdsVital || !isVital(streamId);
      return false;
    }
    topic.shed++;
    topic.shedByCause[topic.dropCause]++;
    return true;
  }

  #refuse(
    code: number,
    streamId: number,
    seqLow: number,
    seqHigh: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    const reason = malformedName(code);
    this.#count(reason);
    const seq = seqHigh * TWO_32 + (seqLow >>> 0);
    this.#options.quarantine({ streamId, seq, reason, bytes, start, end, origin: this.#origin });
  }

  #count(reason: string): void {
    this.malformedByReason.set(reason, (this.malformedByReason.get(reason) ?? 0) + 1);
  }
}
