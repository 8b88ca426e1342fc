import { assert } from '../errors.ts';
import type { FileSystem } from '../io/file-system.ts';
import type { WalSyncError } from './errors.ts';
import type { BlockFields } from './format.ts';
import type { StreamPosition, WalTopic } from './segment-meta.ts';

/**
 * `group`: durable means synced. `interval`: durable means written, and a sync runs each `syncIntervalMs`.
 * `none`: durable means written; only open and close sync.
 */
export type SyncPolicy = 'group' | 'interval' | 'none';

/** A block to append. */
export interface BlockAppend extends BlockFields {
  /**
   * Last block of those that become durable together; default true. With false, `endGroup` ends the group.
   */
  endsGroup?: boolean;
  /** Writes exactly `payloadSizeBytes` bytes; `target` is 8-byte aligned and holds old bytes. */
  encode(target: Uint8Array): void;
}

/** Fails where a block is not what the log can hold: a bug of the caller. */
export function checkBlock(
  { payloadSizeBytes, rowCount, topicIndex }: BlockAppend,
  topicCount: number,
): void {
  assert(payloadSizeBytes % 8 === 0 && rowCount > 0, 'block is empty or not padded');
  assert(topicIndex < topicCount, `topic ${topicIndex} was not given at open`);
}

/** Settings of an open WAL; `openWal` has the defaults. */
export interface WalSettings {
  dir: string;
  recorder: string;
  topics: readonly WalTopic[];
  fileSystem: FileSystem;
  segmentSizeBytes: number;
  syncPolicy: SyncPolicy;
  syncIntervalMs: number;
  /** A reader is close behind the writer: what is written should be in the page cache. */
  isFollowed: boolean;
  /**
   * Positions of the sessions that may resume, asked when a segment begins: over all complete groups, or,
   * within a group, as they will be when it is complete.
   */
  streamsSnapshot: (isWithinGroup: boolean) => StreamPosition[];
  /** `writable` or `allocationError` may have changed. */
  onStateChange: () => void;
  /** Asked for a file to use as a segment where the disk has no room: see SegmentAllocator. */
  spareSegment: () => string | null;
  /** Called at once when a sync fails, before the promise of `sync` rejects and before the next append. */
  onSyncFailure: (error: WalSyncError) => void;
}
