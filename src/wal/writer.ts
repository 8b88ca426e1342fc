// The write-ahead log's owner: appends blocks, syncs, rotates. Knows no topic's layout: a payload is bytes.
//
// Invariants
// - LSNs rise by the row count of each block; a block never spans segments.
// - `durableLsn` moves only after the sync that covers it has ended, and only to the end of a group (`endsGroup`).
// - `append` never blocks on the disk: it writes into the page cache, into blocks that are allocated already.
// - A failed sync is never repeated: what it should have covered is void, and a new segment starts (WalSyncError).
//
// Life cycle: `openWal` locks, recovers and opens a new segment → `append`, `sync`, `trim` → `close`. A segment is
// born from a file of zeros (segment-allocator.ts): its header goes into the page cache, the file gets its name, and
// the next sync makes header, name and rows durable together. Full, it is cut to its used length.

import os from 'node:os';
import { assert } from '../errors.ts';
import type { FileHandle, FileSystem } from '../io/file-system.ts';
import { WalClosedError, WalFullError, WalSyncError, WalWriteError } from './errors.ts';
import {
  type BlockFields,
  checksum,
  encodeRecordHeader,
  encodeSegmentHeader,
  RECORD_HEADER_SIZE_BYTES,
  segmentName,
} from './format.ts';
import type { WritableHorizon } from './horizon.ts';
import type { WalLock } from './lock.ts';
import type { RecoveredState, RecoveryReport } from './recovery.ts';
import { trimSegments } from './retention.ts';
import type { SegmentAllocator } from './segment-allocator.ts';
import { encodeSegmentMeta, type LsnGap, type StreamPosition, type WalTopic } from './segment-meta.ts';

export type SyncPolicy = 'group' | 'interval' | 'none';

/** A block to append. */
export interface BlockInput extends BlockFields {
  /** Last block of those that are durable together; default true. */
  endsGroup?: boolean;
  /** Writes exactly `payloadSizeBytes` bytes; `target` is 8-byte aligned and holds old bytes. */
  encode(target: Uint8Array): void;
}

export interface WalSettings {
  dir: string;
  recorder: string;
  topics: readonly WalTopic[];
  fileSystem: FileSystem;
  segmentSizeBytes: number;
  syncPolicy: SyncPolicy;
  syncIntervalMs: number;
  /** Positions of the sessions that may resume, over all blocks appended so far; asked when a segment begins. */
  streamsSnapshot: () => StreamPosition[];
  /** `writable` or the allocator's error has changed. */
  onStateChange: () => void;
  /** Called at once when a sync fails, before the promise of `sync` rejects. */
  onSyncFailure: (error: WalSyncError) => void;
}

interface OpenSegment {
  name: string;
  baseLsn: bigint;
  file: FileHandle;
  sizeBytes: number;
  usedSizeBytes: number;
  endLsn: bigint;
  /** What its header says about the log before it: taken back when the segment goes without having held a row. */
  before: { prevChecksum: bigint; previousBaseLsn: bigint | null; gapBefore: LsnGap | null };
  sealed: boolean;
  /** The end of a sealed segment has been synced. */
  synced: boolean;
}

/** A border between two groups: what the log goes back to when what follows is void. */
interface Border {
  lsn: bigint;
  segment: OpenSegment | null;
  offset: number;
  prevChecksum: bigint;
  rowsByTopic: bigint[];
}

export class Wal {
  readonly walId: bigint;
  readonly recovery: RecoveryReport;
  readonly #settings: WalSettings;
  readonly #lock: WalLock;
  readonly #horizon: WritableHorizon;
  readonly #allocator: SegmentAllocator;
  /** The given topics, then those of earlier runs, whose row counts are carried on. */
  readonly #topics: WalTopic[];

  #staging = new Uint8Array(1024 * 1024);
  /** Segments that hold rows which are not durable, and the current one; by LSN. */
  #segments: OpenSegment[] = [];
  #current: OpenSegment | null = null;
  #nextLsn: bigint;
  #syncedLsn: bigint;
  #prevChecksum: bigint;
  #previousBaseLsn: bigint | null;
  #gapBefore: LsnGap | null;
  #rowsByTopic: bigint[];
  #groupEnd: Border;
  #durable: Border;
  #directoryDirty = true;
  #running: Promise<void> | null = null;
  #queued: Promise<void> | null = null;
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
    this.#lock = lock;
    this.#horizon = horizon;
    this.#allocator = allocator;
    this.walId = state.walId;
    this.recovery = state.report;
    const carried = state.topics.filter((old) => !settings.topics.some((entry) => entry.topic === old.topic));
    this.#topics = [...settings.topics, ...carried];
    this.#rowsByTopic = this.#topics.map(
      ({ topic }) => state.topics.find((old) => old.topic === topic)?.rowsBefore ?? 0n,
    );
    this.#nextLsn = state.nextLsn;
    this.#syncedLsn = state.nextLsn;
    this.#prevChecksum = state.prevChecksum;
    this.#previousBaseLsn = state.previousBaseLsn;
    this.#gapBefore = state.gapBefore;
    this.#groupEnd = this.#border();
    this.#durable = this.#groupEnd;
    this.#openSegment(0);
    // The segment's own header belongs to the state that recovery made durable: nothing precedes it that is not.
    this.#groupEnd = this.#border();
    this.#durable = this.#groupEnd;
    if (settings.syncPolicy === 'interval') this.#startTimer();
  }

  /** LSN of the next row. */
  get nextLsn(): bigint {
    return this.#nextLsn;
  }

  /** LSN of the first row that is not acknowledged as durable under the sync policy. */
  get durableLsn(): bigint {
    return this.#durable.lsn;
  }

  /** Whether a block as large as the largest so far finds room; false: `append` throws, try again later. */
  get writable(): boolean {
    if (this.#closed !== null) return false;
    if (this.#allocator.isReady || this.#allocator.lastError === null) return true;
    const current = this.#current;
    return current !== null && current.sizeBytes - current.usedSizeBytes >= this.#staging.length;
  }

  /** Why the last attempt to make a segment failed; null when it did not. */
  get allocationError(): unknown {
    return this.#allocator.lastError;
  }

  /** Rows appended by topic since the WAL was made, those of earlier runs included. */
  rowsByTopic(): Map<string, bigint> {
    return new Map(this.#topics.map(({ topic }, index) => [topic, this.#rowsByTopic[index]!]));
  }

  /**
   * Appends a block and returns the LSN of its first row. The rows are durable once a `sync` called after this has
   * resolved. Throws WalFullError (nothing was appended, try again later), WalWriteError (nothing was appended, the
   * next append goes to a new segment) or WalClosedError.
   */
  append(block: BlockInput): bigint {
    if (this.#closed !== null) throw this.#closed;
    assert(block.payloadSizeBytes % 8 === 0 && block.rowCount > 0, 'block is empty or not padded');
    const topic = this.#topics[block.topicIndex];
    assert(topic !== undefined, `topic ${block.topicIndex} was not given at open`);
    const sizeBytes = RECORD_HEADER_SIZE_BYTES + block.payloadSizeBytes;
    const segment = this.#segmentWithRoom(sizeBytes);
    const record = this.#stage(sizeBytes);
    const payload = record.subarray(RECORD_HEADER_SIZE_BYTES);
    block.encode(payload);
    const lsn = this.#nextLsn;
    const endsGroup = block.endsGroup ?? true;
    const headerChecksum = encodeRecordHeader(record, {
      ...block,
      lsn,
      schemaFingerprint: topic.fingerprint,
      endsGroup,
      walId: this.walId,
      prevChecksum: this.#prevChecksum,
      payloadChecksum: checksum(payload),
      syncedLsn: this.#syncedLsn,
    });
    try {
      segment.file.write(record, segment.usedSizeBytes);
    } catch (cause) {
      this.#seal();
      if (segment.endLsn === segment.baseLsn) this.#takeBackEmpty(segment);
      throw new WalWriteError(`write to ${segment.name} failed`, cause);
    }
    segment.usedSizeBytes += sizeBytes;
    this.#nextLsn += BigInt(block.rowCount);
    segment.endLsn = this.#nextLsn;
    this.#prevChecksum = headerChecksum;
    this.#rowsByTopic[block.topicIndex]! += BigInt(block.rowCount);
    if (endsGroup) this.#groupEnd = this.#border();
    return lsn;
  }

  /**
   * Makes the groups that are complete at the time of the call durable, as the sync policy means it, and resolves with
   * the new horizon. One sync runs at a time; calls during one share the next. Rejects with WalSyncError.
   */
  async sync(): Promise<{ durableLsn: bigint }> {
    if (this.#closed !== null) throw this.#closed;
    if (this.#settings.syncPolicy === 'group') await this.#syncFiles();
    else {
      this.#publish(this.#groupEnd);
      this.#forgetDurableSegments();
    }
    return { durableLsn: this.#durable.lsn };
  }

  /** Syncs the files whatever the policy says: at start, and before something outside relies on the rows. */
  syncNow(): Promise<void> {
    return this.#syncFiles();
  }

  /**
   * Removes segments all of whose rows lie below `beforeLsn`; never the current one, never rows that are not durable.
   * The caller has made sure that nobody needs them. Returns the names of the removed files.
   */
  trim(beforeLsn: bigint): Promise<string[]> {
    const limit = beforeLsn < this.#durable.lsn ? beforeLsn : this.#durable.lsn;
    return trimSegments(this.#settings.fileSystem, this.#settings.dir, limit);
  }

  /** Syncs what was appended, cuts the segment to its used length, releases the lock. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed !== null) return;
    if (this.#timer !== null) clearInterval(this.#timer);
    try {
      await this.#allocator.close();
      if (this.#current !== null) this.#seal();
      await this.#syncFiles();
    } finally {
      this.#closed ??= new WalClosedError('the WAL is closed');
      for (const segment of this.#segments) segment.file.close();
      this.#segments = [];
      this.#lock.release();
    }
  }

  #border(): Border {
    const segment = this.#current;
    return {
      lsn: this.#nextLsn,
      segment,
      offset: segment?.usedSizeBytes ?? 0,
      prevChecksum: this.#prevChecksum,
      rowsByTopic: [...this.#rowsByTopic],
    };
  }

  #stage(sizeBytes: number): Uint8Array {
    if (this.#staging.length < sizeBytes)
      this.#staging = new Uint8Array(Math.ceil((sizeBytes * 1.25) / 8) * 8);
    return this.#staging.subarray(0, sizeBytes);
  }

  #segmentWithRoom(sizeBytes: number): OpenSegment {
    const current = this.#current;
    if (current !== null && current.usedSizeBytes + sizeBytes <= current.sizeBytes) return current;
    return this.#openSegment(sizeBytes);
  }

  /** Opens the next segment, with room for a record of `recordSizeBytes`; the current one is sealed only then. */
  #openSegment(recordSizeBytes: number): OpenSegment {
    const { fileSystem, dir } = this.#settings;
    const baseLsn = this.#nextLsn;
    const current = this.#current;
    if (current !== null && current.endLsn === current.baseLsn) {
      this.#current = null;
      this.#takeBackEmpty(current);
    }
    const header = this.#segmentHeader(baseLsn);
    const name = segmentName(baseLsn);
    let file: FileHandle;
    try {
      file = this.#allocator.take(header.length + recordSizeBytes);
    } catch (cause) {
      throw new WalFullError(`the next segment ${name} cannot be made`, cause);
    }
    try {
      file.write(header, 0);
      fileSystem.rename(file.path, `${dir}/${name}`);
    } catch (cause) {
      file.close();
      if (fileSystem.exists(file.path)) fileSystem.unlink(file.path);
      throw new WalWriteError(`segment ${name} cannot be begun`, cause);
    }
    this.#directoryDirty = true;
    if (this.#current !== null) this.#seal();
    const segment: OpenSegment = {
      name,
      baseLsn,
      file,
      sizeBytes: file.sizeBytes(),
      usedSizeBytes: header.length,
      endLsn: baseLsn,
      before: {
        prevChecksum: this.#prevChecksum,
        previousBaseLsn: this.#previousBaseLsn,
        gapBefore: this.#gapBefore,
      },
      sealed: false,
      synced: false,
    };
    this.#segments.push(segment);
    this.#current = segment;
    this.#previousBaseLsn = baseLsn;
    this.#gapBefore = null;
    this.#prevChecksum = new DataView(header.buffer).getBigUint64(56, true);
    this.#allocator.prepare();
    return segment;
  }

  #segmentHeader(baseLsn: bigint): Uint8Array {
    const metadata = encodeSegmentMeta({
      recorder: this.#settings.recorder,
      createdAt: new Date().toISOString(),
      host: os.hostname(),
      topics: this.#topics.map((entry, index) => ({ ...entry, rowsBefore: this.#rowsByTopic[index]! })),
      streams: this.#settings.streamsSnapshot(),
      previousBaseLsn: this.#previousBaseLsn,
      groupEndLsn: this.#groupEnd.lsn,
      gapBefore: this.#gapBefore,
    });
    return encodeSegmentHeader({ walId: this.walId, baseLsn, prevChecksum: this.#prevChecksum }, metadata);
  }

  /** Cuts the current segment to its used length; its rows stay to be synced. */
  #seal(): void {
    const segment = this.#current;
    if (segment === null) return;
    this.#current = null;
    segment.sealed = true;
    // Nothing is synced under this policy: the file is not kept open for it.
    segment.synced = this.#settings.syncPolicy === 'none';
    try {
      segment.file.truncate(segment.usedSizeBytes);
    } catch {
      // The zeros stay: readers take them for the end all the same, and the sync tells whether the file is in order.
    }
  }

  #syncFiles(): Promise<void> {
    if (this.#queued !== null) return this.#queued;
    if (this.#running === null) return this.#start();
    this.#queued = this.#running.then(() => {
      this.#queued = null;
      return this.#start();
    });
    return this.#queued;
  }

  #start(): Promise<void> {
    this.#running = this.#syncOnce().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async #syncOnce(): Promise<void> {
    const target = this.#groupEnd;
    const sealedBefore = this.#segments.filter((segment) => segment.sealed);
    let failing = '';
    try {
      for (const segment of [...this.#segments]) {
        if (segment.synced) continue;
        failing = segment.name;
        await segment.file.sync();
      }
      if (this.#directoryDirty) {
        failing = this.#settings.dir;
        this.#directoryDirty = false;
        await this.#settings.fileSystem.syncDirectory(this.#settings.dir);
      }
    } catch (cause) {
      throw this.#syncFailed(failing, cause);
    }
    for (const segment of sealedBefore) segment.synced = true;
    if (target.lsn > this.#syncedLsn) this.#syncedLsn = target.lsn;
    this.#publish(target);
    this.#forgetDurableSegments();
  }

  #publish(border: Border): void {
    if (border.lsn < this.#durable.lsn) return;
    this.#durable = border;
    this.#horizon.publish(border.lsn);
  }

  #forgetDurableSegments(): void {
    const done = (segment: OpenSegment) => segment.synced && segment.endLsn <= this.#durable.lsn;
    for (const segment of this.#segments.filter(done)) segment.file.close();
    this.#segments = this.#segments.filter((segment) => !done(segment));
  }

  /**
   * Nothing past the last good sync may ever count: the rows are cut off, so that no reader takes them for durable when
   * the horizon moves past them, and the log goes back to the border before them.
   */
  #syncFailed(failing: string, cause: unknown): WalSyncError {
    const border = this.#durable;
    const error = new WalSyncError(failing, border.lsn, this.#nextLsn - 1n, cause);
    this.#current = null;
    try {
      for (const segment of this.#segments) this.#cutVoid(segment, border);
    } catch (failure) {
      this.#closed = new WalClosedError('rows of a failed sync cannot be cut off', failure);
    }
    this.#segments = [];
    if (this.#nextLsn > border.lsn) {
      this.#gapBefore = { firstLsn: border.lsn, lastLsn: this.#nextLsn - 1n, reason: 'sync_failed' };
    }
    this.#prevChecksum = border.prevChecksum;
    this.#previousBaseLsn = border.segment?.baseLsn ?? null;
    if (border.segment !== null && border.segment.baseLsn === border.lsn) this.#takeBackEmpty(border.segment);
    this.#rowsByTopic = [...border.rowsByTopic];
    this.#groupEnd = this.#border();
    this.#settings.onSyncFailure(error);
    this.#settings.onStateChange();
    return error;
  }

  #cutVoid(segment: OpenSegment, border: Border): void {
    if (segment.baseLsn >= border.lsn)
      this.#settings.fileSystem.unlink(`${this.#settings.dir}/${segment.name}`);
    else if (segment === border.segment) segment.file.truncate(border.offset);
    segment.file.close();
  }

  /** Forgets a segment without rows: the next one has the same base LSN or covers its LSNs by a gap. */
  #takeBackEmpty(segment: OpenSegment): void {
    const { prevChecksum, previousBaseLsn, gapBefore } = segment.before;
    this.#prevChecksum = prevChecksum;
    this.#previousBaseLsn = previousBaseLsn;
    const lastLsn = this.#gapBefore?.lastLsn ?? gapBefore?.lastLsn;
    const first = gapBefore ?? this.#gapBefore;
    this.#gapBefore = first === null || lastLsn === undefined ? null : { ...first, lastLsn };
    if (!this.#segments.includes(segment)) return;
    segment.file.close();
    this.#segments = this.#segments.filter((other) => other !== segment);
    this.#settings.fileSystem.unlink(`${this.#settings.dir}/${segment.name}`);
  }

  #startTimer(): void {
    this.#timer = setInterval(() => {
      // The failure has been told by onSyncFailure; nobody waits for this promise.
      this.#syncFiles().catch(() => {});
    }, this.#settings.syncIntervalMs);
    this.#timer.unref();
  }
}
