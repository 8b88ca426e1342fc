// Checks a frame against a topic's model, field by field, as flatbuffers::Verifier does in C++: everything
// that a reader would touch lies inside the frame. Written apart from the extractors, which must come to the
// same answer.
//
// What is asked of a frame (offsets from its first byte, sizes in bytes):
//   frame    at least 16: root offset, identifier, smallest vtable, smallest table
//   root     u32 at 0; 8 or more; the 4 bytes there lie in the frame
//   vtable   table minus the i32 at the table; its u16 size is even, at least 4, and lies in the frame
//   field    its u16 vtable entry, 0 or beyond the vtable = absent; the value lies in the frame
//   string   positive u32 offset; u32 length, the bytes and a terminating zero lie in the frame
//   vector   positive u32 offset; u32 count and the elements lie in the frame
// Alignment is not asked for: frames lie anywhere in a chunk of a stream. Content is not either: strings may
// be any bytes, enums any number.

import { Malformed } from './malformed.ts';
import type { ColumnModel, TopicModel } from './model.ts';

export const MIN_FRAME_SIZE_BYTES = 16;

/** Where the table and its vtable lie in a frame; the caller's, reused. */
export interface TablePosition {
  table: number;
  vtable: number;
  vtableSizeBytes: number;
}

/** Position of a field's value in the frame, 0 where the field is absent. */
export function fieldPosition(frame: DataView, position: TablePosition, slot: number): number {
  const entry = 4 + 2 * slot;
  if (entry + 2 > position.vtableSizeBytes) return 0;
  const offset = frame.getUint16(position.vtable + entry, true);
  return offset === 0 ? 0 : position.table + offset;
}

/**
 * Checks one frame (the whole of `frame`) and sets `position` where its table is sound.
 * @returns Malformed.ok or the code of the first fault, in field order
 */
export function verifyFrame(model: TopicModel, frame: DataView, position: TablePosition): number {
  const size = frame.byteLength;
  if (size < MIN_FRAME_SIZE_BYTES) return Malformed.too_short;
  const table = frame.getUint32(0, true);
  if (table < 8 || table + 4 > size) return Malformed.bad_root;
  const vtable = table - frame.getInt32(table, true);
  if (vtable < 0 || vtable + 4 > size) return Malformed.bad_vtable;
  const vtableSizeBytes = frame.getUint16(vtable, true);
  if (vtableSizeBytes < 4 || vtableSizeBytes % 2 !== 0 || vtable + vtableSizeBytes > size) {
    return Malformed.bad_vtable;
  }
  position.table = table;
  position.vtable = vtable;
  position.vtableSizeBytes = vtableSizeBytes;
  for (const column of model.columns) {
    const code = verifyField(column, frame, fieldPosition(frame, position, column.slot));
    if (code !== Malformed.ok) return code;
  }
  return Malformed.ok;
}

function verifyField(column: ColumnModel, frame: DataView, at: number): number {
  if (at === 0) return column.required ? Malformed.missing_required : Malformed.ok;
  const inlineBytes = column.kind === 'fixed' ? column.widthBytes : 4;
  if (at + inlineBytes > frame.byteLength) return Malformed.bad_field;
  if (column.kind === 'fixed') return Malformed.ok;
  const bad = column.kind === 'string' ? Malformed.bad_string : Malformed.bad_vector;
  const offset = frame.getUint32(at, true);
  const target = at + offset;
  if (offset === 0 || target + 4 > frame.byteLength) return bad;
  const end = target + 4 + frame.getUint32(target, true) * column.widthBytes;
  if (end > frame.byteLength) return bad;
  if (column.kind === 'array') return Malformed.ok;
  return end < frame.byteLength && frame.getUint8(end) === 0 ? Malformed.ok : bad;
}
