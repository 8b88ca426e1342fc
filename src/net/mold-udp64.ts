// MoldUDP64 (Nasdaq, version 1.00): the datagrams of the UDP protocol. Pure: no IO, no timers, no clock.
//
//   offset  size  field                                             all integers big-endian
//        0    10  session, ASCII, filled up with spaces
//       10     8  sequence number of the first message, u64, first of a session is 1
//       18     2  message count; 0: heartbeat, 0xFFFF: end of session (both: sequence = next to come)
//       20     …  count message blocks: u16 length, then as many bytes: one FlatBuffer with file identifier
//
// A datagram is never believed: every block is checked against the datagram's end before it is handed on.

import { MAX_SEQUENCE } from './session.ts';

export const HEADER_BYTES = 20;
export const SESSION_BYTES = 10;
export const BLOCK_PREFIX_BYTES = 2;
export const END_OF_SESSION = 0xffff;
/** Messages that one datagram can hold: 0xFFFF means the end of the session. */
export const MAX_MESSAGES = 0xfffe;
/** Longest UDP payload over IPv4. */
export const MAX_DATAGRAM_BYTES = 65_507;

/** A datagram's header; reused by its owner, so that reading allocates nothing. */
export interface MoldHeader {
  /** Sequence number of the first message */
  seq: number;
  /** Messages that the header claims; 0 for heartbeat and end of session */
  count: number;
  endOfSession: boolean;
}

/** Why a header was refused. */
export type HeaderFault = 'short_packet' | 'bad_sequence';

/** Reads the header of the datagram [start, end) into `target`; returns what is wrong with it, or null. */
export function readMoldHeader(
  view: DataView,
  start: number,
  end: number,
  target: MoldHeader,
): HeaderFault | null {
  if (end - start < HEADER_BYTES) return 'short_packet';
  const high = view.getUint32(start + 10);
  const seq = high * 0x1_0000_0000 + view.getUint32(start + 14);
  const count = view.getUint16(start + 18);
  target.seq = seq;
  target.endOfSession = count === END_OF_SESSION;
  target.count = target.endOfSession ? 0 : count;
  return seq === 0 || seq + target.count > MAX_SEQUENCE ? 'bad_sequence' : null;
}

/** True where the datagram that begins at `start` has this session field of 10 bytes. */
export function hasSession(bytes: Uint8Array, start: number, session: Uint8Array): boolean {
  for (let i = 0; i < SESSION_BYTES; i++) if (bytes[start + i] !== session[i]) return false;
  return true;
}

/** The session id of a session field: bytes as Latin-1, spaces and NULs at the end taken off. */
export function readMoldSession(field: Uint8Array): string {
  let end = SESSION_BYTES;
  while (end > 0 && (field[end - 1] === 0x20 || field[end - 1] === 0)) end--;
  return String.fromCharCode(...field.subarray(0, end));
}

/** The session field for an id of at most 10 ASCII characters; throws a RangeError for another. */
export function moldSessionField(session: string): Uint8Array {
  if (!/^[\x20-\x7e]{0,10}$/.test(session)) {
    throw new RangeError(`a MoldUDP64 session is at most 10 ASCII characters, found "${session}"`);
  }
  return Uint8Array.from(session.padEnd(SESSION_BYTES), (character) => character.charCodeAt(0));
}

/** Writes a header; `count` may be END_OF_SESSION. */
export function writeMoldHeader(target: Uint8Array, session: Uint8Array, seq: number, count: number): void {
  target.set(session, 0);
  const view = new DataView(target.buffer, target.byteOffset, target.byteLength);
  view.setUint32(10, Math.floor(seq / 0x1_0000_0000));
  view.setUint32(14, seq >>> 0);
  view.setUint16(18, count);
}

/** Appends a message block at `position`; returns the position after it. The caller has checked the room. */
export function writeMoldBlock(target: Uint8Array, position: number, message: Uint8Array): number {
  target[position] = message.byteLength >>> 8;
  target[position + 1] = message.byteLength & 0xff;
  target.set(message, position + BLOCK_PREFIX_BYTES);
  return position + BLOCK_PREFIX_BYTES + message.byteLength;
}
