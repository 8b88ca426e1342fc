// The payload of a WAL block: a sealed batch. All numbers little-endian, every section starts 8-aligned and
// is padded with zeros to 8, so that a reader lays typed arrays over the bytes without copying.
//
//   offset  size                  content
//   0       u32                   layoutVersion = 1
//   4       u32                   columnCount (the topic's own columns)
//   8       u32                   streamCount
//   12      u32                   streamTableSizeBytes, without padding
//   16      streamTableSizeBytes  stream table: streamCount × (u16 sourceLength, u16 sessionLength,
//                                 source, session)
//           u32 [n]               stream index of each row, n = rowCount of the block header
//           u64 [n]               seq
//           i64 [n]               ingest_ts, ns since 1970
//   then for each column, in column order:
//           u8  [n]               null map, 1 = NULL; only for nullable columns
//           value [n]             fixed columns: the values
//           u32 [n + 1]           string and array columns: offsets in elements, the first is 0
//           element [offsets[n]]  string and array columns: the data
//
// The payload ends with the last section; its size is always a multiple of 8.

import { RecorderError } from '../errors.ts';
import type { ColumnModel, TopicModel } from '../schema/model.ts';
import { arenaSections, type Batch, endRowCount, varElementCount } from './batch.ts';
import { holdsDefaults } from './clean-cells.ts';

export const LAYOUT_VERSION = 1;
const HEADER_SIZE_BYTES = 16;

/** Names of a stream as the producer gave them, up to 65,535 bytes each. */
export interface StreamName {
  source: Uint8Array;
  session: Uint8Array;
}

export interface BlockColumn {
  model: ColumnModel;
  /** n bytes, 1 = NULL; null for a column that is not nullable. */
  nulls: Uint8Array | null;
  /** fixed: n values, 64-bit ones as two u32 words (low, high). string, array: null. */
  values: Uint8Array | Uint16Array | Uint32Array | null;
  /** string, array: n + 1 offsets in elements. fixed: null. */
  offsets: Uint32Array | null;
  /** fixed: bytes of the values. string, array: bytes of all rows' data, without padding. */
  bytes: Uint8Array;
}

/** A block's columns as views over its payload; valid as long as the payload's bytes are. */
export interface BlockView {
  model: TopicModel;
  /** All of it: the views below lie in these bytes. */
  payload: Uint8Array;
  rowCount: number;
  streams: StreamName[];
  streamIndex: Uint32Array;
  /** seq as two words (low, high) a row. */
  seqWords: Uint32Array;
  /** ingest_ts as two words (low, high) a row. */
  ingestTsWords: Uint32Array;
  columns: BlockColumn[];
}

/** A payload that is not a block of this topic; `position` is the byte where it shows. */
export class BlockFormatError extends RecorderError {
  readonly position: number;

  constructor(message: string, position: number) {
    super('block_format', `block payload, byte ${position}: ${message}`);
    this.name = 'BlockFormatError';
    this.position = position;
  }
}

/** Rounded up to 8; not by bit operations, because a damaged payload may claim more than 2^31 bytes. */
const padded = (sizeBytes: number) => Math.ceil(sizeBytes / 8) * 8;

function streamTableSizeBytes(streams: StreamName[]): number {
  return streams.reduce((sum, { source, session }) => sum + 4 + source.length + session.length, 0);
}

/**
 * Size of the batch's payload, a multiple of 8.
 * @param streams the names of batch.streamIds, in that order
 */
export function blockSizeBytes(batch: Batch, streams: StreamName[]): number {
  const n = batch.rowCount;
  let size = HEADER_SIZE_BYTES + padded(streamTableSizeBytes(streams)) + padded(4 * n) + 16 * n;
  for (const column of batch.model.columns) {
    if (column.nullable) size += padded(n);
    size += column.kind === 'fixed' ? padded(n * column.widthBytes) : padded(4 * (n + 1));
    if (column.kind !== 'fixed') size += padded(varElementCount(batch, column) * column.widthBytes);
  }
  return size;
}

/**
 * Writes the batch as a payload; padding is zeroed, every byte of `target` is written.
 * @param target 8-aligned in its buffer, exactly blockSizeBytes(batch, streams) long
 */
export function encodeBlock(batch: Batch, streams: StreamName[], target: Uint8Array): void {
  const { rowCount: n, stride, u8 } = batch;
  const words = new Uint32Array(target.buffer, target.byteOffset, target.length / 4);
  let position = encodeStreams(batch, streams, target);
  const put = (source: Uint8Array, start: number, sizeBytes: number) => {
    target.set(source.subarray(start, start + sizeBytes), position);
    position += sizeBytes;
  };
  const fill = (byte: number, sizeBytes: number) => {
    target.fill(byte, position, position + sizeBytes);
    position += sizeBytes;
  };
  const pad = () => fill(0, padded(position) - position);
  put(u8, arenaSections.streamIndex(batch), 4 * n);
  pad();
  put(u8, arenaSections.seq(batch), 8 * n);
  put(u8, arenaSections.ingestTs(batch), 8 * n);
  for (const column of batch.model.columns) {
    const place = batch.layout.places[column.index]!;
    // Written without reading what all rows leave out.
    const isDefault = holdsDefaults(batch, column.index);
    if (column.nullable) {
      if (isDefault) fill(1, n);
      else put(u8, stride * place.nullsBefore, n);
      pad();
    }
    if (column.kind === 'fixed') {
      if (isDefault && column.defaultBits === 0n) fill(0, n * column.widthBytes);
      else put(u8, stride * place.before, n * column.widthBytes);
    } else {
      const elementCount = varElementCount(batch, column);
      const endRows = endRowCount(batch, column);
      fill(0, 4);
      put(u8, stride * place.before, 4 * endRows);
      words.fill(elementCount, position / 4, position / 4 + n - endRows);
      position += 4 * (n - endRows);
      pad();
      put(batch.vars[place.varIndex]!.bytes, 0, elementCount * column.widthBytes);
    }
    pad();
  }
}

/** Writes header and stream table; returns where the next section begins. */
function encodeStreams(batch: Batch, streams: StreamName[], target: Uint8Array): number {
  const view = new DataView(target.buffer, target.byteOffset, target.byteLength);
  view.setUint32(0, LAYOUT_VERSION, true);
  view.setUint32(4, batch.model.columns.length, true);
  view.setUint32(8, streams.length, true);
  view.setUint32(12, streamTableSizeBytes(streams), true);
  let position = HEADER_SIZE_BYTES;
  for (const { source, session } of streams) {
    view.setUint16(position, source.length, true);
    view.setUint16(position + 2, session.length, true);
    target.set(source, position + 4);
    target.set(session, position + 4 + source.length);
    position += 4 + source.length + session.length;
  }
  target.fill(0, position, padded(position));
  return padded(position);
}

/** Walks over a payload section by section, checking that each lies inside. */
class SectionReader {
  readonly payload: Uint8Array;
  position = 0;

  constructor(payload: Uint8Array) {
    if (payload.byteOffset % 8 !== 0) throw new BlockFormatError('payload is not 8-aligned in memory', 0);
    this.payload = payload;
  }

  /** The next section, without its padding. */
  section(sizeBytes: number, what: string): Uint8Array {
    const start = this.position;
    if (start + padded(sizeBytes) > this.payload.length) {
      throw new BlockFormatError(
        `${what} (${sizeBytes} bytes) goes past the end at ${this.payload.length}`,
        start,
      );
    }
    this.position = start + padded(sizeBytes);
    return this.payload.subarray(start, start + sizeBytes);
  }

  words(count: number, what: string): Uint32Array {
    const bytes = this.section(count * 4, what);
    return new Uint32Array(bytes.buffer, bytes.byteOffset, count);
  }
}

/**
 * Lays typed arrays over a payload. Every section, offset and stream index is checked, so that a user of the
 * view needs no checks of its own.
 * @param payload 8-aligned in its buffer; the view is valid as long as these bytes are
 * @throws BlockFormatError
 */
export function openBlock(model: TopicModel, payload: Uint8Array, rowCount: number): BlockView {
  const reader = new SectionReader(payload);
  const header = reader.words(4, 'header');
  const [version, columnCount, streamCount, tableSizeBytes] = header as unknown as [
    number,
    number,
    number,
    number,
  ];
  if (version !== LAYOUT_VERSION) throw wrongVersion(version);
  if (columnCount !== model.columns.length) {
    throw new BlockFormatError(`${columnCount} columns, ${model.topic} has ${model.columns.length}`, 4);
  }
  const streams = readStreams(reader.section(tableSizeBytes, 'stream table'), streamCount);
  const indexPosition = reader.position;
  const streamIndex = reader.words(rowCount, 'stream indexes');
  for (let row = 0; row < rowCount; row++) {
    if (streamIndex[row]! >= streamCount) {
      throw new BlockFormatError(
        `row ${row} has stream ${streamIndex[row]} of ${streamCount}`,
        indexPosition + row * 4,
      );
    }
  }
  const seqWords = reader.words(rowCount * 2, 'seq');
  const ingestTsWords = reader.words(rowCount * 2, 'ingest_ts');
  const columns = model.columns.map((column) => openColumn(reader, column, rowCount));
  if (reader.position !== payload.length) {
    throw new BlockFormatError(`${payload.length - reader.position} bytes left over`, reader.position);
  }
  return { model, payload, rowCount, streams, streamIndex, seqWords, ingestTsWords, columns };
}

/**
 * The rows' ingest_ts alone, as `openBlock` gives them: what a reader needs that only asks where rows belong.
 * Nothing else of the block is checked.
 * @throws BlockFormatError
 */
export function ingestTimes(payload: Uint8Array, rowCount: number): Uint32Array {
  const reader = new SectionReader(payload);
  const [version, , , tableSizeBytes] = reader.words(4, 'header');
  if (version !== LAYOUT_VERSION) throw wrongVersion(version!);
  reader.section(tableSizeBytes!, 'stream table');
  reader.words(rowCount, 'stream indexes');
  reader.words(rowCount * 2, 'seq');
  return reader.words(rowCount * 2, 'ingest_ts');
}

function wrongVersion(version: number): BlockFormatError {
  return new BlockFormatError(`layout version ${version}, ${LAYOUT_VERSION} expected`, 0);
}

function readStreams(table: Uint8Array, streamCount: number): StreamName[] {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  const streams: StreamName[] = [];
  let position = 0;
  for (let i = 0; i < streamCount; i++) {
    const lengths = position + 4 <= table.length;
    const sourceEnd = lengths ? position + 4 + view.getUint16(position, true) : 0;
    const sessionEnd = lengths ? sourceEnd + view.getUint16(position + 2, true) : 0;
    if (!lengths || sessionEnd > table.length) {
      throw new BlockFormatError(`stream ${i} goes past the stream table`, HEADER_SIZE_BYTES + position);
    }
    streams.push({
      source: table.subarray(position + 4, sourceEnd),
      session: table.subarray(sourceEnd, sessionEnd),
    });
    position = sessionEnd;
  }
  if (position !== table.length) {
    throw new BlockFormatError('the stream table is longer than its streams', HEADER_SIZE_BYTES + position);
  }
  return streams;
}

function openColumn(reader: SectionReader, model: ColumnModel, rowCount: number): BlockColumn {
  const nulls = model.nullable ? reader.section(rowCount, `${model.name} null map`) : null;
  if (model.kind === 'fixed') {
    const bytes = reader.section(rowCount * model.widthBytes, model.name);
    return { model, nulls, values: valuesOver(bytes, model.widthBytes), offsets: null, bytes };
  }
  const position = reader.position;
  const offsets = reader.words(rowCount + 1, `${model.name} offsets`);
  if (offsets[0] !== 0) throw new BlockFormatError(`${model.name}: the first offset is not 0`, position);
  for (let row = 0; row < rowCount; row++) {
    if (offsets[row + 1]! < offsets[row]!) {
      throw new BlockFormatError(`${model.name}: the offsets fall at row ${row}`, position + 4 * row);
    }
  }
  const bytes = reader.section(offsets[rowCount]! * model.widthBytes, `${model.name} data`);
  return { model, nulls, values: null, offsets, bytes };
}

function valuesOver(bytes: Uint8Array, widthBytes: 1 | 2 | 4 | 8): Uint8Array | Uint16Array | Uint32Array {
  if (widthBytes === 1) return bytes;
  if (widthBytes === 2) return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}
