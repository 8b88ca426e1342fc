// A segment while the writer has it open, and the places in the log that the writer may go back to.

import os from 'node:os';
import { errorCode, type FileHandle, type FileSystem } from '../io/file-system.ts';
import { BackgroundWrites } from './background-writes.ts';
import { WalFullError, WalWriteError } from './errors.ts';
import { encodeSegmentHeader, RECORD_HEADER_SIZE_BYTES, segmentName } from './format.ts';
import type { SegmentAllocator } from './segment-allocator.ts';
import { type CountedTopic, encodeSegmentMeta, type LsnGap, type StreamPosition } from './segment-meta.ts';

/** What the next segment's header says about the log before it. */
export interface Chain {
  prevChecksum: bigint;
  previousBaseLsn: bigint | null;
  gapBefore: LsnGap | null;
}

export interface ActiveSegment {
  name: string;
  baseLsn: bigint;
  file: FileHandle;
  /** Records on their way into the file. */
  writes: BackgroundWrites;
  sizeBytes: number;
  usedSizeBytes: number;
  /** Blocks of the file up to here have been written to; those behind are allocated only. */
  writtenSizeBytes: number;
  endLsn: bigint;
  /** What its header says: taken back when the segment goes without having held a row. */
  before: Chain;
  headerChecksum: bigint;
  headerSizeBytes: number;
  sealed: boolean;
  /** The end of a sealed segment has been synced. */
  synced: boolean;
}

/** What the writer says about itself in a segment's header. */
export interface SegmentStart {
  recorder: string;
  walId: bigint;
  baseLsn: bigint;
  groupEndLsn: bigint;
  syncedLsn: bigint;
  topics: CountedTopic[];
  streams: StreamPosition[];
}

/**
 * Begins a segment with room for a record of `recordSizeBytes`: header into the page cache, then the name.
 * Not durable before the file and the directory are synced, except where it takes the place of an empty one:
 * a power loss must leave one of the two headers. Throws WalFullError, WalWriteError.
 */
export function beginSegment(
  { fileSystem, dir }: { fileSystem: FileSystem; dir: string },
  start: SegmentStart,
  chain: Chain,
  allocator: SegmentAllocator,
  recordSizeBytes: number,
): ActiveSegment {
  const { baseLsn } = start;
  const name = segmentName(baseLsn);
  const header = headerOf(start, chain);
  let file: FileHandle;
  try {
    file = allocator.take(header.length + recordSizeBytes);
  } catch (cause) {
    throw new WalFullError(`the next segment ${name} cannot be made`, cause);
  }
  try {
    file.write(header, 0);
    if (fileSystem.exists(`${dir}/${name}`)) file.syncNow();
    fileSystem.rename(file.path, `${dir}/${name}`);
  } catch (cause) {
    file.close();
    // What cannot be removed now, the next attempt to make one removes.
    if (fileSystem.exists(file.path)) succeeds(() => fileSystem.unlink(file.path));
    throw new WalWriteError(`segment ${name} cannot be begun`, cause);
  }
  return {
    name,
    baseLsn,
    file,
    writes: new BackgroundWrites(file),
    sizeBytes: file.sizeBytes(),
    usedSizeBytes: header.length,
    writtenSizeBytes: header.length,
    endLsn: baseLsn,
    before: chain,
    headerChecksum: new DataView(header.buffer).getBigUint64(56, true),
    headerSizeBytes: header.length,
    sealed: false,
    synced: false,
  };
}

function headerOf(start: SegmentStart, chain: Chain): Uint8Array {
  const { walId, baseLsn } = start;
  const metadata = encodeSegmentMeta({
    recorder: start.recorder,
    createdAt: new Date().toISOString(),
    host: os.hostname(),
    topics: start.topics,
    streams: start.streams,
    previousBaseLsn: chain.previousBaseLsn,
    groupEndLsn: start.groupEndLsn,
    syncedLsn: start.syncedLsn,
    gapBefore: chain.gapBefore,
  });
  return encodeSegmentHeader({ walId, baseLsn, prevChecksum: chain.prevChecksum }, metadata);
}

/**
 * Cuts a segment to its used length, so that a reader finds its end and the rest of its blocks are given
 * back. False where the disk does not do it: behind the last record is what was there before.
 */
export function cutSegment(segment: ActiveSegment): boolean {
  return succeeds(() => segment.file.truncate(segment.usedSizeBytes));
}

/** Makes what a failed write may have left behind the last record no record. False where that fails too. */
export function wipeTail({ file, usedSizeBytes, sizeBytes }: ActiveSegment): boolean {
  const zeros = new Uint8Array(Math.min(RECORD_HEADER_SIZE_BYTES, sizeBytes - usedSizeBytes));
  return succeeds(() => file.write(zeros, usedSizeBytes));
}

function succeeds(step: () => void): boolean {
  try {
    step();
    return true;
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
    return false;
  }
}
