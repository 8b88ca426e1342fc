// Encoder of ClickHouse's RowBinary: row by row, no header. Generated from the model: one straight function a
// topic, without dispatch on column kinds and without an object or a BigInt a row.
//
//   fixed    its bytes, little-endian
//   String   LEB128 length, bytes
//   Array    LEB128 count, elements
//   Nullable u8: 1 = NULL and nothing follows, 0 = the value follows

import type { BlockView } from '../columns/block-codec.ts';
import type { ColumnModel, TopicModel } from '../schema/model.ts';
import {
  type ByteSink,
  createByteSink,
  MAX_VARINT_SIZE_BYTES,
  reserve,
  resetSink,
  writeString,
} from './byte-sink.ts';
import type { BlockSlice, GroupEncoder, GroupOrigin } from './group-encoder.ts';

/** Strings and arrays up to this many bytes are copied byte by byte: cheaper than making a subarray. */
const SHORT_COPY_BYTES = 48;

/** Encodes rows of one block. `prefixes[i]` holds recorder, source and session of stream i, encoded. */
type EncodeRows = (
  sink: ByteSink,
  view: BlockView,
  fromRow: number,
  toRow: number,
  prefixes: readonly Uint8Array[],
  origin: { walIdLow: number; walIdHigh: number; lsnLow: number; lsnHigh: number },
) => void;

/** Makes the RowBinary encoder of a topic: the columns of `tableColumns(model)` in that order. */
export function createRowBinaryEncoder(model: TopicModel): GroupEncoder {
  const encodeRows = compile(model);
  const prefixSink = createByteSink(1024);
  return (sink, slices, origin) => {
    const walIdLow = Number(origin.walId & 0xffff_ffffn);
    const walIdHigh = Number(origin.walId >> 32n);
    for (const slice of slices) {
      const firstLsn = slice.lsn + BigInt(slice.fromRow);
      encodeRows(sink, slice.view, slice.fromRow, slice.toRow, streamPrefixes(slice, origin, prefixSink), {
        walIdLow,
        walIdHigh,
        lsnLow: Number(firstLsn & 0xffff_ffffn),
        lsnHigh: Number(firstLsn >> 32n),
      });
    }
  };
}

function streamPrefixes(slice: BlockSlice, origin: GroupOrigin, sink: ByteSink): Uint8Array[] {
  return slice.view.streams.map(({ source, session }) => {
    resetSink(sink);
    writeString(sink, origin.recorder);
    writeString(sink, source);
    writeString(sink, session);
    return sink.bytes.slice(0, sink.position);
  });
}

function compile(model: TopicModel): EncodeRows {
  const fixedBytes = model.columns.reduce((sum, column) => sum + mostFixedBytes(column), 32);
  const variable = model.columns.filter((column) => column.kind !== 'fixed');
  const sizes = variable.map(
    ({ index, widthBytes }) => `(o${index}[row + 1] - o${index}[row]) * ${widthBytes}`,
  );
  const source = `
    return function encodeRows(sink, block, fromRow, toRow, prefixes, origin) {
      ${model.columns.map(declare).join('\n')}
      const streamIndex = block.streamIndex, seq = block.seqWords, ts = block.ingestTsWords;
      const walIdLow = origin.walIdLow | 0, walIdHigh = origin.walIdHigh | 0;
      let lsnLow = origin.lsnLow | 0, lsnHigh = origin.lsnHigh | 0;
      let bytes = sink.bytes, view = sink.view, p = sink.position;
      for (let row = fromRow; row < toRow; row++) {
        const prefix = prefixes[streamIndex[row]];
        const needed = ${[fixedBytes, 'prefix.length', ...sizes].join(' + ')};
        if (p + needed > bytes.length) {
          sink.position = p;
          reserve(sink, needed);
          bytes = sink.bytes; view = sink.view;
        }
        let start = 0, end = 0, rest = 0;
        ${model.columns.map(writeCell).join('\n')}
        bytes.set(prefix, p);
        p += prefix.length;
        view.setInt32(p, seq[row * 2], true); view.setInt32(p + 4, seq[row * 2 + 1], true);
        view.setInt32(p + 8, ts[row * 2], true); view.setInt32(p + 12, ts[row * 2 + 1], true);
        view.setInt32(p + 16, walIdLow, true); view.setInt32(p + 20, walIdHigh, true);
        view.setInt32(p + 24, lsnLow, true); view.setInt32(p + 28, lsnHigh, true);
        p += 32;
        lsnLow = (lsnLow + 1) | 0;
        if (lsnLow === 0) lsnHigh = (lsnHigh + 1) | 0;
      }
      sink.position = p;
    };`;
  return new Function('reserve', source)(reserve) as EncodeRows;
}

/** Most bytes of a row that a column takes apart from the data of a string or an array. */
function mostFixedBytes(column: ColumnModel): number {
  const value = column.kind === 'fixed' ? column.widthBytes : MAX_VARINT_SIZE_BYTES;
  return value + (column.nullable ? 1 : 0);
}

function declare({ index, kind, nullable }: ColumnModel): string {
  const parts = [nullable ? `n${index} = block.columns[${index}].nulls` : ''];
  if (kind === 'fixed') parts.push(`v${index} = block.columns[${index}].values`);
  else parts.push(`o${index} = block.columns[${index}].offsets, d${index} = block.columns[${index}].bytes`);
  return `const ${parts.filter((part) => part !== '').join(', ')};`;
}

function writeCell(column: ColumnModel): string {
  const value = column.kind === 'fixed' ? writeFixed(column) : writeVariable(column);
  if (!column.nullable) return value;
  return `bytes[p++] = n${column.index}[row]; if (n${column.index}[row] === 0) { ${value} }`;
}

function writeFixed({ index, widthBytes }: ColumnModel): string {
  switch (widthBytes) {
    case 1:
      return `bytes[p++] = v${index}[row];`;
    case 2:
      return `view.setUint16(p, v${index}[row], true); p += 2;`;
    case 4:
      return `view.setInt32(p, v${index}[row], true); p += 4;`;
    case 8:
      return `
        view.setInt32(p, v${index}[row * 2], true); view.setInt32(p + 4, v${index}[row * 2 + 1], true);
        p += 8;`;
  }
}

function writeVariable({ index, widthBytes }: ColumnModel): string {
  return `
    start = o${index}[row]; end = o${index}[row + 1];
    for (rest = end - start; rest >= 128; rest = Math.floor(rest / 128)) bytes[p++] = (rest & 127) | 128;
    bytes[p++] = rest;
    start *= ${widthBytes}; end *= ${widthBytes};
    if (end - start > ${SHORT_COPY_BYTES}) { bytes.set(d${index}.subarray(start, end), p); p += end - start; }
    else while (start < end) bytes[p++] = d${index}[start++];`;
}
