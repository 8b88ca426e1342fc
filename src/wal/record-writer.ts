// How a record gets from its encoder into a segment's file: at once, or by another thread.
//
// A large record is put together in a buffer of its own and written off the event loop, past the page cache
// where it is synced next anyway and nobody follows. The ingest thread spent a third of its time in writes; a
// write past the cache costs a tenth of that, on another thread, and leaves the cache to those who read
// (ARCHITECTURE.md). A small one is in the page cache sooner than another thread would have heard of it. But
// a write into a file waits in the kernel for those that are on their way past its cache: then small ones go
// the same way, and all of them end with a page, so that the next one begins with one.

import { AlignedBuffers } from '../io/aligned-buffers.ts';
import type { FileSystem } from '../io/file-system.ts';
import type { ActiveSegment } from './active-segment.ts';
import { checksum, encodeRecordHeader, RECORD_HEADER_SIZE_BYTES, type RecordFields } from './format.ts';
import type { BlockAppend, WalSettings } from './settings.ts';

/** Written behind a small record. */
const ZEROS = new Uint8Array(1024 * 1024);
/** A larger one is worth a change of metadata of its own; zeros behind each would double what is written. */
const SMALL_RECORD_BYTES = 128 * 1024;
/** While rows come faster than groups end, records of so much less are worth another thread. */
const AHEAD = 4;
/** So much may be on its way to the disk; what comes then is written at once, which holds the writer back. */
const MOST_BACKGROUND_BYTES = 16 * 1024 * 1024;

/** Where the segments are that may be written to. */
interface OpenSegments {
  open(): readonly ActiveSegment[];
}

/** What a record says of its place in the log. */
type RecordLink = Pick<
  RecordFields,
  'lsn' | 'schemaFingerprint' | 'endsGroup' | 'walId' | 'prevChecksum' | 'syncedLsn'
>;

/** A record that is put together, and which thread is to write it. */
export interface StagedRecord {
  record: Uint8Array;
  isBackground: boolean;
  fields: RecordFields;
  headerChecksum: bigint;
}

export class RecordWriter {
  readonly #fileSystem: FileSystem;
  readonly #isDirect: boolean;
  readonly #buffers = new AlignedBuffers(MOST_BACKGROUND_BYTES);
  #staging = new Uint8Array(0);
  #largestSizeBytes: number;
  #isHeld = false;
  /** Rows come faster than groups end: this group, or the one before, has a large record. */
  #isAhead = false;
  #isGroupLarge = false;

  constructor(settings: Pick<WalSettings, 'fileSystem' | 'syncPolicy' | 'segmentSizeBytes' | 'isFollowed'>) {
    this.#largestSizeBytes = Math.min(settings.segmentSizeBytes, 1024 * 1024);
    this.#fileSystem = settings.fileSystem;
    // Under the other policies rows count as durable as soon as the page cache has them; and who reads them
    // next pays more for a read from the disk than is saved here.
    this.#isDirect = settings.syncPolicy === 'group' && !settings.isFollowed;
  }

  /** Size of the largest record so far, or what is taken for it. */
  get largestSizeBytes(): number {
    return this.#largestSizeBytes;
  }

  /** Puts the next record of a segment together, which `write` is to write before there is another one. */
  stage(segment: ActiveSegment, block: BlockAppend, link: RecordLink): StagedRecord {
    const endOfPayload = RECORD_HEADER_SIZE_BYTES + block.payloadSizeBytes;
    this.#largestSizeBytes = Math.max(this.#largestSizeBytes, endOfPayload);
    const isBackground =
      (this.#isLarge(endOfPayload, link.endsGroup) || segment.writes.isRunning) &&
      this.#buffers.hasRoom(endOfPayload) &&
      !this.#isHeld;
    const paddingSizeBytes = isBackground && this.#isDirect ? this.#padding(segment, endOfPayload) : 0;
    const sizeBytes = endOfPayload + paddingSizeBytes;
    const record = isBackground
      ? this.#buffers.take(sizeBytes, segment.usedSizeBytes)
      : this.#stagingOf(sizeBytes);
    const payload = record.subarray(RECORD_HEADER_SIZE_BYTES, endOfPayload);
    try {
      block.encode(payload);
    } catch (error) {
      if (isBackground) this.#buffers.give(record);
      throw error;
    }
    record.fill(0, endOfPayload);
    const fields = { ...block, ...link, paddingSizeBytes, payloadChecksum: checksum(payload) };
    return { record, isBackground, fields, headerChecksum: encodeRecordHeader(record, fields) };
  }

  /**
   * Whether a record is worth another thread. While producers are ahead it is what frees this one. Where a
   * group is a record, its rows wait for both threads to hear of each other, and a write of that size into
   * the page cache is over before.
   */
  #isLarge(sizeBytes: number, endsGroup: boolean): boolean {
    const { backgroundBytes } = this.#fileSystem;
    if (sizeBytes >= backgroundBytes) {
      this.#isGroupLarge = true;
      this.#isAhead = true;
    }
    const leastBytes = this.#isAhead ? backgroundBytes / AHEAD : backgroundBytes;
    if (endsGroup) {
      this.#isAhead = this.#isGroupLarge;
      this.#isGroupLarge = false;
    }
    return sizeBytes >= leastBytes;
  }

  /** What the record lacks to the end of a page: the kernel writes whole pages without a lock on the file. */
  #padding({ usedSizeBytes, sizeBytes }: ActiveSegment, recordSizeBytes: number): number {
    const { pageSizeBytes } = this.#fileSystem;
    const end = usedSizeBytes + recordSizeBytes;
    const endOfPage = Math.ceil(end / pageSizeBytes) * pageSizeBytes;
    return endOfPage <= sizeBytes ? endOfPage - end : 0;
  }

  /** 8-byte aligned; it holds old bytes. */
  #stagingOf(sizeBytes: number): Uint8Array {
    if (this.#staging.length < sizeBytes)
      this.#staging = new Uint8Array(Math.ceil((sizeBytes * 1.25) / 8) * 8);
    return this.#staging.subarray(0, sizeBytes);
  }

  /**
   * Writes the staged record at the segment's end. Throws the file system's error where it was written at
   * once; a write by another thread that fails shows in the next sync.
   *
   * Zeros go behind a small one that is the first to reach blocks that were allocated and never written: each
   * such block makes the next sync change the file system's metadata too (4 KiB and fdatasync here: 0.20 ms
   * at the median, against 0.13 ms into blocks written before).
   */
  write(segment: ActiveSegment, { record, isBackground }: StagedRecord): void {
    const { file, usedSizeBytes, writtenSizeBytes, sizeBytes, writes } = segment;
    const endOffset = usedSizeBytes + record.length;
    if (isBackground) {
      writes.begin(record, usedSizeBytes, this.#isDirect, () => this.#buffers.give(record));
    } else file.write(record, usedSizeBytes);
    if (endOffset <= writtenSizeBytes) return;
    segment.writtenSizeBytes = endOffset;
    if (isBackground || record.length >= SMALL_RECORD_BYTES) return;
    const zeros = ZEROS.subarray(0, Math.min(ZEROS.length, sizeBytes - endOffset));
    file.write(zeros, endOffset);
    segment.writtenSizeBytes += zeros.length;
  }

  /** Writes the header of a record at `offset` again. Throws as `write`. */
  rewriteHeader(segment: ActiveSegment, header: Uint8Array, offset: number): void {
    const { writes, file } = segment;
    // Where the record's own write has failed, the header belongs to what is rescued.
    if (writes.isRunning || writes.failed.length > 0) writes.beginOver(header, offset);
    else file.write(header, offset);
  }

  /** Calls `step` when no thread writes into one of the segments; none begins to before it has ended. */
  async alone<T>(segments: OpenSegments, step: () => T): Promise<T> {
    this.#isHeld = true;
    for (let running = busy(segments); running.length > 0; running = busy(segments)) {
      // Those that failed are known to their segments.
      await Promise.allSettled(running.map(({ writes }) => writes.ended()));
    }
    try {
      return step();
    } finally {
      this.#isHeld = false;
    }
  }
}

const busy = (segments: OpenSegments) => segments.open().filter(({ writes }) => writes.isRunning);
