// Framing of the stream protocol: size-prefixed FlatBuffers one after another, cut anywhere by the transport.
// Pure: no IO, no timers, no clock.
//
//   offset  size  field
//        0     4  size of the frame, u32 little-endian, without these 4 bytes
//        4  size  the frame: one FlatBuffer, its file identifier at bytes 4 to 7
//
//   size                      what happens
//   0 to 7                    malformed too_short: skipped, the stream goes on
//   8 to maxFrameBytes        a frame
//   above, to 64 MiB          malformed too_large: its first bytes are reported, the stream goes on
//   above 64 MiB              malformed bad_length: the framing is lost, the reader takes nothing more
//
// A frame that lies whole in a chunk is handed on where it lies; one that is cut is put together in
// `carry`, which grows with what has come, never to what a prefix claims.

import { assert } from '../errors.ts';
import { FramingFault } from './frame-sink.ts';

export const PREFIX_BYTES = 4;
/** Root offset and file identifier: nothing shorter can be a frame. */
export const MIN_FRAME_BYTES = 8;
export const DEFAULT_MAX_FRAME_BYTES = 1024 * 1024;
/** Above this a length is taken for garbage, not for a large frame. */
export const MAX_SKIPPED_FRAME_BYTES = 64 * 1024 * 1024;
/** What is kept of a frame that is too large. */
export const SAMPLE_BYTES = 4096;

const INITIAL_CARRY_BYTES = 4096;
/** From this many bytes on it is worth asking whether frames are taken together. */
const RUN_BYTES = 16 * 1024;

/** Receives what the reader finds. `bytes` and `view` are valid during the call only. */
export interface FrameHandler {
  frame(bytes: Uint8Array, view: DataView, start: number, end: number): void;
  /**
   * Offers frames with their prefixes, as many as lie in bytes[start, end), to be taken together: returns
   * where the first one begins that was not. Absent: they are wanted one by one.
   */
  run?(bytes: Uint8Array, view: DataView, start: number, end: number): number;
  malformed(
    reason: FramingFault,
    bytes: Uint8Array,
    start: number,
    end: number,
    claimedSizeBytes: number,
  ): void;
}

export class FrameReader {
  readonly #handler: FrameHandler;
  readonly #maxFrameBytes: number;
  #carry = new Uint8Array(0);
  #carryView = new DataView(this.#carry.buffer);
  /** Bytes of an incomplete frame in #carry, prefix included. */
  #carried = 0;
  /** Bytes still to be passed over, of a frame that is too large or too short; 0: none. */
  #skip = 0;
  #skippedSizeBytes = 0;
  #skipReason: FramingFault = FramingFault.tooLarge;
  #broken = false;

  constructor(handler: FrameHandler, maxFrameBytes: number = DEFAULT_MAX_FRAME_BYTES) {
    assert(maxFrameBytes >= MIN_FRAME_BYTES && maxFrameBytes <= MAX_SKIPPED_FRAME_BYTES, 'maxFrameBytes');
    this.#handler = handler;
    this.#maxFrameBytes = maxFrameBytes;
  }

  /** True after a broken length prefix or stop(): nothing more is read. */
  get broken(): boolean {
    return this.#broken;
  }

  /** Takes nothing more, not even the rest of the chunk that is being read. */
  stop(): void {
    this.#broken = true;
  }

  /** Bytes of a frame that has begun and not ended; 0 between frames. */
  get partialBytes(): number {
    if (this.#skip > 0) return PREFIX_BYTES + this.#skippedSizeBytes - this.#skip;
    return this.#carried;
  }

  /**
   * The bytes of a frame that has begun, prefix included, as far as they are kept. Valid until the next
   * push.
   */
  partial(): Uint8Array {
    return this.#carry.subarray(0, this.#carried);
  }

  /** Reads a chunk and calls the handler for each frame that ends in it. False: the framing is lost. */
  push(chunk: Uint8Array): boolean {
    if (this.#broken) return false;
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const end = chunk.byteLength;
    let position = this.#skip > 0 ? this.#pass(chunk, 0) : 0;
    if (this.#carried > 0 && this.#skip === 0) position = this.#complete(chunk, position);
    while (end - position >= PREFIX_BYTES && !this.#broken) {
      if (end - position >= RUN_BYTES && this.#handler.run !== undefined) {
        const after = this.#handler.run(chunk, view, position, end);
        if (after > position) {
          position = after;
          continue;
        }
      }
      const size = view.getUint32(position, true);
      if (size >= MIN_FRAME_BYTES && size <= this.#maxFrameBytes) {
        const frameStart = position + PREFIX_BYTES;
        if (frameStart + size > end) break;
        position = frameStart + size;
        this.#handler.frame(chunk, view, frameStart, position);
      } else {
        position = this.#refuse(size, chunk, position + PREFIX_BYTES, position);
      }
    }
    if (position < end && !this.#broken) this.#keep(chunk, position, end);
    return !this.#broken;
  }

  /** Completes the carried frame from the start of `chunk`; returns where the next frame begins. */
  #complete(chunk: Uint8Array, from: number): number {
    let position = from;
    if (this.#carried < PREFIX_BYTES) {
      const part = Math.min(PREFIX_BYTES - this.#carried, chunk.byteLength - position);
      this.#keep(chunk, position, position + part);
      position += part;
      if (this.#carried < PREFIX_BYTES) return position;
    }
    const size = this.#carryView.getUint32(0, true);
    if (size < MIN_FRAME_BYTES || size > this.#maxFrameBytes) return this.#refuse(size, chunk, position, -1);
    const whole = PREFIX_BYTES + size;
    const part = Math.min(whole - this.#carried, chunk.byteLength - position);
    this.#keep(chunk, position, position + part);
    if (this.#carried === whole) {
      this.#carried = 0;
      this.#handler.frame(this.#carry, this.#carryView, PREFIX_BYTES, whole);
    }
    return position + part;
  }

  /**
   * Deals with a prefix that no frame may have; `bodyStart` is the first byte after it, `prefixStart` its
   * place in the chunk or -1 where it was carried over. Returns where reading goes on.
   */
  #refuse(size: number, chunk: Uint8Array, bodyStart: number, prefixStart: number): number {
    if (size > MAX_SKIPPED_FRAME_BYTES) {
      this.#broken = true;
      const inChunk = prefixStart >= 0;
      const bytes = inChunk ? chunk : this.#carry;
      const start = inChunk ? prefixStart : 0;
      const sampleEnd = inChunk ? Math.min(start + SAMPLE_BYTES, chunk.byteLength) : this.#carried;
      this.#carried = 0;
      this.#handler.malformed(FramingFault.badLength, bytes, start, sampleEnd, size);
      return chunk.byteLength;
    }
    this.#carried = 0;
    this.#skippedSizeBytes = size;
    this.#skip = size;
    this.#skipReason = size < MIN_FRAME_BYTES ? FramingFault.tooShort : FramingFault.tooLarge;
    if (size === 0) this.#handler.malformed(FramingFault.tooShort, chunk, bodyStart, bodyStart, 0);
    return size === 0 ? bodyStart : this.#pass(chunk, bodyStart);
  }

  /** Passes over bytes of a refused frame, keeps the first as a sample and reports it at its end. */
  #pass(chunk: Uint8Array, from: number): number {
    const part = Math.min(this.#skip, chunk.byteLength - from);
    const sample = Math.min(part, SAMPLE_BYTES - this.#carried);
    if (sample > 0) this.#keep(chunk, from, from + sample);
    this.#skip -= part;
    if (this.#skip === 0) {
      const sampleEnd = this.#carried;
      this.#carried = 0;
      this.#handler.malformed(this.#skipReason, this.#carry, 0, sampleEnd, this.#skippedSizeBytes);
    }
    return from + part;
  }

  #keep(chunk: Uint8Array, from: number, to: number): void {
    const needed = this.#carried + (to - from);
    if (needed > this.#carry.byteLength) {
      const grown = new Uint8Array(Math.max(INITIAL_CARRY_BYTES, needed, this.#carry.byteLength * 2));
      grown.set(this.#carry.subarray(0, this.#carried));
      this.#carry = grown;
      this.#carryView = new DataView(grown.buffer);
    }
    this.#carry.set(chunk.subarray(from, to), this.#carried);
    this.#carried = needed;
  }
}
