// Memory for the datagrams of one read by recvmmsg(2), which Bun has no call for.
//
// The kernel writes into slots, one a datagram; nothing is allocated a datagram.

import { ptr } from 'bun:ffi';
import { receiveDatagramsNow } from './socket-options.ts';

/** Datagrams of one call: more would save no more of its cost. */
const SLOTS = 64;
/** Longer than any UDP payload, so that none is cut. */
const SLOT_BYTES = 65_536;
/**
 * Slots begin so far behind one another: at a multiple of a page's size their first lines would all want the
 * same places of the processor's cache.
 */
const STRIDE_BYTES = SLOT_BYTES + 192;

// struct mmsghdr and struct iovec of 64-bit Linux, little-endian (recvmmsg(2), recv(2)).
const HEADER_BYTES = 64;
const HEADER_VECTOR = 16;
const HEADER_VECTOR_COUNT = 24;
const HEADER_RECEIVED = 56;
const VECTOR_BYTES = 16;

/** Slots for as many datagrams as one read takes. */
export class DatagramSlots {
  readonly capacity = SLOTS;
  /** All slots; `view` covers the same memory. */
  readonly bytes = new Uint8Array(new ArrayBuffer(SLOTS * STRIDE_BYTES));
  readonly view = new DataView(this.bytes.buffer);
  readonly #headers = new DataView(new ArrayBuffer(SLOTS * HEADER_BYTES));
  /** Kept here: the kernel reads it. */
  readonly #vectors = new DataView(new ArrayBuffer(SLOTS * VECTOR_BYTES));

  constructor() {
    const slots = BigInt(ptr(this.bytes));
    const vectors = BigInt(ptr(this.#vectors));
    for (let i = 0; i < SLOTS; i++) {
      this.#vectors.setBigUint64(i * VECTOR_BYTES, slots + BigInt(i * STRIDE_BYTES), true);
      this.#vectors.setBigUint64(i * VECTOR_BYTES + 8, BigInt(SLOT_BYTES), true);
      const vector = vectors + BigInt(i * VECTOR_BYTES);
      this.#headers.setBigUint64(i * HEADER_BYTES + HEADER_VECTOR, vector, true);
      this.#headers.setBigUint64(i * HEADER_BYTES + HEADER_VECTOR_COUNT, 1n, true);
    }
  }

  /**
   * Reads what is at a socket into the slots, without waiting; the number of datagrams, `capacity` at most.
   * 0 or less: none.
   */
  receive(fd: number): number {
    return receiveDatagramsNow(fd, this.#headers, SLOTS);
  }

  /** Where the datagram of a slot begins in `bytes`. */
  startOf(slot: number): number {
    return slot * STRIDE_BYTES;
  }

  /** Where the datagram ends that the last read has put into a slot. */
  endOf(slot: number): number {
    return slot * STRIDE_BYTES + this.#headers.getUint32(slot * HEADER_BYTES + HEADER_RECEIVED, true);
  }
}
