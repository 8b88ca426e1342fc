// A batch: the rows of one topic that are being collected, as columns.
//
// Life cycle: createBatch once; for each frame an extractor writes the cells of row `rowCount`, then
// commitRow adds the provenance and counts the row; when the batch is full or its time is up, encodeBlock
// copies it into the WAL and resetBatch empties it. An extractor that fails half way leaves no trace: what
// lies behind the last counted row is never read.
//
// All fixed-width data lies in one arena: column after column, each `stride` rows long, widest first, so that
// every column is aligned. A column that `before` bytes of each row precede starts at byte stride * before;
// cell `row` is element stride * before / width + row of the typed array of its width. 64-bit cells are two
// 32-bit words (low, high). A string or array column has its end offset (in elements; the start is the end of
// the row before) in the arena and its data in a buffer of its own that grows.

import type { ColumnModel, TopicModel } from '../schema/model.ts';
import { type CellWriter, cleanCells } from './clean-cells.ts';

/** Where a column lies in a batch's arena. */
export interface ColumnPlace {
  /** Bytes of each row that lie before the values (fixed) or the end offsets (string, array). */
  before: number;
  /** The same for the null map; -1 for a column that is not nullable. */
  nullsBefore: number;
  /** Index into `vars` for a string or array, -1 for fixed. */
  varIndex: number;
  /** Words of a fixed column's default. */
  defaultLow: number;
  defaultHigh: number;
}

export interface BatchLayout {
  places: ColumnPlace[];
  /** Bytes of each row before the stream index. */
  streamIndexBefore: number;
  /** Bytes of fixed-width data in one row, provenance included. */
  rowSizeBytes: number;
}

/** Data of one string or array column; `words` and `view` cover the same bytes. */
export interface VarData {
  bytes: Uint8Array;
  words: Int32Array;
  view: DataView;
  widthBytes: number;
  /** Rows whose end offset stands in the arena: those behind them, up to rowCount, are empty. */
  endRows: number;
}

export interface Batch {
  readonly model: TopicModel;
  readonly layout: BatchLayout;
  readonly capacityRows: number;
  /** Rows that each column has room for: capacityRows and some more (see strideOf), a multiple of 8. */
  readonly stride: number;
  /** Views of the arena, which may move (run-memory.ts). */
  i32: Int32Array;
  u16: Uint16Array;
  u8: Uint8Array;
  readonly vars: VarData[];
  rowCount: number;
  /** Size of the rows so far: fixed-width data plus strings and arrays; the block is about this large. */
  sizeBytes: number;
  /** String and array bytes of the row that was extracted and is not yet counted. */
  pendingVarBytes: number;
  /** By column: 1 where the cells behind the counted rows hold the default, and NULL where it can be. */
  readonly isClean: Uint8Array;
  /** By column: 1 where cells of counted rows may hold something else. */
  readonly isDirty: Uint8Array;
  /** Writers (see enterBatch) of rows since the last reset, and the one of the row before. */
  readonly writers: Set<CellWriter>;
  lastWriter: CellWriter | null;
  /** Stream ids in this batch; their position is the stream index in the block. */
  streamIds: number[];
  /** No row has an ingest time before that of the row before it: whoever counts the rows keeps it so. */
  inTimeOrder: boolean;
  /** Stream id to its position in `streamIds`; the last one used is kept beside it. */
  readonly streamIndexes: Map<number, number>;
  lastStreamId: number;
  lastStreamIndex: number;
}

// Provenance comes first in the arena: seq and ingest_ts among the 8-byte columns, the stream index among the
// 4-byte.
export const SEQ_BEFORE = 0;
export const INGEST_TS_BEFORE = 8;
const INITIAL_VAR_BYTES = 4096;
/** A batch of this size takes no further row. */
export const MAX_BATCH_BYTES = 32 * 1024 * 1024;

/** Where each column of a topic lies in the arena of its batches. */
export function batchLayout(model: TopicModel): BatchLayout {
  const places: ColumnPlace[] = model.columns.map(({ defaultBits }) => ({
    before: -1,
    nullsBefore: -1,
    varIndex: -1,
    defaultLow: Number(BigInt.asIntN(32, defaultBits)),
    defaultHigh: Number(BigInt.asIntN(32, defaultBits >> 32n)),
  }));
  let before = 16;
  let streamIndexBefore = 0;
  const arenaWidth = (column: ColumnModel) => (column.kind === 'fixed' ? column.widthBytes : 4);
  for (const width of [8, 4, 2, 1]) {
    if (width === 4) {
      streamIndexBefore = before;
      before += 4;
    }
    for (const column of model.columns) {
      if (arenaWidth(column) !== width) continue;
      places[column.index]!.before = before;
      before += width;
    }
  }
  let varCount = 0;
  for (const column of model.columns) {
    const place = places[column.index]!;
    if (column.kind !== 'fixed') place.varIndex = varCount++;
    if (column.nullable) place.nullsBefore = before++;
  }
  return { places, streamIndexBefore, rowSizeBytes: before };
}

/**
 * Columns that begin a multiple of 4 KiB apart share the few lines that the processor's cache has for such
 * addresses, and a row is written into twenty of them. So they begin some lines further apart.
 */
function strideOf(capacityRows: number): number {
  const rows = Math.ceil(capacityRows / 8) * 8;
  return rows % 512 === 0 ? rows + 72 : rows;
}

/** Makes an empty batch with room for `capacityRows` rows. */
export function createBatch(model: TopicModel, capacityRows: number): Batch {
  const layout = batchLayout(model);
  const stride = strideOf(capacityRows);
  const arena = new ArrayBuffer(stride * layout.rowSizeBytes);
  const vars = model.columns
    .filter((column) => column.kind !== 'fixed')
    .map((column) => varData(new ArrayBuffer(INITIAL_VAR_BYTES), column.widthBytes));
  return {
    model,
    layout,
    capacityRows,
    stride,
    ...arenaViews(arena, 0, arena.byteLength),
    vars,
    rowCount: 0,
    sizeBytes: 0,
    pendingVarBytes: 0,
    isClean: new Uint8Array(model.columns.length),
    isDirty: new Uint8Array(model.columns.length),
    writers: new Set(),
    lastWriter: null,
    streamIds: [],
    inTimeOrder: true,
    streamIndexes: new Map(),
    lastStreamId: -1,
    lastStreamIndex: 0,
  };
}

/** Views of an arena that lies in `buffer` from byte `at` on, a multiple of 8. */
export function arenaViews(
  buffer: ArrayBuffer,
  at: number,
  sizeBytes: number,
): Pick<Batch, 'i32' | 'u16' | 'u8'> {
  return {
    i32: new Int32Array(buffer, at, sizeBytes / 4),
    u16: new Uint16Array(buffer, at, sizeBytes / 2),
    u8: new Uint8Array(buffer, at, sizeBytes),
  };
}

function varData(buffer: ArrayBuffer, widthBytes: number): VarData {
  return {
    bytes: new Uint8Array(buffer),
    words: new Int32Array(buffer),
    view: new DataView(buffer),
    widthBytes,
    endRows: 0,
  };
}

/** Makes room for `neededBytes` in a column's data and keeps what is there; called rarely, sizes double. */
export function growVar(data: VarData, neededBytes: number): void {
  let size = data.bytes.length * 2;
  while (size < neededBytes) size *= 2;
  const grown = varData(new ArrayBuffer(size), data.widthBytes);
  grown.bytes.set(data.bytes);
  data.bytes = grown.bytes;
  data.words = grown.words;
  data.view = grown.view;
}

/**
 * Counts the row whose cells were just extracted and adds its provenance.
 * @param streamId any number that names the stream for the caller; the block holds an index into `streamIds`
 * @param tsLow, tsHigh ingest_ts, ns since 1970, as two words
 */
export function commitRow(
  batch: Batch,
  streamId: number,
  seqLow: number,
  seqHigh: number,
  tsLow: number,
  tsHigh: number,
): void {
  const row = batch.rowCount;
  const { i32, stride } = batch;
  if (streamId !== batch.lastStreamId) selectStream(batch, streamId);
  i32[row * 2] = seqLow;
  i32[row * 2 + 1] = seqHigh;
  i32[(stride + row) * 2] = tsLow;
  i32[(stride + row) * 2 + 1] = tsHigh;
  i32[streamIndexElement(batch) + row] = batch.lastStreamIndex;
  batch.rowCount = row + 1;
  batch.sizeBytes += batch.layout.rowSizeBytes + batch.pendingVarBytes;
}

/** Makes the stream the one that the next row comes from. */
export function selectStream(batch: Batch, streamId: number): void {
  let index = batch.streamIndexes.get(streamId);
  if (index === undefined) {
    index = batch.streamIds.push(streamId) - 1;
    batch.streamIndexes.set(streamId, index);
  }
  batch.lastStreamId = streamId;
  batch.lastStreamIndex = index;
}

/**
 * Whether the batch must be sealed before the next row. A row may be as large as the longest frame, so the
 * rows' number alone does not bound the memory; offsets inside a block are 32-bit.
 */
export function isFull(batch: Batch): boolean {
  return batch.rowCount >= batch.capacityRows || batch.sizeBytes >= MAX_BATCH_BYTES;
}

/** Empties the batch; its buffers stay, except data buffers that one huge row has blown up. */
export function resetBatch(batch: Batch): void {
  cleanCells(batch);
  for (const data of batch.vars) {
    data.endRows = 0;
    const keepBytes = Math.max(INITIAL_VAR_BYTES, batch.capacityRows * 1024);
    if (data.bytes.length > keepBytes)
      Object.assign(data, varData(new ArrayBuffer(INITIAL_VAR_BYTES), data.widthBytes));
  }
  batch.rowCount = 0;
  batch.sizeBytes = 0;
  batch.pendingVarBytes = 0;
  batch.streamIds = [];
  batch.inTimeOrder = true;
  batch.streamIndexes.clear();
  batch.lastStreamId = -1;
  batch.lastStreamIndex = 0;
}

/** Position of a section in the arena, in bytes, for rows 0 to rowCount. */
export const arenaSections = {
  seq: (batch: Batch) => batch.stride * SEQ_BEFORE,
  ingestTs: (batch: Batch) => batch.stride * INGEST_TS_BEFORE,
  streamIndex: (batch: Batch) => streamIndexElement(batch) * 4,
};

function streamIndexElement(batch: Batch): number {
  return (batch.stride * batch.layout.streamIndexBefore) / 4;
}

/** Rows of a string or array column whose end offset stands in the arena; the others have the last one. */
export function endRowCount(batch: Batch, column: ColumnModel): number {
  const { varIndex } = batch.layout.places[column.index]!;
  return Math.min(batch.vars[varIndex]!.endRows, batch.rowCount);
}

/** End offset (elements) of the data of a string or array column after `rowCount` rows. */
export function varElementCount(batch: Batch, column: ColumnModel): number {
  const rows = endRowCount(batch, column);
  if (rows === 0) return 0;
  return batch.i32[(batch.stride * batch.layout.places[column.index]!.before) / 4 + rows - 1]!;
}

function wordsAt(batch: Batch, before: number, row: number): bigint {
  const at = ((batch.stride * before) / 8 + row) * 2;
  return (BigInt(batch.i32[at + 1]! >>> 0) << 32n) | BigInt(batch.i32[at]! >>> 0);
}

/** Sequence number of a counted row. */
export function seqAt(batch: Batch, row: number): bigint {
  return wordsAt(batch, SEQ_BEFORE, row);
}

/** Ingest time of a counted row, ns since 1970. */
export function ingestTsAt(batch: Batch, row: number): bigint {
  return BigInt.asIntN(64, wordsAt(batch, INGEST_TS_BEFORE, row));
}

/** Stream index of a counted row: position in `streamIds`. */
export function streamIndexAt(batch: Batch, row: number): number {
  return batch.i32[streamIndexElement(batch) + row]!;
}
