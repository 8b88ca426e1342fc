// The reserve: files of zeros in the WAL directory, each as large as a segment. At level halt they
// become segments, one after another as the WAL needs them: by their names alone, so that another program
// that fills the disk never gets their room. They are made again when there is space to spare.
//
// A small one more is for a start on a disk without a byte: lock, horizon and status need some.
//
// Invariants
// - A file has its name only when it is whole and synced.
// - What an earlier run left whole is kept: on a full disk it could not be made again.

import { existsSync, readdirSync, statfsSync, statSync, unlinkSync } from 'node:fs';
import { errorCode } from '../../io/file-system.ts';
import { realFileSystem } from '../../io/real-file-system.ts';

/** `reserve.0`, `reserve.1` … */
export const RESERVE_PREFIX = 'reserve';
const UNFINISHED = `${RESERVE_PREFIX}.new`;
const FOR_START = `${RESERVE_PREFIX}.start`;
const START_BYTES = 1024 * 1024;

/** Before a start: gives the room back that is kept for one, where the disk has less. */
export function makeRoomToStart(walDir: string): void {
  if (!existsSync(`${walDir}/${FOR_START}`)) return;
  const { bavail, bsize } = statfsSync(walDir);
  if (bavail * bsize < START_BYTES) removeFile(`${walDir}/${FOR_START}`);
}

export class DiskReserve {
  readonly #dir: string;
  /** By name. */
  readonly #sizes: ReadonlyMap<string, number>;
  /** Those of them that are there. */
  readonly #present: Set<string>;
  #making = false;

  /** `sizeBytes` in whole segments, rounded up; 0: none is wanted. */
  constructor(walDir: string, sizeBytes: number, segmentBytes: number) {
    this.#dir = walDir;
    const sizes = new Map<string, number>();
    const count = Math.ceil(sizeBytes / segmentBytes);
    if (count > 0) sizes.set(FOR_START, START_BYTES);
    for (let index = 0; index < count; index++) sizes.set(`${RESERVE_PREFIX}.${index}`, segmentBytes);
    this.#sizes = sizes;
    this.#present = new Set([...sizes.keys()].filter((name) => this.#isWhole(name)));
    for (const name of readdirSync(walDir)) {
      if (name.startsWith(RESERVE_PREFIX) && !this.#present.has(name)) removeFile(`${walDir}/${name}`);
    }
  }

  /** Whether to make what is missing now, `freeBytes` being free and `keepFreeBytes` not its to take. */
  isWorthMaking(freeBytes: number, keepFreeBytes: number): boolean {
    let missingBytes = 0;
    for (const [name, sizeBytes] of this.#sizes) if (!this.#present.has(name)) missingBytes += sizeBytes;
    return missingBytes > 0 && !this.#making && freeBytes - missingBytes > keepFreeBytes;
  }

  /** Path of a file as large as a segment, which is the caller's from now on; null: none is left. */
  take(): string | null {
    const name = [...this.#present].find((candidate) => candidate !== FOR_START);
    if (name === undefined) return null;
    this.#present.delete(name);
    return `${this.#dir}/${name}`;
  }

  /** Makes what is missing, off the event loop; resolves with false where there is no room for it. */
  async make(): Promise<boolean> {
    this.#making = true;
    const temporary = `${this.#dir}/${UNFINISHED}`;
    try {
      for (const [name, sizeBytes] of this.#sizes) {
        if (this.#present.has(name)) continue;
        await allocate(temporary, sizeBytes);
        realFileSystem.rename(temporary, `${this.#dir}/${name}`);
        this.#present.add(name);
      }
      return true;
    } catch (error) {
      if (errorCode(error) === undefined) throw error;
      removeFile(temporary);
      return false;
    } finally {
      this.#making = false;
    }
  }

  #isWhole(name: string): boolean {
    const path = `${this.#dir}/${name}`;
    return existsSync(path) && statSync(path).size === this.#sizes.get(name);
  }
}

/** Makes a file of zeros whose room is taken. */
async function allocate(path: string, sizeBytes: number): Promise<void> {
  removeFile(path);
  const file = realFileSystem.open(path, 'create');
  try {
    file.allocate(sizeBytes);
    await file.sync();
  } finally {
    file.close();
  }
}

/** Removes a file; what cannot be removed stays, it is only zeros. */
function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
  }
}
