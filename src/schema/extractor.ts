// Extractors: generated code that reads a frame in place and writes one row of a batch.
//
// Made once per topic with new Function: straight-line code, one piece for each column (cell-source.ts), all
// positions constants of the topic. Frames whose vtable has been seen often are read by code for that vtable
// (frame-shape.ts); the code here reads every frame, and alone says what is wrong with one. Invariants:
//   - nothing outside [start, end) is read, whatever the frame says (the checks of verifier.ts in order)
//   - nothing is allocated for a frame, except one view for a string or vector longer than BULK_COPY_BYTES,
//     and for one frame of many while shapes are looked for
//   - 64-bit values are two 32-bit words, floats are words: no BigInt, no bit changes (a bool becomes 0 or 1)
//   - the row is written at batch.rowCount and not counted; after a fault nothing counted has changed
//   - all arithmetic stays in 32-bit integers: offsets are read as signed, 2^31 and above fail as negative

import { type Batch, batchLayout, type ColumnPlace, growVar } from '../columns/batch.ts';
import { type CellWriter, completeEnds, discardRow, enterBatch } from '../columns/clean-cells.ts';
import {
  defaultSource,
  END_SOURCE,
  firstElement,
  fixedSource,
  startSource,
  varSource,
} from './cell-source.ts';
import { type LearnedShapes, type Learning, ShapeLearner } from './frame-shape.ts';
import { Malformed } from './malformed.ts';
import type { ColumnModel, TopicModel } from './model.ts';
import { MIN_FRAME_SIZE_BYTES } from './verifier.ts';

/**
 * Reads the frame at [start, end) and writes its cells at batch.rowCount; commitRow counts the row,
 * discardRow takes it back. `view` and `bytes` cover the same bytes. Returns Malformed.ok, or why the frame
 * was refused.
 */
export interface Extract {
  (view: DataView, bytes: Uint8Array, start: number, end: number, batch: Batch): number;
  /** The vtables that it has learned, for those who read frames in runs; absent where it learns none. */
  readonly shapes?: LearnedShapes;
}

/** Makes the extractor of a topic. */
export function createExtractor(model: TopicModel, learning?: Learning): Extract {
  const factory = new Function('growVar', 'completeEnds', extractorSource(model)) as (
    grow: typeof growVar,
    complete: typeof completeEnds,
  ) => Extract;
  const readAny = factory(growVar, completeEnds);
  const writer: CellWriter = { written: model.columns.map(({ index }) => index), skipped: [] };
  const learner = new ShapeLearner(model, learning);
  const { readers, hits } = learner;
  const extract: Extract = (view, bytes, start, end, batch) => {
    for (let i = 0; i < readers.length; i++) {
      if (readers[i]!(view, bytes, start, end, batch) === Malformed.ok) {
        hits[i] = hits[i]! + 1;
        return Malformed.ok;
      }
    }
    if (batch.lastWriter !== writer) enterBatch(batch, writer);
    const code = readAny(view, bytes, start, end, batch);
    if (code !== Malformed.ok) discardRow(batch);
    else learner.saw(view, start, batch);
    return code;
  };
  return Object.assign(extract, { shapes: learner });
}

/** Source text of the code for every frame: a function body with the parameters growVar and completeEnds. */
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

function columnSource(column: ColumnModel, place: ColumnPlace): string {
  const entry = 4 + 2 * column.slot;
  const isNull = (flag: 0 | 1) =>
    column.nullable ? `u8[${firstElement(null, place.nullsBefore, 1)} + row] = ${flag};` : '';
  const isFixed = column.kind === 'fixed';
  const inlineBytes = isFixed ? column.widthBytes : 4;
  const bad = column.kind === 'string' ? Malformed.bad_string : Malformed.bad_vector;
  const absent = column.required
    ? `return ${Malformed.missing_required};`
    : isFixed
      ? defaultSource(column, place)
      : '';
  const begin = isFixed
    ? `element = ${firstElement(null, place.before, column.widthBytes)} + row;`
    : startSource(null, place);
  return `  // ${column.name}: ${column.kind} ${column.scalar}
  offset = vtableSize > ${entry} ? view.getUint16(vtable + ${entry}, true) : 0;
  ${begin}
  if (offset !== 0) {
    if (offset > room - ${inlineBytes}) return ${Malformed.bad_field};
    at = table + offset;
    ${isNull(0)}
    ${isFixed ? fixedSource(column) : varSource(column, bad)}
  } else {
    ${isNull(1)} ${absent}
  }
  ${isFixed ? '' : END_SOURCE}`;
}
