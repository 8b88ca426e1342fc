// Memory from which a file can be written past the page cache (O_DIRECT).
//
// The disk takes whole pages, straight out of the process's memory: address and place in the file must be
// multiples of a page. So a buffer lies in a page as the bytes will lie in the file, and of a write that
// begins and ends anywhere all but the two ends can go that way.

import { ptr } from 'bun:ffi';

/** Enough for every disk: its logical block is 512 or 4096 bytes. */
const PAGE_SIZE_BYTES = 4096;
/** Buffers that are kept for the next write; more are in use only while the disk is behind. */
const MOST_FREE = 4;

/** Reuses buffers: fresh memory costs a page fault for each page. */
export class AlignedBuffers {
  #free: Uint8Array[] = [];
  #takenBytes = 0;

  /** Bytes of buffers that have not been given back. */
  get takenBytes(): number {
    return this.#takenBytes;
  }

  /** A buffer of `sizeBytes` for a write at `offset` of a file; it holds old bytes. */
  take(sizeBytes: number, offset: number): Uint8Array {
    const free = this.#free.findIndex(({ length }) => length >= sizeBytes + PAGE_SIZE_BYTES);
    const whole =
      free >= 0
        ? this.#free.splice(free, 1)[0]!
        : new Uint8Array(Math.ceil(sizeBytes * 1.25) + PAGE_SIZE_BYTES);
    const start = inPage(offset - ptr(whole));
    this.#takenBytes += whole.length;
    return whole.subarray(start, start + sizeBytes);
  }

  /** Takes back a buffer that `take` has given. */
  give({ buffer }: Uint8Array): void {
    this.#takenBytes -= buffer.byteLength;
    this.#free.push(new Uint8Array(buffer));
    // The smallest goes: records of one kind have one size, which should stay.
    if (this.#free.length <= MOST_FREE) return;
    this.#free.sort((a, b) => b.length - a.length).pop();
  }
}

/**
 * The part of `source`, to be written at `offset`, that can go past the page cache; null where there is none:
 * too short, or not as it will lie in the file.
 */
export function directPart(source: Uint8Array, offset: number): { start: number; end: number } | null {
  if (inPage(ptr(source) - offset) !== 0) return null;
  const start = inPage(-offset);
  const end = source.length - inPage(offset + source.length);
  return end > start ? { start, end } : null;
}

function inPage(position: number): number {
  return ((position % PAGE_SIZE_BYTES) + PAGE_SIZE_BYTES) % PAGE_SIZE_BYTES;
}
