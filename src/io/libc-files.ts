// Space and page cache of a file, mostly through libc.

import fs from 'node:fs';
import { constants } from 'node:os';
import { lazyLibc } from '../libc.ts';
import { errorCode } from './file-system.ts';

/** The pages will not be read again soon. */
const POSIX_FADV_DONTNEED = 4;
/** The file system cannot do it; zeros must be written. */
const UNSUPPORTED = new Set([constants.errno.EOPNOTSUPP, constants.errno.EINVAL, constants.errno.ENOSYS]);

const libc = lazyLibc({
  posix_fallocate: { args: ['int', 'i64', 'i64'], returns: 'int' },
  posix_fadvise: { args: ['int', 'i64', 'i64', 'int'], returns: 'int' },
});

/**
 * Takes blocks for the first `sizeBytes` of a file, which reads zeros where nothing was written. False where
 * the system cannot. Throws an error with `code` (ENOSPC …); blocks taken so far stay with the file then.
 */
export function reserveSpace(descriptor: number, sizeBytes: number, path: string): boolean {
  const symbols = libc();
  if (symbols === null) return false;
  let status: number;
  do status = symbols.posix_fallocate(descriptor, 0, sizeBytes);
  while (status === constants.errno.EINTR);
  if (status === 0) return true;
  if (UNSUPPORTED.has(status)) return false;
  const code = Object.entries(constants.errno).find(([, number]) => number === status)?.[0] ?? 'EIO';
  throw Object.assign(new Error(`${code}: cannot allocate ${sizeBytes} bytes, posix_fallocate '${path}'`), {
    code,
  });
}

/** Says that these bytes of a file need not stay in the page cache. A hint: errors do not count. */
export function adviseUnneeded(descriptor: number, offset: number, sizeBytes: number): void {
  libc()?.posix_fadvise(descriptor, offset, sizeBytes, POSIX_FADV_DONTNEED);
}

/**
 * Opens an open file once more, for writes past the page cache (O_DIRECT), whatever its name is by now; null
 * where the system or this file system has no such thing.
 */
export function openPastCache(descriptor: number): number | null {
  const { O_DIRECT, O_RDWR } = fs.constants;
  if (O_DIRECT === undefined) return null;
  try {
    return fs.openSync(`/proc/self/fd/${descriptor}`, O_RDWR | O_DIRECT);
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
    return null;
  }
}
