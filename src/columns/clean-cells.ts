// Cells that need not be written: a column that a producer leaves out costs nothing a row.
//
// A frame has values for a part of its topic's columns; the others get their default. Written one by one the
// defaults took a third of the time of a tick's row (12 of 23 columns, 40 ns of 118). So a batch keeps cells
// clean: they hold the default before a row is written.
//
// Invariants
// - A column that some writer of the batch skips is clean: its cells behind the counted rows hold the
//   default, and NULL where it can be.
// - A clean column into which a writer has written is dirty until it is cleaned by the next reset.
// - End offsets of strings and arrays are written where a row has data; `endRows` says up to where they
//   stand, rows behind are empty.

import type { Batch, VarData } from './batch.ts';

/**
 * Code that writes rows: of the columns in `skipped` it writes nothing, because their cells hold the default
 * already. `written` are all others. Both are indexes of columns.
 */
export interface CellWriter {
  readonly written: readonly number[];
  readonly skipped: readonly number[];
}

/** Prepares the batch for rows of a writer; to be called where it is not `lastWriter`. */
export function enterBatch(batch: Batch, writer: CellWriter): void {
  batch.lastWriter = writer;
  if (batch.writers.has(writer)) return;
  batch.writers.add(writer);
  for (const index of writer.written) batch.isDirty[index] = 1;
  for (const index of writer.skipped) {
    if (batch.isClean[index] === 1) continue;
    batch.isClean[index] = 1;
    fillDefaults(batch, index, batch.rowCount, batch.stride);
  }
}

/** Takes back what was written of a row that is not counted: a fault, or a row that is dropped. */
export function discardRow(batch: Batch): void {
  const { rowCount, isClean, isDirty } = batch;
  for (const data of batch.vars) if (data.endRows > rowCount) data.endRows = rowCount;
  if (rowCount === batch.stride) return;
  for (let index = 0; index < isClean.length; index++) {
    if (isClean[index] === 1 && isDirty[index] === 1) fillDefaults(batch, index, rowCount, rowCount + 1);
  }
}

/** Sets the cells of rows `from` to `to` to the column's default; ends of strings and arrays are left out. */
function fillDefaults(batch: Batch, columnIndex: number, from: number, to: number): void {
  const { stride, layout, i32, u16, u8 } = batch;
  const { kind, widthBytes } = batch.model.columns[columnIndex]!;
  const { before, nullsBefore, defaultLow: low, defaultHigh: high } = layout.places[columnIndex]!;
  if (nullsBefore >= 0) u8.fill(1, stride * nullsBefore + from, stride * nullsBefore + to);
  if (kind !== 'fixed') return;
  const first = (stride * before) / widthBytes;
  if (widthBytes === 1) u8.fill(low, first + from, first + to);
  else if (widthBytes === 2) u16.fill(low, first + from, first + to);
  else if (widthBytes === 4) i32.fill(low, first + from, first + to);
  else if (low === high) i32.fill(low, (first + from) * 2, (first + to) * 2);
  else {
    for (let row = first + from; row < first + to; row++) {
      i32[row * 2] = low;
      i32[row * 2 + 1] = high;
    }
  }
}

/** Whether no row since the last reset has a value for the column: every cell holds the default, or NULL. */
export function holdsDefaults(batch: Batch, columnIndex: number): boolean {
  return batch.isClean[columnIndex] === 1 && batch.isDirty[columnIndex] === 0;
}

/**
 * Writes the end offsets of the rows before `rowCount` that have none yet: they are empty. `endsAt` is the
 * element of the column's first end offset.
 */
export function completeEnds(batch: Batch, data: VarData, endsAt: number): void {
  const { rowCount, i32 } = batch;
  if (data.endRows < rowCount) {
    const end = data.endRows === 0 ? 0 : i32[endsAt + data.endRows - 1]!;
    i32.fill(end, endsAt + data.endRows, endsAt + rowCount);
  }
  data.endRows = rowCount;
}

/** Cleans what the counted rows have made dirty; for resetBatch. */
export function cleanCells(batch: Batch): void {
  const { rowCount, isClean, isDirty } = batch;
  for (let index = 0; index < isClean.length; index++) {
    if (isClean[index] === 1 && isDirty[index] === 1) fillDefaults(batch, index, 0, rowCount);
  }
  isDirty.fill(0);
  batch.writers.clear();
  batch.lastWriter = null;
}
