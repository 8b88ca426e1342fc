// Encoder of ClickHouse's Native format: each part of a group is a block, column after column, as revision 0
// of the protocol has it (what a server assumes of an HTTP insert). The server joins the blocks of an insert.
//
//   LEB128 column count, LEB128 row count, then for each column:
//     String name, String type
//     Nullable  u8 [n] null map in front of the values
//     fixed     values [n], little-endian
//     String    n times LEB128 length and bytes
//     Array     u64 [n] end offsets, then the elements of all rows
//
// LowCardinality does not exist at revision 0: such a column travels as what it wraps, and the server
// converts.

import type { TopicModel } from '../schema/model.ts';
import {
  type ByteSink,
  MAX_VARINT_SIZE_BYTES,
  reserve,
  writeBytes,
  writeString,
  writeVarint,
} from './byte-sink.ts';
import type { BlockSlice, GroupEncoder, GroupOrigin } from './group-encoder.ts';
import { tableColumns } from './table-columns.ts';

const text = new TextEncoder();

/** Writes the values of one column, all slices. */
type WriteColumn = (sink: ByteSink, slices: readonly BlockSlice[], origin: GroupOrigin) => void;

/**
 * Makes the Native encoder of a topic.
 * @param serverTypes types of the server's columns in the order of `tableColumns(model)`, as system.columns
 * has them
 */
export function createNativeEncoder(model: TopicModel, serverTypes: readonly string[]): GroupEncoder {
  const columns = tableColumns(model).map((column, index) => ({
    name: text.encode(column.name),
    type: text.encode(nativeType(serverTypes[index]!)),
    write: column.model === null ? provenanceWriter(column.name) : ownColumnWriter(model, column.model.index),
  }));
  return (sink, slices, origin) => {
    reserve(sink, 2 * MAX_VARINT_SIZE_BYTES);
    writeVarint(sink, columns.length);
    writeVarint(sink, rowsIn(slices));
    for (const { name, type, write } of columns) {
      writeString(sink, name);
      writeString(sink, type);
      write(sink, slices, origin);
    }
  };
}

/** Type name in the header for a column of this type. */
export function nativeType(type: string): string {
  const wrapped = /^(LowCardinality|Nullable|Array)\((.*)\)$/.exec(type);
  // Revision 0 does not know the time zone of DateTime; that of DateTime64 it keeps.
  if (wrapped === null) return type.replace(/^DateTime\('.*'\)$/, 'DateTime');
  const inner = nativeType(wrapped[2]!);
  return wrapped[1] === 'LowCardinality' ? inner : `${wrapped[1]}(${inner})`;
}

function rowsIn(slices: readonly BlockSlice[]): number {
  return slices.reduce((sum, { fromRow, toRow }) => sum + toRow - fromRow, 0);
}

function ownColumnWriter(model: TopicModel, index: number): WriteColumn {
  const { kind, nullable, widthBytes } = model.columns[index]!;
  const write: WriteColumn =
    kind === 'fixed'
      ? (sink, slices) => writeFixed(sink, slices, index, widthBytes)
      : kind === 'string'
        ? (sink, slices) => writeStrings(sink, slices, index)
        : (sink, slices) => writeArrays(sink, slices, index, widthBytes);
  if (!nullable) return write;
  return (sink, slices, origin) => {
    for (const { view, fromRow, toRow } of slices) {
      writeBytes(sink, view.columns[index]!.nulls!.subarray(fromRow, toRow));
    }
    write(sink, slices, origin);
  };
}

function writeFixed(sink: ByteSink, slices: readonly BlockSlice[], index: number, widthBytes: number): void {
  for (const { view, fromRow, toRow } of slices) {
    writeBytes(sink, view.columns[index]!.bytes.subarray(fromRow * widthBytes, toRow * widthBytes));
  }
}

function writeStrings(sink: ByteSink, slices: readonly BlockSlice[], index: number): void {
  for (const { view, fromRow, toRow } of slices) {
    const { offsets, bytes: data } = view.columns[index]!;
    const ends = offsets!;
    reserve(sink, ends[toRow]! - ends[fromRow]! + (toRow - fromRow) * MAX_VARINT_SIZE_BYTES);
    const { bytes } = sink;
    let position = sink.position;
    let from = ends[fromRow]!;
    for (let row = fromRow; row < toRow; row++) {
      const end = ends[row + 1]!;
      let length = end - from;
      for (; length >= 0x80; length = Math.floor(length / 0x80)) bytes[position++] = (length & 0x7f) | 0x80;
      bytes[position++] = length;
      // Most strings are short ids: a loop beats making a subarray.
      if (end - from > 48) {
        bytes.set(data.subarray(from, end), position);
        position += end - from;
        from = end;
      } else while (from < end) bytes[position++] = data[from++]!;
    }
    sink.position = position;
  }
}

function writeArrays(sink: ByteSink, slices: readonly BlockSlice[], index: number, widthBytes: number): void {
  reserve(sink, rowsIn(slices) * 8);
  let before = 0;
  for (const { view, fromRow, toRow } of slices) {
    const offsets = view.columns[index]!.offsets!;
    const shift = before - offsets[fromRow]!;
    for (let row = fromRow; row < toRow; row++) {
      const end = offsets[row + 1]! + shift;
      sink.view.setUint32(sink.position, end % 0x1_0000_0000, true);
      sink.view.setUint32(sink.position + 4, Math.floor(end / 0x1_0000_0000), true);
      sink.position += 8;
    }
    before = offsets[toRow]! + shift;
  }
  for (const { view, fromRow, toRow } of slices) {
    const { offsets, bytes } = view.columns[index]!;
    writeBytes(sink, bytes.subarray(offsets![fromRow]! * widthBytes, offsets![toRow]! * widthBytes));
  }
}

function provenanceWriter(name: string): WriteColumn {
  switch (name) {
    case 'recorder':
      return (sink, slices, origin) => {
        const start = sink.position;
        writeString(sink, origin.recorder);
        repeat(sink, start, rowsIn(slices));
      };
    case 'source':
    case 'session':
      return (sink, slices) => writeStreamNames(sink, slices, name);
    case 'seq':
      return (sink, slices) => writeWords(sink, slices, 'seqWords');
    case 'ingest_ts':
      return (sink, slices) => writeWords(sink, slices, 'ingestTsWords');
    case 'wal_id':
      return (sink, slices, { walId }) => {
        const start = sink.position;
        writeBytes(sink, new Uint8Array(new BigUint64Array([walId]).buffer));
        repeat(sink, start, rowsIn(slices));
      };
    case 'wal_lsn':
      return writeLsns;
    default:
      throw new Error(`no writer for provenance column ${name}`);
  }
}

function writeStreamNames(sink: ByteSink, slices: readonly BlockSlice[], part: 'source' | 'session'): void {
  for (const { view, fromRow, toRow } of slices) {
    const { streams, streamIndex } = view;
    for (let row = fromRow; row < toRow; ) {
      const index = streamIndex[row]!;
      let end = row + 1;
      while (end < toRow && streamIndex[end] === index) end++;
      const start = sink.position;
      writeString(sink, streams[index]![part]);
      repeat(sink, start, end - row);
      row = end;
    }
  }
}

/** What was written from `start` on, once, shall be there `count` times. */
function repeat(sink: ByteSink, start: number, count: number): void {
  const sizeBytes = sink.position - start;
  const end = start + sizeBytes * count;
  reserve(sink, end - sink.position);
  while (sink.position < end) {
    const next = Math.min(end, sink.position + (sink.position - start));
    sink.bytes.copyWithin(sink.position, start, start + next - sink.position);
    sink.position = next;
  }
}

function writeWords(sink: ByteSink, slices: readonly BlockSlice[], part: 'seqWords' | 'ingestTsWords'): void {
  for (const { view, fromRow, toRow } of slices) {
    const words = view[part];
    writeBytes(sink, new Uint8Array(words.buffer, words.byteOffset + fromRow * 8, (toRow - fromRow) * 8));
  }
}

function writeLsns(sink: ByteSink, slices: readonly BlockSlice[]): void {
  reserve(sink, rowsIn(slices) * 8);
  for (const { lsn, fromRow, toRow } of slices) {
    // A slice's LSNs are consecutive: counted in two words, as everything that is done for each row.
    const first = lsn + BigInt(fromRow);
    let low = Number(first & 0xffff_ffffn);
    let high = Number(first >> 32n);
    for (let row = fromRow; row < toRow; row++) {
      sink.view.setUint32(sink.position, low, true);
      sink.view.setUint32(sink.position + 4, high, true);
      sink.position += 8;
      low = (low + 1) >>> 0;
      if (low === 0) high += 1;
    }
  }
}
