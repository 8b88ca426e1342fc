// Cell by cell access to a batch, for the generic path: simple, and slow because of BigInt. The extractors do
// the same by generated code.

import type { ColumnModel } from '../schema/model.ts';
import { type Batch, growVar } from './batch.ts';
import { completeEnds } from './clean-cells.ts';

/** Writes the raw bits of a fixed cell of row `rowCount`; null is the NULL of a nullable column. */
export function writeFixedCell(batch: Batch, column: ColumnModel, bits: bigint | null): void {
  const place = batch.layout.places[column.index]!;
  const row = batch.rowCount;
  const element = (batch.stride * place.before) / column.widthBytes + row;
  batch.isDirty[column.index] = 1;
  const value = bits ?? column.defaultBits;
  const low = Number(BigInt.asIntN(32, value));
  if (column.widthBytes === 1) batch.u8[element] = low;
  else if (column.widthBytes === 2) batch.u16[element] = low;
  else if (column.widthBytes === 4) batch.i32[element] = low;
  else {
    batch.i32[element * 2] = low;
    batch.i32[element * 2 + 1] = Number(BigInt.asIntN(32, value >> 32n));
  }
  writeNull(batch, place.nullsBefore, bits === null);
}

/** Writes a string or array cell of row `rowCount` from the bytes of its elements; null is absent. */
export function writeVarCell(batch: Batch, column: ColumnModel, data: Uint8Array | null): void {
  const place = batch.layout.places[column.index]!;
  const row = batch.rowCount;
  const target = batch.vars[place.varIndex]!;
  const ends = (batch.stride * place.before) / 4;
  batch.isDirty[column.index] = 1;
  completeEnds(batch, target, ends);
  const startElement = row === 0 ? 0 : batch.i32[ends + row - 1]!;
  const sizeBytes = data?.length ?? 0;
  const startByte = startElement * column.widthBytes;
  if (startByte + sizeBytes > target.bytes.length) growVar(target, startByte + sizeBytes);
  if (data !== null) target.bytes.set(data, startByte);
  batch.i32[ends + row] = startElement + sizeBytes / column.widthBytes;
  target.endRows = row + 1;
  writeNull(batch, place.nullsBefore, data === null);
}

function writeNull(batch: Batch, nullsBefore: number, isNull: boolean): void {
  if (nullsBefore >= 0) batch.u8[batch.stride * nullsBefore + batch.rowCount] = isNull ? 1 : 0;
}
