// One flusher at a time delivers a WAL: two would send the same rows in groups of their own. The lock is
// `<walDir>/flusher/lock`; the WAL's own lock is the recorder's.

import { RecorderError } from '../errors.ts';
import type { FileSystem } from '../io/file-system.ts';
import { WalLockedError } from '../wal/errors.ts';
import { acquireLock, LOCK_FILE, readLock, type WalLock } from '../wal/lock.ts';
import { pause } from './retry.ts';

const LOCK_POLL_MS = 500;

/** Another flusher delivers this WAL. */
export class FlusherLockedError extends RecorderError {
  constructor(walDir: string, cause: WalLockedError) {
    const holder =
      /process \d+ on host \S+(?: \(since [^)]*\))?/.exec(cause.message)?.[0] ?? 'another process';
    super('flusher_locked', `${holder} delivers the WAL in ${walDir} already`, {
      cause,
      ...(cause.hint === undefined ? {} : { hint: cause.hint }),
    });
  }
}

/** Takes the lock. Throws FlusherLockedError that names the holder. */
export function lockFlusher(fileSystem: FileSystem, walDir: string): WalLock {
  const directory = `${walDir}/flusher`;
  fileSystem.mkdir(directory);
  // This process's own lock is that of a Worker that died: a living one would have been stopped first.
  if (readLock(fileSystem, directory)?.pid === process.pid) fileSystem.unlink(`${directory}/${LOCK_FILE}`);
  try {
    return acquireLock(fileSystem, directory);
  } catch (error) {
    if (error instanceof WalLockedError) throw new FlusherLockedError(walDir, error);
    throw error;
  }
}

/**
 * Takes the lock, as soon as its holder has gone; null when `isOver` says that there is no need any more.
 * @param onWait called once, with an error that names the holder
 */
export async function lockFlusherWhenFree(
  fileSystem: FileSystem,
  walDir: string,
  signal: AbortSignal,
  isOver: () => boolean,
  onWait: (error: FlusherLockedError) => void,
): Promise<WalLock | null> {
  let waiting = false;
  while (!signal.aborted) {
    try {
      return lockFlusher(fileSystem, walDir);
    } catch (error) {
      if (!(error instanceof FlusherLockedError)) throw error;
      if (isOver()) return null;
      if (!waiting) onWait(error);
      waiting = true;
      await pause(LOCK_POLL_MS, signal);
    }
  }
  return null;
}
