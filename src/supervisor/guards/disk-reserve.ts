// The reserve: a file of written zeros in the WAL directory. At level halt it is removed, and the WAL makes
// its next segment in the room; it is made again when there is space to spare.

import { existsSync, unlinkSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { errorCode } from '../../io/file-system.ts';

export const RESERVE_FILE = 'reserve';
const CHUNK = new Uint8Array(1024 * 1024);

export class DiskReserve {
  readonly #path: string;
  readonly #sizeBytes: number;
  #present = false;
  #givenUp = false;
  #making = false;

  /** `sizeBytes` 0: none is wanted. What an earlier run left is removed, and made anew when there is room. */
  constructor(walDir: string, sizeBytes: number) {
    this.#path = `${walDir}/${RESERVE_FILE}`;
    this.#sizeBytes = sizeBytes;
    for (const path of [this.#path, `${this.#path}.new`]) if (existsSync(path)) removeFile(path);
  }

  /** Bytes that were given up and are not to count as free. */
  get givenUpBytes(): number {
    return this.#givenUp ? this.#sizeBytes : 0;
  }

  /** Whether to make it now, `freeBytes` being free and `keepFreeBytes` not its to take. */
  isWorthMaking(freeBytes: number, keepFreeBytes: number): boolean {
    const isWanted = this.#sizeBytes > 0 && !this.#present && !this.#making;
    return isWanted && freeBytes - this.#sizeBytes > keepFreeBytes;
  }

  /** Gives the room back to the file system; false where there was nothing to give. */
  giveUp(): boolean {
    if (!this.#present) return false;
    removeFile(this.#path);
    this.#present = false;
    this.#givenUp = true;
    return true;
  }

  /** Makes the file, off the event loop; resolves with false where there is no room for it. */
  async make(): Promise<boolean> {
    this.#making = true;
    const temporary = `${this.#path}.new`;
    try {
      await writeZeros(temporary, this.#sizeBytes);
      await rename(temporary, this.#path);
      this.#present = true;
      this.#givenUp = false;
      return true;
    } catch (error) {
      if (errorCode(error) === undefined) throw error;
      removeFile(temporary);
      return false;
    } finally {
      this.#making = false;
    }
  }
}

async function writeZeros(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, 'w');
  try {
    let done = 0;
    while (done < sizeBytes) {
      const { bytesWritten } = await file.write(CHUNK, 0, Math.min(CHUNK.length, sizeBytes - done), done);
      done += bytesWritten;
    }
  } finally {
    await file.close();
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
