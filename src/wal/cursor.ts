// A cursor follows the WAL from an LSN up to the durable horizon, over segments, while the WAL grows: the
// flusher, the dump and the taps read through it.
//
// Invariants: it never returns a row at or past the horizon; it returns blocks in LSN order; what it leaves
// out it has reported to `onDamage` before it returns a later block. It writes nothing and takes no lock.

import type { FileHandle, FileSystem } from '../io/file-system.ts';
import { endLsn, type RecordHeader, segmentsAmong } from './format.ts';
import { readTrimmedLsn } from './retention.ts';
import {
  findRecord,
  headerOf,
  openForReading,
  ReadBuffer,
  type RecordFault,
  readPayload,
  readRecordHeader,
  recordSizeBytes,
  type SegmentFile,
} from './segment-file.ts';
import { type LsnGap, type SegmentMeta, topicOf, type WalTopic } from './segment-meta.ts';

const NO_PAYLOAD = new Uint8Array(0);

/** Rows `firstLsn` to `lastLsn` cannot be read. `topic` is null when it is not known. */
export interface CursorDamage {
  segment: string;
  offset: number;
  firstLsn: bigint;
  lastLsn: bigint;
  reason: RecordFault | 'missing_segment' | 'bad_segment_header' | 'missing_rows' | 'unknown_topic';
  topic: string | null;
}

export interface CursorOptions {
  fileSystem: FileSystem;
  dir: string;
  /** LSN of the first row that must not be read; asked at each step (see horizon.ts). */
  durableLsn: () => bigint;
  /** First LSN wanted. When it lies within a block, the whole block is returned. */
  fromLsn: bigint;
  /** Only blocks of this topic; null: of all. */
  topic: string | null;
  /** Give each block a buffer of its own instead of one that the next call overwrites. */
  ownPayloads?: boolean;
  /**
   * Whether a block's payload is read; absent: all are. Blocks without it are given as their headers say,
   * and whether the payload is intact is not known.
   */
  needsPayload?: (header: RecordHeader) => boolean;
  /** Where payloads are read to without `ownPayloads`: cursors that take turns can share it. */
  buffer?: ReadBuffer;
  onDamage?: (damage: CursorDamage) => void;
}

export interface WalBlock {
  header: RecordHeader;
  /**
   * 8-byte aligned. Valid until the next read into the same buffer, for ever with `ownPayloads`. Empty where
   * it was not needed.
   */
  payload: Uint8Array;
  topic: WalTopic;
  walId: bigint;
  meta: SegmentMeta;
  segment: string;
  offset: number;
}

interface Place {
  segment: SegmentFile;
  offset: number;
  fileSizeBytes: number;
  /** Rows from here on are void in this segment, as the next one says; null when it says nothing. */
  limitLsn: bigint | null;
}

export class WalCursor {
  readonly #options: CursorOptions;
  #buffer: ReadBuffer;
  readonly #headerBuffer = new ReadBuffer();
  #place: Place | null = null;
  #lsn: bigint;

  constructor(options: CursorOptions) {
    this.#options = options;
    this.#buffer = options.buffer ?? new ReadBuffer();
    this.#lsn = options.fromLsn;
  }

  /** LSN from which the next call of `next` goes on. */
  get lsn(): bigint {
    return this.#lsn;
  }

  /**
   * The next durable block of the topic, or null when there is none yet: call again after the horizon has
   * moved. Damaged blocks are reported and skipped. Throws the errors of the file system.
   */
  next(): WalBlock | null {
    const horizon = this.#options.durableLsn();
    while (this.#lsn < horizon) {
      const place = this.#place ?? this.#enterSegment(horizon);
      if (place === 'none') return null;
      if (place === 'skipped') continue;
      const block = this.#step(place, horizon);
      if (block !== null) return block;
    }
    return null;
  }

  close(): void {
    this.#place?.segment.file.close();
    this.#place = null;
  }

  #step(place: Place, horizon: bigint): WalBlock | null {
    const { file, header: segmentHeader, meta } = place.segment;
    // Rows from the limit on are void: what lies there, intact or torn, is nobody's.
    if (place.limitLsn !== null && this.#lsn >= place.limitLsn) return this.#leaveSegment(horizon);
    const header = readRecordHeader(
      file,
      place.offset,
      place.fileSizeBytes,
      segmentHeader.walId,
      this.#headerBuffer,
    );
    if (header === 'end_of_file' || header === 'zero') return this.#endOfRecords(place, horizon);
    if (typeof header === 'string') return this.#skipDamage(place, header, horizon);
    if (place.limitLsn !== null && header.lsn >= place.limitLsn) return this.#leaveSegment(horizon);
    if (header.lsn >= horizon) {
      this.#lost(place, 'missing_rows', horizon - 1n, null);
      return null;
    }
    const { offset } = place;
    place.offset += recordSizeBytes(header);
    if (endLsn(header) <= this.#lsn) return null;
    if (header.lsn > this.#lsn) this.#lost(place, 'missing_rows', header.lsn - 1n, null);
    this.#lsn = endLsn(header);
    const topic = topicOf(meta, header);
    if (topic === undefined) {
      this.#report(place, offset, 'unknown_topic', header.lsn, endLsn(header) - 1n, null);
      return null;
    }
    if (this.#options.topic !== null && this.#options.topic !== topic.topic) return null;
    const payload = this.#payload(file, offset, header);
    if (payload === null) {
      this.#report(place, offset, 'bad_payload_checksum', header.lsn, endLsn(header) - 1n, topic.topic);
      return null;
    }
    return { header, payload, topic, walId: segmentHeader.walId, meta, segment: place.segment.name, offset };
  }

  #payload(file: FileHandle, offset: number, header: RecordHeader): Uint8Array | null {
    const { needsPayload, ownPayloads } = this.#options;
    if (needsPayload?.(header) === false) return NO_PAYLOAD;
    if (ownPayloads === true) this.#buffer = new ReadBuffer(header.payloadSizeBytes);
    return readPayload(file, offset, header, this.#buffer);
  }

  /** Zeros or the end of the file below the horizon: the segment is finished, or it has lost its end. */
  #endOfRecords(place: Place, horizon: bigint): null {
    const grown = place.segment.file.sizeBytes();
    if (grown > place.fileSizeBytes) {
      place.fileSizeBytes = grown;
      return null;
    }
    const found = findRecord(place.segment.file, place.offset, place.segment.header.walId, this.#lsn);
    if (found !== null && found.offset > place.offset) return this.#skipDamage(place, 'zero', horizon);
    return this.#leaveSegment(horizon);
  }

  #skipDamage(place: Place, fault: RecordFault, horizon: bigint): null {
    const found = findRecord(place.segment.file, place.offset + 8, place.segment.header.walId, this.#lsn);
    if (found === null) return this.#leaveSegment(horizon, fault);
    const lastLsn = found.header.lsn < horizon ? found.header.lsn - 1n : horizon - 1n;
    this.#lost(place, fault, lastLsn, null);
    place.offset = found.offset;
    return null;
  }

  /** `horizon` is the one that this step began with: rows past it may be in flight and are not missing. */
  #leaveSegment(horizon: bigint, fault: RecordFault = 'end_of_file'): null {
    const { segment } = this.#place!;
    const next = this.#segments().find((entry) => entry.baseLsn > segment.baseLsn);
    const missingTo = next === undefined || next.baseLsn > horizon ? horizon : next.baseLsn;
    if (next === undefined || missingTo > this.#lsn) {
      const gap = next === undefined ? null : this.#gapBefore(next.baseLsn);
      if (gap === null || gap.firstLsn > this.#lsn) {
        const lastLsn = (gap === null ? missingTo : gap.firstLsn) - 1n;
        const reason = next === undefined || fault !== 'end_of_file' ? fault : 'missing_rows';
        this.#lost(this.#place!, reason, lastLsn, null);
      }
      this.#lsn = missingTo;
    }
    this.close();
    return null;
  }

  #segments(): { name: string; baseLsn: bigint }[] {
    return segmentsAmong(this.#options.fileSystem.list(this.#options.dir));
  }

  /**
   * Opens the segment that holds the cursor's LSN, or the next one after it; 'none' when there is none,
   * 'skipped' when it cannot be read.
   */
  #enterSegment(horizon: bigint): Place | 'none' | 'skipped' {
    const all = this.#segments();
    const index = Math.max(
      all.findLastIndex((entry) => entry.baseLsn <= this.#lsn),
      0,
    );
    const entry = all[index];
    if (entry === undefined || entry.baseLsn >= horizon) return 'none';
    const nextBase = all[index + 1]?.baseLsn ?? null;
    if (entry.baseLsn > this.#lsn) {
      const rowsEnd = this.#gapBefore(entry.baseLsn)?.firstLsn ?? entry.baseLsn;
      if (rowsEnd > this.#lsn) {
        this.#reportRange(entry.name, 0, 'missing_segment', this.#lsn, rowsEnd - 1n, null);
      }
      this.#lsn = entry.baseLsn;
    }
    const limitLsn = nextBase === null ? null : (this.#gapBefore(nextBase)?.firstLsn ?? nextBase);
    const opened = openForReading(this.#options.fileSystem, this.#options.dir, entry, all);
    if (opened === null) {
      this.#skipSegment(entry.name, nextBase, limitLsn, horizon);
      return 'skipped';
    }
    this.#place = { ...opened, fileSizeBytes: opened.segment.file.sizeBytes(), limitLsn };
    return this.#place;
  }

  #skipSegment(name: string, nextBase: bigint | null, limitLsn: bigint | null, horizon: bigint): void {
    const endLsn = nextBase === null || nextBase > horizon ? horizon : nextBase;
    const rowsEnd = limitLsn === null || limitLsn > endLsn ? endLsn : limitLsn;
    if (rowsEnd > this.#lsn) {
      this.#reportRange(name, 0, 'bad_segment_header', this.#lsn, rowsEnd - 1n, null);
    }
    this.#lsn = endLsn;
  }

  #gapBefore(baseLsn: bigint): LsnGap | null {
    return headerOf(this.#options.fileSystem, this.#options.dir, baseLsn)?.meta.gapBefore ?? null;
  }

  #lost(place: Place, reason: CursorDamage['reason'], lastLsn: bigint, topic: string | null): void {
    if (lastLsn >= this.#lsn) this.#report(place, place.offset, reason, this.#lsn, lastLsn, topic);
    if (lastLsn + 1n > this.#lsn) this.#lsn = lastLsn + 1n;
  }

  #report(
    place: Place,
    offset: number,
    reason: CursorDamage['reason'],
    firstLsn: bigint,
    lastLsn: bigint,
    topic: string | null,
  ): void {
    this.#reportRange(place.segment.name, offset, reason, firstLsn, lastLsn, topic);
  }

  #reportRange(
    segment: string,
    offset: number,
    reason: CursorDamage['reason'],
    firstLsn: bigint,
    lastLsn: bigint,
    topic: string | null,
  ): void {
    // What was trimmed is not missing, also when it went while this cursor stood in it.
    const trimmedLsn = readTrimmedLsn(this.#options.fileSystem, this.#options.dir);
    if (lastLsn < trimmedLsn) return;
    const from = firstLsn < trimmedLsn ? trimmedLsn : firstLsn;
    this.#options.onDamage?.({ segment, offset, reason, firstLsn: from, lastLsn, topic });
  }
}

/** Makes a cursor; nothing is opened before the first `next`. */
export function createCursor(options: CursorOptions): WalCursor {
  return new WalCursor(options);
}
