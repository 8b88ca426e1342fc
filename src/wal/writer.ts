// The write-ahead log's owner: appends blocks, syncs, rotates. Knows no topic's layout: a payload is bytes.
//
// Invariants
// - LSNs rise by the row count of each block; a block never spans segments.
// - `durableLsn` moves only after the sync that covers it has ended, and only to the end of a group.
// - `append` does not wait for the disk: it writes into the page cache, into blocks allocated already, or has
//   another thread write (record-writer.ts). Rows count as durable only when they are written, whatever else.
// - A failed sync is never repeated: what it should cover is void; a new segment starts (WalSyncError).
//
// Life cycle: `openWal` (open.ts) → `append`, `sync`, `trim` → `close`. A segment begins as a file of zeros
// (segment-allocator.ts): header, then name; the next sync makes both and the rows durable. Full, it is cut.

import type { ActiveSegment, SegmentStart } from './active-segment.ts';
import { WalClosedError, WalSyncError, WalWriteError } from './errors.ts';
import { encodeRecordHeader, RECORD_HEADER_SIZE_BYTES, type RecordFields } from './format.ts';
import type { WritableHorizon } from './horizon.ts';
import type { WalLock } from './lock.ts';
import { RecordWriter } from './record-writer.ts';
import type { RecoveredState, RecoveryReport } from './recovery-report.ts';
import { readBack } from './rescue.ts';
import { trimSegments } from './retention.ts';
import type { SegmentAllocator } from './segment-allocator.ts';
import { type Border, SegmentStack, type SegmentSyncFailure } from './segment-stack.ts';
import { type BlockAppend, checkBlock, type WalSettings } from './settings.ts';
import { SharedRun } from './shared-run.ts';
import { TopicCounts } from './topic-counts.ts';

export type { BlockAppend } from './settings.ts';

export class Wal {
  readonly walId: bigint;
  readonly recovery: RecoveryReport;
  readonly #settings: WalSettings;
  readonly #lock: WalLock;
  readonly #horizon: WritableHorizon;
  readonly #allocator: SegmentAllocator;
  readonly #segments: SegmentStack;
  readonly #syncs = new SharedRun(() => this.#syncFiles());
  readonly #counts: TopicCounts;
  readonly #records: RecordWriter;
  #lastRecord: { segment: ActiveSegment; offset: number; fields: RecordFields } | null = null;
  #nextLsn: bigint;
  #syncedLsn: bigint;
  /** End of the last complete group, and whether blocks of the next one lie behind it. */
  #groupEnd: Border;
  #groupOpen = false;
  /** The last record's header may be torn by a failed write: nothing is appended before it is mended. */
  #endDue = false;
  /** Rows of a failed sync that have not been written again yet: nothing is appended before them. */
  #rescued: BlockAppend[] = [];
  #durable: Border;
  #lastFailure: WalSyncError | null = null;
  #timer: ReturnType<typeof setInterval> | null = null;
  #closed: WalClosedError | null = null;

  constructor(
    settings: WalSettings,
    state: RecoveredState,
    lock: WalLock,
    horizon: WritableHorizon,
    allocator: SegmentAllocator,
  ) {
    this.#settings = settings;
    this.#records = new RecordWriter(settings);
    this.#lock = lock;
    this.#horizon = horizon;
    this.#allocator = allocator;
    this.walId = state.walId;
    this.recovery = state.report;
    this.#counts = new TopicCounts(settings.topics, state.topics);
    this.#nextLsn = state.nextLsn;
    this.#syncedLsn = state.nextLsn;
    this.#segments = new SegmentStack(settings, allocator, state.chain);
    this.#segments.withRoom(0, () => this.#start());
    this.#groupEnd = this.#border();
    this.#durable = this.#groupEnd;
    if (settings.syncPolicy !== 'interval') return;
    const sync = () => this.#syncs.request().catch(() => undefined); // onSyncFailure has told of it.
    this.#timer = setInterval(sync, settings.syncIntervalMs).unref();
  }

  /** LSN of the next row. */
  get nextLsn(): bigint {
    return this.#nextLsn;
  }

  /** LSN of the first row that is not durable under the sync policy. */
  get durableLsn(): bigint {
    return this.#durable.lsn;
  }

  /** Whether a block as large as the largest so far finds room; false: `append` throws, try again later. */
  get writable(): boolean {
    if (this.#closed !== null) return false;
    if (this.#allocator.isReady || this.#allocator.lastError === null) return true;
    return this.#segments.roomSizeBytes >= this.#records.largestSizeBytes;
  }

  /** Why the last attempt to make a segment failed, or null. A warning while `writable` holds. */
  get allocationError(): unknown {
    return this.#allocator.lastError;
  }

  /** Where the last record lies; null before the first one and after a failed sync. */
  get lastPlace(): { baseLsn: bigint; offset: number } | null {
    const last = this.#lastRecord;
    return last && { baseLsn: last.segment.baseLsn, offset: last.offset };
  }

  /** Rows appended by topic since the WAL was made, those of earlier runs included. */
  rowsByTopic(): Map<string, bigint> {
    return this.#counts.byTopic();
  }

  /**
   * Appends a block and returns the LSN of its first row. The rows are durable once their group has ended and
   * a `sync` called after that has resolved. Throws WalFullError (nothing was appended, try again later),
   * WalWriteError (nothing was appended, the next append goes to a new segment) or WalClosedError.
   */
  append(block: BlockAppend): bigint {
    checkBlock(block, this.#settings.topics.length);
    this.#writeRescued();
    if (this.#endDue) this.#writeLastHeader(false);
    return this.#put(block);
  }

  #put(block: BlockAppend): bigint {
    const sizeBytes = RECORD_HEADER_SIZE_BYTES + block.payloadSizeBytes;
    const segment = this.#segments.withRoom(sizeBytes, () => this.#start());
    const lsn = this.#nextLsn;
    const staged = this.#records.stage(segment, block, {
      lsn,
      schemaFingerprint: this.#settings.topics[block.topicIndex]!.fingerprint,
      endsGroup: block.endsGroup ?? true,
      walId: this.walId,
      prevChecksum: this.#segments.prevChecksum,
      syncedLsn: this.#syncedLsn,
    });
    const { record, fields, headerChecksum } = staged;
    this.#write(segment, () => this.#records.write(segment, staged));
    this.#lastRecord = { segment, offset: segment.usedSizeBytes, fields };
    segment.usedSizeBytes += record.length;
    this.#nextLsn += BigInt(block.rowCount);
    segment.endLsn = this.#nextLsn;
    this.#segments.prevChecksum = headerChecksum;
    this.#counts.add(block.topicIndex, block.rowCount);
    this.#groupOpen = !fields.endsGroup;
    if (fields.endsGroup) this.#groupEnd = this.#border();
    return lsn;
  }

  /** Ends the group of blocks appended with `endsGroup: false`, if one is open. Throws as `append`. */
  endGroup(): void {
    // Rows of this group may be among them.
    this.#writeRescued();
    if (!this.#groupOpen) return;
    this.#writeLastHeader(true);
    this.#groupOpen = false;
    this.#groupEnd = this.#border();
  }

  #writeLastHeader(endsGroup: boolean): void {
    const { segment, offset, fields } = this.#lastRecord!;
    const header = new Uint8Array(RECORD_HEADER_SIZE_BYTES);
    const prevChecksum = encodeRecordHeader(header, { ...fields, endsGroup });
    // Nothing follows the record and nothing of it is durable: torn here, it is mended or a torn tail.
    this.#endDue = true;
    this.#write(segment, () => this.#records.rewriteHeader(segment, header, offset));
    this.#endDue = false;
    this.#segments.prevChecksum = prevChecksum;
  }

  /**
   * Makes the groups complete at the time of the call durable, as the sync policy means it; resolves with the
   * new horizon. One sync runs at a time; calls during one share the next. Rejects with WalSyncError.
   */
  async sync(): Promise<{ durableLsn: bigint }> {
    // A sync that failed since the caller ended its group has taken rows of it out of the file.
    this.#writeRescued();
    await (this.#settings.syncPolicy === 'group' ? this.#syncs.request() : this.#publishWritten());
    return { durableLsn: this.#durable.lsn };
  }

  /** Syncs the files whatever the policy says: at start, and before something outside relies on the rows. */
  syncNow(): Promise<void> {
    return this.#syncs.request();
  }

  /**
   * Removes segments all of whose rows are durable and below `beforeLsn`, never the current one: the caller
   * has made sure that nobody needs them. Returns the names of the removed files.
   */
  trim(beforeLsn: bigint): Promise<string[]> {
    const { fileSystem, dir, syncPolicy } = this.#settings;
    const isSynced = syncPolicy !== 'none' && !this.#segments.isTainted;
    return trimSegments(fileSystem, dir, beforeLsn, isSynced ? this.#syncedLsn : this.#durable.lsn, isSynced);
  }

  /** Syncs what was appended, ends the segment, releases the lock. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed !== null) return;
    if (this.#timer !== null) clearInterval(this.#timer);
    try {
      await this.#allocator.close();
      this.#writeRescued();
      this.#segments.seal();
      await this.#syncs.request();
    } finally {
      this.#closed ??= new WalClosedError('the WAL is closed');
      await this.#records.alone(this.#segments, () => this.#segments.close());
      this.#lock.release();
    }
  }

  #border(): Border {
    return { lsn: this.#nextLsn, place: this.#segments.place(), rows: this.#counts.rows() };
  }

  #start(): SegmentStart {
    return {
      recorder: this.#settings.recorder,
      walId: this.walId,
      baseLsn: this.#nextLsn,
      // The streams' positions are ahead of the log while rows are rescued: recovery must not begin there.
      groupEndLsn: this.#rescued.length > 0 ? -1n : this.#nextLsn + (this.#groupOpen ? 1n : 0n),
      syncedLsn: this.#syncedLsn,
      topics: this.#counts.counted(),
      streams: this.#settings.streamsSnapshot(this.#groupOpen),
    };
  }

  #write(segment: ActiveSegment, write: () => void): void {
    try {
      write();
    } catch (cause) {
      this.#closed ??= this.#segments.abandon(segment);
      throw this.#closed ?? new WalWriteError(`write to ${segment.name} failed`, cause);
    }
  }

  async #syncFiles(): Promise<void> {
    this.#writeRescued();
    const target = this.#groupEnd;
    try {
      await this.#segments.sync();
    } catch (error) {
      // The files are cut and closed next: no thread may write into them any more.
      throw await this.#records.alone(this.#segments, () => this.#syncFailed(error as SegmentSyncFailure));
    }
    if (target.lsn > this.#syncedLsn && !this.#segments.isTainted) this.#syncedLsn = target.lsn;
    this.#publish(target);
  }

  async #publishWritten(): Promise<void> {
    const target = this.#groupEnd;
    const before = this.#lastFailure;
    // A write that failed is dealt with like a sync that failed, by a sync.
    if (this.#segments.isWriting) await this.#segments.written().catch(() => this.#syncs.request());
    if (this.#lastFailure !== before) throw this.#lastFailure;
    this.#publish(target);
  }

  #publish(border: Border): void {
    if (border.lsn >= this.#durable.lsn) this.#durable = border;
    this.#horizon.publish(this.#durable.lsn, this.#syncedLsn);
    this.#segments.forgetBelow(this.#durable.lsn);
  }

  // The file is not trusted any more: all rows past the last good sync are cut off, so that no reader takes
  // them for durable when the horizon moves past them, and written again behind the gap that they leave.
  #syncFailed({ failing, cause }: SegmentSyncFailure): WalSyncError {
    const border = this.#durable;
    const error = new WalSyncError(failing, border.lsn, this.#nextLsn - 1n, cause);
    this.#lastFailure = error;
    this.#lastRecord = null;
    try {
      this.#rescued = [...readBack(this.#segments.open(), this.walId, border.lsn), ...this.#rescued];
      this.#segments.rollBack(border.place, border.lsn, this.#nextLsn, this.#syncedLsn);
    } catch (failure) {
      this.#closed = new WalClosedError('rows of a failed sync are lost', failure);
    }
    this.#counts.restore(border.rows);
    // The horizon stays until rows behind the gap are durable: with them the header that tells of it is.
    this.#durable = { ...border, place: this.#segments.place() };
    this.#groupEnd = this.#durable;
    this.#groupOpen = false;
    this.#endDue = false;
    this.#settings.onSyncFailure(error);
    this.#settings.onStateChange();
    return error;
  }

  #writeRescued(): void {
    if (this.#closed !== null) throw this.#closed;
    for (let block = this.#rescued[0]; block !== undefined; block = this.#rescued[0]) {
      this.#put(block);
      this.#rescued.shift();
    }
  }
}
