// Rows that code has written into a batch's arena, behind the counted ones, and that are counted together.

import type { ColumnModel } from '../schema/model.ts';
import { type Batch, growVar, selectStream } from './batch.ts';
import { type CellWriter, completeEnds, discardRow, enterBatch } from './clean-cells.ts';

/** A column that the code writes. */
export interface RunColumn {
  model: ColumnModel;
  /** Where it leaves the data of a string or array, all rows of the run one after another; -1 for fixed. */
  dataAt: number;
}

/** A run of rows: `writer` writes `columns`; all others have their default. */
export interface RowRun {
  /** Where the data of strings and arrays lies. */
  bytes: Uint8Array;
  columns: readonly RunColumn[];
  writer: CellWriter;
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
 * Counts `rows` rows that were written after `beginRun`, and takes back what was written of one more. Their
 * strings and arrays are copied into the batch.
 */
export function countRun(batch: Batch, run: RowRun, rows: number, streamId: number): void {
  if (rows > 0) {
    if (streamId !== batch.lastStreamId) selectStream(batch, streamId);
    let varBytes = 0;
    for (const column of run.columns) {
      if (column.dataAt >= 0) varBytes += appendData(batch, run, column, rows);
    }
    batch.rowCount += rows;
    batch.sizeBytes += rows * batch.layout.rowSizeBytes + varBytes;
  }
  discardRow(batch);
}

/** Adds the data of a string or array; its size in bytes. */
function appendData(batch: Batch, { bytes }: RowRun, column: RunColumn, rows: number): number {
  const { index, widthBytes } = column.model;
  const { before, varIndex } = batch.layout.places[index]!;
  const data = batch.vars[varIndex]!;
  const end = batch.rowCount + rows;
  const from = elementsBefore(batch, column) * widthBytes;
  const to = batch.i32[(batch.stride * before) / 4 + end - 1]! * widthBytes;
  // Extractors write whole words, up to 3 bytes past the end.
  if (to + 4 > data.bytes.length) growVar(data, to + 4);
  data.bytes.set(bytes.subarray(column.dataAt, column.dataAt + to - from), from);
  data.endRows = end;
  return to - from;
}
