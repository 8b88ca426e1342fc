// The control messages of a session (schemas/control.fbs): size-prefixed FlatBuffers with identifiers of
// their own. Encoded with the flatbuffers package's Builder; decoded by a checked reader of these four flat
// tables, because what a peer sends is not trusted. Pure: no IO. The tests hold both against flatc.
//
//   identifier  table    vtable slots
//   HELO        Hello    0 version u16 = 1, 1 source string, 2 session string, 3 next_seq u64 = 1
//   WLCM        Welcome  0 version u16 = 1, 1 durable_seq u64 = 0, 2 max_frame_bytes u32 = 0
//   ACKN        Ack      0 durable_seq u64 = 0
//   GBYE        Goodbye  0 reason string
//
//   frame, without its size prefix           table, at its own offset
//   offset  size  field                      offset  size  field
//        0     4  offset of the table, u32        0     4  i32: vtable lies at this many bytes before
//        4     4  identifier                      …        fields, at the offsets the vtable gives
//   vtable: u16 its size, u16 the table's size, then one u16 a slot: offset in the table, 0 for absent

import { Builder } from 'flatbuffers';
import { DEFAULT_MAX_FRAME_BYTES, MIN_FRAME_BYTES } from './frame-reader.ts';

export const PROTOCOL_VERSION = 1;
/** Longest source name and session id, in bytes of UTF-8. */
export const MAX_NAME_BYTES = 255;

/**
 * Reasons of a Goodbye after which a producer may connect again; every other says that it would be turned
 * away again.
 */
export const RetryableGoodbye = {
  stopping: 'the recorder stops',
  tooManyConnections: 'too many connections',
} as const;

export interface Hello {
  kind: 'hello';
  version: number;
  source: string;
  session: string;
  /** Sequence number of the first frame that follows */
  nextSeq: number;
}
export interface Welcome {
  kind: 'welcome';
  version: number;
  durableSeq: number;
  maxFrameBytes: number;
}
export interface Ack {
  kind: 'ack';
  durableSeq: number;
}
export interface Goodbye {
  kind: 'goodbye';
  reason: string;
}
export type ControlMessage = Hello | Welcome | Ack | Goodbye;

/** Why a control message was refused; an expected outcome, so a value. */
export interface ControlFault {
  kind: 'fault';
  reason: string;
}

const fourBytes = (text: string): number =>
  text.charCodeAt(0) | (text.charCodeAt(1) << 8) | (text.charCodeAt(2) << 16) | (text.charCodeAt(3) << 24);
const HELLO = fourBytes('HELO');
const WELCOME = fourBytes('WLCM');
const ACK = fourBytes('ACKN');
const GOODBYE = fourBytes('GBYE');

/** True where the frame that starts at `start` has the identifier of Hello. */
export function isHello(view: DataView, start: number): boolean {
  return view.getInt32(start + 4, true) === HELLO;
}

/** True where the frame that starts at `start` has the identifier of any control message. */
export function isControl(view: DataView, start: number): boolean {
  const identifier = view.getInt32(start + 4, true);
  return identifier === HELLO || identifier === WELCOME || identifier === ACK || identifier === GOODBYE;
}

/** Hello, size-prefixed. `source` and `session` are 1 to 255 bytes of UTF-8. */
export function encodeHello(source: string, session: string, nextSeq: number): Uint8Array {
  const builder = new Builder(256);
  const sourceOffset = builder.createString(source);
  const sessionOffset = builder.createString(session);
  builder.startObject(4);
  builder.addFieldInt64(3, BigInt(nextSeq), 1n);
  builder.addFieldOffset(1, sourceOffset, 0);
  builder.addFieldOffset(2, sessionOffset, 0);
  builder.addFieldInt16(0, PROTOCOL_VERSION, 1);
  return finish(builder, 'HELO');
}

/** Welcome, size-prefixed. */
export function encodeWelcome(durableSeq: number, maxFrameBytes: number): Uint8Array {
  const builder = new Builder(64);
  builder.startObject(3);
  builder.addFieldInt64(1, BigInt(durableSeq), 0n);
  builder.addFieldInt32(2, maxFrameBytes, 0);
  builder.addFieldInt16(0, PROTOCOL_VERSION, 1);
  return finish(builder, 'WLCM');
}

/** Ack, size-prefixed: all frames up to and with `durableSeq` are durable. */
export function encodeAck(durableSeq: number): Uint8Array {
  const builder = new Builder(64);
  builder.startObject(1);
  builder.addFieldInt64(0, BigInt(durableSeq), 0n);
  return finish(builder, 'ACKN');
}

/** Goodbye, size-prefixed. */
export function encodeGoodbye(reason: string): Uint8Array {
  const builder = new Builder(256);
  const reasonOffset = builder.createString(reason);
  builder.startObject(1);
  builder.addFieldOffset(0, reasonOffset, 0);
  return finish(builder, 'GBYE');
}

function finish(builder: Builder, identifier: string): Uint8Array {
  builder.finishSizePrefixed(builder.endObject(), identifier);
  return builder.asUint8Array();
}

/** Decodes the control message in bytes[start, end), without its size prefix; every offset is checked. */
export function decodeControl(
  bytes: Uint8Array,
  view: DataView,
  start: number,
  end: number,
): ControlMessage | ControlFault {
  if (end - start < MIN_FRAME_BYTES) return fault('shorter than 8 bytes');
  const table = openTable(view, start, end);
  if (table === null) return fault('the table lies outside the frame');
  switch (view.getInt32(start + 4, true)) {
    case HELLO:
      return decodeHello(bytes, table);
    case WELCOME: {
      const version = readUint(table, 0, 2, 1);
      const durableSeq = readSeq(table, 1, 0);
      const maxFrameBytes = readUint(table, 2, 4, DEFAULT_MAX_FRAME_BYTES);
      if (version === null || durableSeq === null || maxFrameBytes === null)
        return fault('bad field in Welcome');
      return { kind: 'welcome', version, durableSeq, maxFrameBytes };
    }
    case ACK: {
      const durableSeq = readSeq(table, 0, 0);
      return durableSeq === null ? fault('bad field in Ack') : { kind: 'ack', durableSeq };
    }
    case GOODBYE: {
      const reason = readString(bytes, table, 0);
      return reason === null ? fault('bad reason in Goodbye') : { kind: 'goodbye', reason };
    }
    default:
      return fault('not the identifier of a control message');
  }
}

function decodeHello(bytes: Uint8Array, table: Table): Hello | ControlFault {
  const version = readUint(table, 0, 2, 1);
  if (version === null) return fault('bad version field');
  if (version !== PROTOCOL_VERSION) {
    return fault(`protocol version ${version} is not known, this recorder speaks ${PROTOCOL_VERSION}`);
  }
  const source = readString(bytes, table, 1);
  const session = readString(bytes, table, 2);
  if (!isName(source)) return fault(`source must be 1 to ${MAX_NAME_BYTES} bytes of UTF-8`);
  if (!isName(session)) return fault(`session must be 1 to ${MAX_NAME_BYTES} bytes of UTF-8`);
  const nextSeq = readSeq(table, 3, 1);
  if (nextSeq === null || nextSeq === 0) return fault('next_seq must be 1 to 2^53 - 1');
  return { kind: 'hello', version, source, session, nextSeq };
}

const fault = (reason: string): ControlFault => ({ kind: 'fault', reason });

const isName = (text: string | null): text is string => {
  if (text === null || text.length === 0 || text.length > MAX_NAME_BYTES) return false;
  return Buffer.byteLength(text) <= MAX_NAME_BYTES;
};

/** A table whose vtable and inline part lie inside the frame. */
interface Table {
  view: DataView;
  position: number;
  sizeBytes: number;
  vtable: number;
  vtableSizeBytes: number;
  end: number;
}

function openTable(view: DataView, start: number, end: number): Table | null {
  const position = start + view.getUint32(start, true);
  if (position + 4 > end) return null;
  const vtable = position - view.getInt32(position, true);
  if (vtable < start || vtable + 4 > end) return null;
  const vtableSizeBytes = view.getUint16(vtable, true);
  const sizeBytes = view.getUint16(vtable + 2, true);
  if (vtableSizeBytes < 4 || vtable + vtableSizeBytes > end) return null;
  if (sizeBytes < 4 || position + sizeBytes > end) return null;
  return { view, position, sizeBytes, vtable, vtableSizeBytes, end };
}

/** Position of a field of `widthBytes`, 0 where it is absent, -1 where it lies outside the table. */
function fieldPosition(table: Table, slot: number, widthBytes: number): number {
  const entry = 4 + slot * 2;
  if (entry + 2 > table.vtableSizeBytes) return 0;
  const offset = table.view.getUint16(table.vtable + entry, true);
  if (offset === 0) return 0;
  return offset < 4 || offset + widthBytes > table.sizeBytes ? -1 : table.position + offset;
}

function readUint(table: Table, slot: number, widthBytes: 2 | 4, absent: number): number | null {
  const position = fieldPosition(table, slot, widthBytes);
  if (position <= 0) return position === 0 ? absent : null;
  return widthBytes === 2 ? table.view.getUint16(position, true) : table.view.getUint32(position, true);
}

/** A u64 that must not exceed 2^53 - 1. */
function readSeq(table: Table, slot: number, absent: number): number | null {
  const position = fieldPosition(table, slot, 8);
  if (position <= 0) return position === 0 ? absent : null;
  const high = table.view.getUint32(position + 4, true);
  if (high > 0x1f_ffff) return null;
  return high * 0x1_0000_0000 + table.view.getUint32(position, true);
}

/** A string, '' where it is absent, null where it lies outside the frame or is not UTF-8. */
function readString(bytes: Uint8Array, table: Table, slot: number): string | null {
  const field = fieldPosition(table, slot, 4);
  if (field <= 0) return field === 0 ? '' : null;
  const position = field + table.view.getUint32(field, true);
  if (position + 4 > table.end) return null;
  const length = table.view.getUint32(position, true);
  if (position + 4 + length > table.end) return null;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(
      bytes.subarray(position + 4, position + 4 + length),
    );
  } catch {
    return null;
  }
}
