// Pieces of the extractors' code, each for one column. Variables that they share: view, bytes, start, end,
// batch; row; i32, u16, u8, vars of the batch; at, element, offset, length, from, to, data, varBytes.
//
// Strings and vectors are copied by code of their own for each column, not by a shared function: the lengths
// in one column are alike, so its branches are predicted (measured on fills: 217 ns a frame against 263 ns
// shared). getInt32 and Int32Array on both sides let the compiler keep words in integer registers; an
// unsigned read would turn the upper half of the values into doubles.

import type { ColumnPlace } from '../columns/batch.ts';
import type { ColumnModel } from './model.ts';

// Above this size one memcpy through a subarray is faster than a loop over words, although the view is
// allocated.
export const BULK_COPY_BYTES = 256;

/** Rows that each column has room for: a number in code for one size of batch, null: read from the batch. */
export type Stride = number | null;

/** First element of a column that starts at byte stride * before, in elements of its width. */
export function firstElement(stride: Stride, before: number, widthBytes: number): string {
  return stride === null ? `stride * ${before / widthBytes}` : String((stride * before) / widthBytes);
}

/** Copies the value at `at` to `element`. */
export function fixedSource(column: ColumnModel): string {
  switch (column.widthBytes) {
    case 1:
      return column.scalar === 'bool'
        ? 'u8[element] = view.getUint8(at) === 0 ? 0 : 1;'
        : 'u8[element] = view.getUint8(at);';
    case 2:
      return 'u16[element] = view.getUint16(at, true);';
    case 4:
      return 'i32[element] = view.getInt32(at, true);';
    case 8:
      return `i32[element << 1] = view.getInt32(at, true);
    i32[(element << 1) + 1] = view.getInt32(at + 4, true);`;
  }
}

/** Writes the default to `element`. */
export function defaultSource(column: ColumnModel, place: ColumnPlace): string {
  const { defaultLow: low, defaultHigh: high } = place;
  switch (column.widthBytes) {
    case 1:
      return `u8[element] = ${low};`;
    case 2:
      return `u16[element] = ${low};`;
    case 4:
      return `i32[element] = ${low};`;
    case 8:
      return `i32[element << 1] = ${low}; i32[(element << 1) + 1] = ${high};`;
  }
}

/** `from` and `to` become the end of the row before, `element` the place of this row's end. */
export function startSource(stride: Stride, { before, varIndex }: ColumnPlace): string {
  const first = firstElement(stride, before, 4);
  return `data = vars[${varIndex}];
  element = ${first} + row;
  if (data.endRows !== row) completeEnds(batch, data, ${first});
  from = to = row === 0 ? 0 : i32[element - 1];`;
}

/** Writes the end of this row's data. */
export const END_SOURCE = 'i32[element] = to; data.endRows = row + 1;';

/**
 * Checks a string or vector at `at`, copies its data behind `from` and sets `to`; adds to varBytes. `bad` is
 * returned where it does not lie in the frame.
 */
export function varSource(column: ColumnModel, bad: number): string {
  const isString = column.kind === 'string';
  const shift = Math.log2(column.widthBytes);
  // A string has a terminating zero: one byte more behind its length.
  const most = isString ? 'end - at - 5' : `(end - at - 4) >> ${shift}`;
  return `offset = view.getInt32(at, true);
    if (offset <= 0 || offset > end - at - 4) return ${bad};
    at += offset;
    length = view.getInt32(at, true);
    if (length < 0 || length > ${most}) return ${bad};
    at += 4;
    ${isString ? `if (view.getUint8(at + length) !== 0) return ${bad};` : ''}
    if (length !== 0) {
      to = from + length;
      varBytes += length << ${shift};
      if ((to << ${shift}) + 4 > data.bytes.length) growVar(data, (to << ${shift}) + 4);
      ${column.scalar === 'bool' ? '' : bulkCopySource(shift)}
      ${copySource(column)}
    }`;
}

function bulkCopySource(shift: number): string {
  return `if (length > ${BULK_COPY_BYTES >> shift}) {
        data.bytes.set(bytes.subarray(at, at + (length << ${shift})), from << ${shift});
      } else`;
}

function copySource(column: ColumnModel): string {
  if (column.scalar === 'bool') return BOOL_COPY;
  if (column.widthBytes >= 4) {
    const words = column.widthBytes / 4;
    return `{
        const words = data.words;
        const last = to * ${words};
        for (let i = from * ${words}; i < last; i++, at += 4) words[i] = view.getInt32(at, true);
      }`;
  }
  const shift = column.widthBytes - 1;
  // Whole words, up to 3 bytes past the end: those lie inside the frame, and the next row overwrites them.
  return `if (at + (length << ${shift}) + 3 <= end) {
        const target = data.view;
        const last = to << ${shift};
        for (let i = from << ${shift}; i < last; i += 4, at += 4) {
          target.setInt32(i, view.getInt32(at, true), true);
        }
      } else {
        const target = data.bytes;
        for (let i = from << ${shift}; i < to << ${shift}; i++, at++) target[i] = bytes[at];
      }`;
}

const BOOL_COPY = `{
        const target = data.bytes;
        for (let i = from; i < to; i++, at++) target[i] = bytes[at] === 0 ? 0 : 1;
      }`;
