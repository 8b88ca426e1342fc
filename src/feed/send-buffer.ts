// What a producer has sent or will send and may have to send again: size-prefixed frames, packed into large
// chunks so that one write carries many. Pure: no IO, no timers.
//
// Invariants
// - The frames in the chunks have consecutive sequence numbers, from firstSeq (in the head chunk) to
//   nextSeq - 1.
// - The cursor is the next byte to be written; it never lies beyond what was appended.

import { PREFIX_BYTES } from '../net/frame-reader.ts';

/** One write carries at most this much; Linux' default for a Unix socket's buffer is about 208 KiB. */
const CHUNK_BYTES = 256 * 1024;
/** Emptied chunks kept for reuse. */
const MAX_SPARE_CHUNKS = 16;

interface Chunk {
  bytes: Uint8Array;
  view: DataView;
  sizeBytes: number;
  firstSeq: number;
  frameCount: number;
}

export class SendBuffer {
  /** Sequence number of the next frame that is appended. */
  nextSeq: number;
  /** Bytes held in all chunks. */
  sizeBytes = 0;
  readonly #chunks: Chunk[] = [];
  readonly #spare: Chunk[] = [];
  /** Index in #chunks and offset there of the next byte to write. */
  #cursorChunk = 0;
  #cursorOffset = 0;

  constructor(nextSeq: number) {
    this.nextSeq = nextSeq;
  }

  /** True where everything appended has been written. */
  get isWritten(): boolean {
    const chunk = this.#chunks[this.#cursorChunk];
    return chunk === undefined || (this.#cursorOffset === chunk.sizeBytes && this.#isLast());
  }

  /** True where no frame is held. */
  get isEmpty(): boolean {
    return this.#chunks.length === 0;
  }

  /** True where a chunk is full and waits to be written. */
  get hasFullChunk(): boolean {
    return this.#cursorChunk < this.#chunks.length - 1;
  }

  /** Appends a copy of `frame`, without its size prefix, as frame nextSeq. */
  append(frame: Uint8Array): void {
    const needed = PREFIX_BYTES + frame.byteLength;
    let chunk = this.#chunks.at(-1);
    if (chunk === undefined || chunk.sizeBytes + needed > chunk.bytes.byteLength) {
      chunk = this.#newChunk(needed);
      this.#chunks.push(chunk);
    }
    chunk.view.setUint32(chunk.sizeBytes, frame.byteLength, true);
    chunk.bytes.set(frame, chunk.sizeBytes + PREFIX_BYTES);
    chunk.sizeBytes += needed;
    chunk.frameCount++;
    this.nextSeq++;
    this.sizeBytes += needed;
  }

  /**
   * The bytes to write next; empty where there are none. Valid until the next call that changes the buffer.
   */
  pending(): Uint8Array {
    let chunk = this.#chunks[this.#cursorChunk];
    if (chunk !== undefined && this.#cursorOffset === chunk.sizeBytes && !this.#isLast()) {
      // This chunk was written to its end before the next one was begun.
      this.#cursorOffset = 0;
      chunk = this.#chunks[++this.#cursorChunk];
    }
    return chunk === undefined
      ? new Uint8Array(0)
      : chunk.bytes.subarray(this.#cursorOffset, chunk.sizeBytes);
  }

  /** Moves the cursor over `sizeBytes` that were written. */
  written(sizeBytes: number): void {
    this.#cursorOffset += sizeBytes;
    const chunk = this.#chunks[this.#cursorChunk];
    if (chunk !== undefined && this.#cursorOffset === chunk.sizeBytes && !this.#isLast()) {
      this.#cursorChunk++;
      this.#cursorOffset = 0;
    }
  }

  /** Lets go of the frames up to and with `seq`; frames of a chunk that holds later ones too stay with it. */
  release(seq: number): void {
    let head = this.#chunks[0];
    while (head !== undefined && head.firstSeq + head.frameCount - 1 <= seq) {
      this.#chunks.shift();
      this.sizeBytes -= head.sizeBytes;
      if (this.#cursorChunk > 0) this.#cursorChunk--;
      else this.#cursorOffset = 0;
      if (head.bytes.byteLength === CHUNK_BYTES && this.#spare.length < MAX_SPARE_CHUNKS)
        this.#spare.push(head);
      head = this.#chunks[0];
    }
  }

  /** Lets go of all frames that were written whole: for a connection without acknowledgements. */
  releaseWritten(): void {
    if (this.isWritten) this.release(this.nextSeq - 1);
    else this.release(this.#chunks[this.#cursorChunk]!.firstSeq - 1);
  }

  /** Puts the cursor to the beginning of frame `seq`, which is held or is nextSeq. */
  rewind(seq: number): void {
    this.#cursorChunk = 0;
    this.#cursorOffset = 0;
    let chunk = this.#chunks[0];
    while (chunk !== undefined && seq >= chunk.firstSeq + chunk.frameCount && !this.#isLast()) {
      chunk = this.#chunks[++this.#cursorChunk];
    }
    if (chunk === undefined) return;
    for (let at = chunk.firstSeq; at < seq && this.#cursorOffset < chunk.sizeBytes; at++) {
      this.#cursorOffset += PREFIX_BYTES + chunk.view.getUint32(this.#cursorOffset, true);
    }
  }

  /** Sequence number of the frame that holds the next byte to write; nextSeq where all is written. */
  cursorSeq(): number {
    const chunk = this.#chunks[this.#cursorChunk];
    if (chunk === undefined) return this.nextSeq;
    let seq = chunk.firstSeq;
    let offset = 0;
    while (offset < chunk.sizeBytes) {
      const end = offset + PREFIX_BYTES + chunk.view.getUint32(offset, true);
      if (end > this.#cursorOffset) return seq;
      offset = end;
      seq++;
    }
    return seq;
  }

  #isLast(): boolean {
    return this.#cursorChunk === this.#chunks.length - 1;
  }

  #newChunk(neededBytes: number): Chunk {
    const spare = neededBytes <= CHUNK_BYTES ? this.#spare.pop() : undefined;
    if (spare !== undefined) {
      spare.sizeBytes = 0;
      spare.frameCount = 0;
      spare.firstSeq = this.nextSeq;
      return spare;
    }
    const bytes = new Uint8Array(Math.max(CHUNK_BYTES, neededBytes));
    return { bytes, view: new DataView(bytes.buffer), sizeBytes: 0, firstSeq: this.nextSeq, frameCount: 0 };
  }
}
