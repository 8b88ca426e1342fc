// Rows that lie ready as columns somewhere else, and are added to a batch together.

import type { ColumnModel } from '../schema/model.ts';
import { arenaSections, type Batch, growVar, selectStream } from './batch.ts';
import { type CellWriter, completeEnds, enterBatch } from './clean-cells.ts';

/** Where a column of the run lies in its memory. */
export interface RunColumn {
  model: ColumnModel;
  /** Values (fixed) or end offsets (string, array). */
  at: number;
  /** Null map; -1 for a column that is not nullable. */
  nullsAt: number;
  /** Data of a string or array, all rows of the run one after another; -1 for fixed. */
  dataAt: number;
}

/** A run of rows: columns in `bytes`, those of `writer.written`; all others have their default. */
export interface RowRun {
  bytes: Uint8Array;
  columns: readonly RunColumn[];
  writer: CellWriter;
  seqAt: number;
  ingestTsAt: number;
  streamIndexAt: number;
}

/** Prepares a batch for rows of a writer; returns the stream's index, which the run's rows must name. */
export function beginRun(batch: Batch, writer: CellWriter, streamId: number): number {
  if (batch.lastWriter !== writer) enterBatch(batch, writer);
  return batch.streamIndexes.get(streamId) ?? batch.streamIds.length;
}

/** Elements of a string or array column in the batch so far: the run's end offsets go on from there. */
export function elementsBefore(batch: Batch, { model }: RunColumn): number {
  const { rowCount, i32 } = batch;
  const first = (batch.stride * batch.layout.places[model.index]!.before) / 4;
  const data = batch.vars[batch.layout.places[model.index]!.varIndex]!;
  if (data.endRows !== rowCount) completeEnds(batch, data, first);
  return rowCount === 0 ? 0 : i32[first + rowCount - 1]!;
}

/**
 * Adds the first `rows` rows of a run, one at least, for which `beginRun` has prepared the batch. There must
 * be room.
 */
export function appendRun(batch: Batch, run: RowRun, rows: number, streamId: number): void {
  if (streamId !== batch.lastStreamId) selectStream(batch, streamId);
  const { stride, rowCount: row, layout } = batch;
  const copy = (from: number, widthBytes: number, to: number) => {
    batch.u8.set(run.bytes.subarray(from, from + rows * widthBytes), to + row * widthBytes);
  };
  let varBytes = 0;
  for (const column of run.columns) {
    const { before, nullsBefore } = layout.places[column.model.index]!;
    if (column.nullsAt >= 0) copy(column.nullsAt, 1, stride * nullsBefore);
    if (column.dataAt < 0) copy(column.at, column.model.widthBytes, stride * before);
    else {
      varBytes += appendData(batch, run, column, rows);
      copy(column.at, 4, stride * before);
    }
  }
  copy(run.seqAt, 8, arenaSections.seq(batch));
  copy(run.ingestTsAt, 8, arenaSections.ingestTs(batch));
  copy(run.streamIndexAt, 4, arenaSections.streamIndex(batch));
  batch.rowCount = row + rows;
  batch.sizeBytes += rows * layout.rowSizeBytes + varBytes;
}

/** Adds the data of a string or array; its size in bytes. */
function appendData(batch: Batch, { bytes }: RowRun, column: RunColumn, rows: number): number {
  const { widthBytes } = column.model;
  const data = batch.vars[batch.layout.places[column.model.index]!.varIndex]!;
  const from = elementsBefore(batch, column) * widthBytes;
  const ends = new DataView(bytes.buffer, bytes.byteOffset);
  const to = ends.getInt32(column.at + (rows - 1) * 4, true) * widthBytes;
  // Extractors write whole words, up to 3 bytes past the end.
  if (to + 4 > data.bytes.length) growVar(data, to + 4);
  data.bytes.set(bytes.subarray(column.dataAt, column.dataAt + to - from), from);
  data.endRows = batch.rowCount + rows;
  return to - from;
}
