// Memory from which a file can be written past the page cache (O_DIRECT).
//
// The disk takes whole pages, straight out of the process's memory: address and place in the file must be
// multiples of a page. So a buffer lies in a page as the bytes will lie in the file, and of a write that
// begins and ends anywhere all but the two ends can go that way.

import { ptr } from 'bun:ffi';

/** Enough for every disk: its logical block is 512 or 4096 bytes. */
export const PAGE_SIZE_BYTES = 4096;
const STEP_BYTES = 256 * 1024;

/** Reuses buffers: fresh memory costs a page fault for each page. */
export class AlignedBuffers {
  readonly #mostBytes: number;
  /** The last one is likely to be in the processor's cache. */
  readonly #free: Uint8Array[] = [];
  #freeBytes = 0;
  #takenBytes = 0;

  /** `mostBytes`: more than this is not kept. */
  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** Whether a buffer of `sizeBytes` more is within what is kept. */
  hasRoom(sizeBytes: number): boolean {
    return this.#takenBytes + wholeSizeBytes(sizeBytes) <= this.#mostBytes;
  }

  /** A buffer of `sizeBytes` for a write at `offset` of a file; it holds old bytes. */
  take(sizeBytes: number, offset: number): Uint8Array {
    const wanted = wholeSizeBytes(sizeBytes);
    // A much larger one is better kept for a larger write.
    const found = this.#free.findLastIndex(({ length }) => length >= wanted && length <= 2 * wanted);
    const whole = found >= 0 ? this.#free.splice(found, 1)[0]! : new Uint8Array(wanted);
    if (found >= 0) this.#freeBytes -= whole.length;
    this.#takenBytes += whole.length;
    const start = inPage(offset - ptr(whole));
    return whole.subarray(start, start + sizeBytes);
  }

  /** Takes back a buffer that `take` has given. */
  give({ buffer }: Uint8Array): void {
    this.#takenBytes -= buffer.byteLength;
    this.#freeBytes += buffer.byteLength;
    this.#free.push(new Uint8Array(buffer));
    while (this.#freeBytes > 0 && this.#freeBytes + this.#takenBytes > this.#mostBytes) {
      this.#freeBytes -= this.#free.shift()!.length;
    }
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

/** Of few sizes, so that one can take the place of another. */
function wholeSizeBytes(sizeBytes: number): number {
  return Math.ceil((sizeBytes + PAGE_SIZE_BYTES) / STEP_BYTES) * STEP_BYTES;
}

function inPage(position: number): number {
  return ((position % PAGE_SIZE_BYTES) + PAGE_SIZE_BYTES) % PAGE_SIZE_BYTES;
}
