// How much the WAL directory takes and what its file system has left.

import { readdirSync, statfsSync, statSync } from 'node:fs';
import { errorCode } from '../../io/file-system.ts';
import { DEAD_LETTER_DIRECTORY } from '../../sink/dead-letter.ts';
import { RESERVE_PREFIX } from './disk-reserve.ts';

export interface WalUsage {
  /** Size of all files in the directory, those allocated ahead included, the reserve not. */
  walBytes: number;
  segments: number;
  /** Insert groups that were refused for good. */
  deadLetters: number;
  /** Bytes that an unprivileged user may still write. */
  freeBytes: number;
  /** Size of the file system. */
  sizeBytes: number;
}

/** Looks at the WAL directory; null where it cannot be read. */
export function measureWal(dir: string): WalUsage | null {
  try {
    let walBytes = 0;
    let segments = 0;
    for (const name of readdirSync(dir)) {
      const stats = statSync(`${dir}/${name}`, { throwIfNoEntry: false });
      if (stats === undefined || !stats.isFile()) continue;
      if (name.startsWith(RESERVE_PREFIX)) continue;
      walBytes += stats.size;
      if (name.endsWith('.wal')) segments++;
    }
    const { bavail, blocks, bsize } = statfsSync(dir);
    const deadLetters = countDeadLetters(dir);
    return { walBytes, segments, deadLetters, freeBytes: bavail * bsize, sizeBytes: blocks * bsize };
  } catch (error) {
    if (errorCode(error) !== undefined) return null;
    throw error;
  }
}

function countDeadLetters(dir: string): number {
  try {
    return readdirSync(`${dir}/${DEAD_LETTER_DIRECTORY}`).filter((name) => name.endsWith('.json')).length;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return 0;
    throw error;
  }
}
