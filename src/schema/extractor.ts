// Extractors: generated code that reads a frame in place and writes one row of a batch.
//
// Made once per topic with new Function: straight-line code, one piece for each column, all positions
// constants of the topic. Invariants:
//   - nothing outside [start, end) is read, whatever the frame says (the checks of verifier.ts in order)
//   - nothing is allocated for a frame, except one view for a string or vector longer than BULK_COPY_BYTES
//   - 64-bit values are two 32-bit words, floats are words: no BigInt, no bit changes (a bool becomes 0 or 1)
//   - the row is written at batch.rowCount and not counted; after a fault nothing counted has changed
//   - all arithmetic stays in 32-bit integers: offsets are read as signed, 2^31 and above fail as negative
//
// Strings and vectors are copied by code of their own for each column, not by a shared function: the lengths
// in one column are alike, so its branches are predicted (measured on fills: 217 ns a frame against 263 ns
// shared). getInt32 and Int32Array on both sides let the compiler keep words in integer registers; an
// unsigned read would turn the upper half of the values into doubles.

import { type Batch, batchLayout, type ColumnPlace, growVar } from '../columns/batch.ts';
import { Malformed } from './malformed.ts';
import type { ColumnModel, TopicModel } from './model.ts';
import { MIN_FRAME_SIZE_BYTES } from './verifier.ts';

/**
 * Reads the frame at [start, end) and writes its cells at batch.rowCount; commitRow counts the row.
 * `view` and `bytes` cover the same bytes. Returns Malformed.ok, or why the frame was refused.
 */
export type Extract = (view: DataView, bytes: Uint8Array, start: number, end: number, batch: Batch) => number;

// Above this size one memcpy through a subarray is faster than a loop over words, although the view is
// allocated.
const BULK_COPY_BYTES = 256;

/** Makes the extractor of a topic. */
export function createExtractor(model: TopicModel): Extract {
  const factory = new Function('growVar', extractorSource(model)) as (grow: typeof growVar) => Extract;
  return factory(growVar);
}

/** Source text of an extractor, as a function body with the parameter `growVar`; shown by tests and tools. */
export function extractorSource(model: TopicModel): string {
  const { places } = batchLayout(model);
  const columns = model.columns.map((column) => columnSource(column, places[column.index]!));
  return `'use strict';
return function extract_${model.topic}(view, bytes, start, end, batch) {
  if (end - start < ${MIN_FRAME_SIZE_BYTES}) return ${Malformed.too_short};
  const root = view.getInt32(start, true);
  if (root < 8 || root > end - start - 4) return ${Malformed.bad_root};
  const table = start + root;
  const vtable = (table - view.getInt32(table, true)) | 0;
  if (vtable < start || vtable > end - 4) return ${Malformed.bad_vtable};
  const vtableSize = view.getUint16(vtable, true);
  if (vtableSize < 4 || (vtableSize & 1) !== 0 || vtableSize > end - vtable) return ${Malformed.bad_vtable};
  const room = end - table;
  const row = batch.rowCount, stride = batch.stride;
  const i32 = batch.i32, u16 = batch.u16, u8 = batch.u8, vars = batch.vars;
  let offset = 0, at = 0, length = 0, from = 0, to = 0, element = 0, varBytes = 0, data = null;
${columns.join('\n')}
  batch.pendingVarBytes = varBytes;
  return ${Malformed.ok};
};`;
}

/** Index of cell `row` of a column that starts at byte stride * before, in elements of its width. */
function cellIndex(before: number, widthBytes: number): string {
  return `stride * ${before / widthBytes} + row`;
}

function columnSource(column: ColumnModel, place: ColumnPlace): string {
  const entry = 4 + 2 * column.slot;
  const isNull = (flag: 0 | 1) =>
    column.nullable ? `u8[${cellIndex(place.nullsBefore, 1)}] = ${flag};` : '';
  const inlineBytes = column.kind === 'fixed' ? column.widthBytes : 4;
  const isFixed = column.kind === 'fixed';
  const absent = column.required
    ? `return ${Malformed.missing_required};`
    : isFixed
      ? defaultSource(column)
      : '';
  return `  // ${column.name}: ${column.kind} ${column.scalar}
  offset = vtableSize > ${entry} ? view.getUint16(vtable + ${entry}, true) : 0;
  ${isFixed ? `element = ${cellIndex(place.before, column.widthBytes)};` : startSource(place)}
  if (offset !== 0) {
    if (offset > room - ${inlineBytes}) return ${Malformed.bad_field};
    at = table + offset;
    ${isNull(0)}
    ${isFixed ? fixedSource(column) : varSource(column, place)}
  } else {
    ${isNull(1)} ${absent}
  }
  ${isFixed ? '' : 'i32[element] = to;'}`;
}

function fixedSource(column: ColumnModel): string {
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

function defaultSource(column: ColumnModel): string {
  const low = Number(BigInt.asIntN(32, column.defaultBits));
  const high = Number(BigInt.asIntN(32, column.defaultBits >> 32n));
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
function startSource(place: ColumnPlace): string {
  return `element = ${cellIndex(place.before, 4)};
  from = to = row === 0 ? 0 : i32[element - 1];`;
}

/** Checks a string or vector at `at`, copies its data behind `from` and sets `to`; adds to varBytes. */
function varSource(column: ColumnModel, place: ColumnPlace): string {
  const bad = column.kind === 'string' ? Malformed.bad_string : Malformed.bad_vector;
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
      data = vars[${place.varIndex}];
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
