import { assert } from '../errors.ts';
import type { FileSystem } from '../io/file-system.ts';
import { realFileSystem } from '../io/real-file-system.ts';
import { WalLockedError } from './errors.ts';
import { createHorizon } from './horizon.ts';
import { acquireLock, type WalLock } from './lock.ts';
import { recoverWal } from './recovery.ts';
import type { RecoveryOptions } from './recovery-report.ts';
import { readTrimmedLsn, trimSegments } from './retention.ts';
import { SegmentAllocator } from './segment-allocator.ts';
import type { WalSettings } from './settings.ts';
import { Wal } from './writer.ts';

export const DEFAULT_SEGMENT_SIZE_BYTES = 64 * 1024 * 1024;
export const MIN_SEGMENT_SIZE_BYTES = 4096;
const LOCK_PATIENCE_MS = 400;
const LOCK_POLL_MS = 50;

/** What `openWal` takes; only the first three have no default. */
export interface WalOptions
  extends Pick<WalSettings, 'dir' | 'recorder' | 'topics'>,
    Partial<Omit<WalSettings, 'dir' | 'recorder' | 'topics'>>,
    Partial<Omit<RecoveryOptions, 'dir' | 'fileSystem'>> {
  fileSystem?: FileSystem;
  /** Time between attempts to make a segment after a failed one; default 1,000. */
  retryIntervalMs?: number;
}

function settingsOf(options: WalOptions): WalSettings {
  return {
    dir: options.dir,
    recorder: options.recorder,
    topics: options.topics,
    fileSystem: options.fileSystem ?? realFileSystem,
    segmentSizeBytes: options.segmentSizeBytes ?? DEFAULT_SEGMENT_SIZE_BYTES,
    syncPolicy: options.syncPolicy ?? 'group',
    syncIntervalMs: options.syncIntervalMs ?? 1000,
    isFollowed: options.isFollowed ?? false,
    streamsSnapshot: options.streamsSnapshot ?? (() => []),
    onStateChange: options.onStateChange ?? (() => {}),
    spareSegment: options.spareSegment ?? (() => null),
    onSyncFailure: options.onSyncFailure ?? (() => {}),
  };
}

/** A killed owner takes a moment to end: a restart at once must not be refused for it. */
async function acquirePatiently(fileSystem: FileSystem, dir: string): Promise<WalLock> {
  for (let waitedMs = 0; ; waitedMs += LOCK_POLL_MS) {
    try {
      return acquireLock(fileSystem, dir);
    } catch (error) {
      if (!(error instanceof WalLockedError) || waitedMs >= LOCK_PATIENCE_MS) throw error;
      await Bun.sleep(LOCK_POLL_MS);
    }
  }
}

/**
 * Opens the WAL in `dir` for writing, made when it is not there: takes the lock, recovers what an earlier run
 * left, opens a new segment. When it resolves, everything that was recovered is durable and `recovery` says
 * what was found.
 *
 * Throws WalLockedError, WalFormatError, WalMissingSegmentError, WalFullError, and the file system's errors;
 * the lock is released then.
 */
export async function openWal(options: WalOptions): Promise<Wal> {
  const settings = settingsOf(options);
  assert(settings.segmentSizeBytes >= MIN_SEGMENT_SIZE_BYTES, 'segment is too small');
  const { fileSystem, dir } = settings;
  fileSystem.mkdir(dir);
  const lock = await acquirePatiently(fileSystem, dir);
  let allocator: SegmentAllocator | null = null;
  try {
    const state = recoverWal({
      fileSystem,
      dir,
      minNextLsn: options.minNextLsn ?? 0n,
      allowMissingSegments: options.allowMissingSegments ?? false,
      onRecoveredStreams: options.onRecoveredStreams,
      onRecoveredBlock: options.onRecoveredBlock,
    });
    const horizon = createHorizon(fileSystem, dir, state.walId, state.nextLsn);
    allocator = new SegmentAllocator({
      fileSystem,
      dir,
      segmentSizeBytes: settings.segmentSizeBytes,
      retryIntervalMs: options.retryIntervalMs ?? 1000,
      onChange: settings.onStateChange,
      spare: settings.spareSegment,
    });
    allocator.start();
    const wal = new Wal(settings, state, lock, horizon, allocator);
    await wal.syncNow();
    if (state.stale !== null) fileSystem.unlink(`${dir}/${state.stale}`);
    // A power loss can bring back segments whose removal was under way: they go now.
    await trimSegments(fileSystem, dir, readTrimmedLsn(fileSystem, dir), wal.durableLsn, true);
    return wal;
  } catch (error) {
    await allocator?.close();
    lock.release();
    throw error;
  }
}
