// Shapes: code for the frames of one vtable.
//
// A producer writes the frames of one kind of event with the same fields, and so with the same vtable, byte
// for byte. Where it has come often, its frames are read by code made for it: the vtable is compared word by
// word instead of being looked into for each column, one check covers all fields, and columns that the frames
// do not have are not touched (clean-cells.ts). Measured on ticks: see ARCHITECTURE.md.
//
// Invariants
// - A reader accepts no frame that the code for every frame (extractor.ts) would refuse, and writes the same
//   cells. It never says what is wrong: whatever it does not like goes to the code for every frame.
// - Shapes are few: a producer cannot fill the memory with code, and a frame is not compared with many.
//   Builders leave out fields that have their default, so rows with many optional fields have many vtables:
//   none of them is learned, and looking for frequent ones pauses for longer and longer.

import { type Batch, batchLayout, growVar } from '../columns/batch.ts';
import { type CellWriter, completeEnds, enterBatch } from '../columns/clean-cells.ts';
import { END_SOURCE, firstElement, fixedSource, startSource, varSource } from './cell-source.ts';
import type { Extract } from './extractor.ts';
import { Malformed } from './malformed.ts';
import type { ColumnModel, TopicModel } from './model.ts';
import { MIN_FRAME_SIZE_BYTES } from './verifier.ts';
import { fieldOffsets } from './vtable.ts';

/** Each costs a comparison for frames that are not its own. */
const MAX_SHAPES = 6;
/** A longer vtable has entries that no column of ours has; it is not learned. */
const MAX_VTABLE_BYTES = 512;
/** After a window in which nothing was learned so many frames pass unseen, then twice as many, and so on. */
const FIRST_PAUSE = 8192;
const LONGEST_PAUSE = 2 ** 24;

/** How vtables are learned. */
export interface Learning {
  /** One frame of so many is looked at: the look costs more than reading the frame. */
  sampleEvery: number;
  /** Frames looked at before the counts begin anew. */
  windowSamples: number;
  /** Of them, so many of one vtable make a reader for it: what is rarer does not pay for the comparison. */
  learnAfter: number;
}

const LEARNING: Learning = { sampleEvery: 16, windowSamples: 512, learnAfter: 96 };
/** What a reader returns for a frame that is not its own, or that it does not like. */
const NOT_MINE = -1;

/** A vtable, and the size of the batches that its reader is for. */
interface Shape {
  vtable: Uint8Array;
  stride: number;
}

/** The vtables that come often. */
export interface LearnedShapes {
  /** Another one after each change. */
  readonly version: number;
  /** Each once. */
  vtables(): Uint8Array[];
}

/** Counts vtables and makes readers of those that come often. */
export class ShapeLearner implements LearnedShapes {
  version = 0;
  /** Readers made so far, at most MAX_SHAPES; each returns Malformed.ok or NOT_MINE. */
  readonly readers: Extract[] = [];
  readonly #shapes: Shape[] = [];
  /** Frames that each has read since the last one was made. */
  readonly hits = new Float64Array(MAX_SHAPES);
  readonly #model: TopicModel;
  readonly #learning: Learning;
  /** By hash: a collision makes at worst a reader that is not worth it. */
  readonly #counts = new Map<number, number>();
  #samples = 0;
  #unseen = 0;
  #pause = FIRST_PAUSE;

  constructor(model: TopicModel, learning: Learning = LEARNING) {
    this.#model = model;
    this.#learning = learning;
  }

  /** Notes a frame that the code for every frame has accepted. */
  saw(view: DataView, start: number, batch: Batch): void {
    if (this.#unseen > 0) {
      this.#unseen--;
      return;
    }
    this.#sample(view, start, batch);
    this.#unseen = Math.max(this.#unseen, this.#learning.sampleEvery - 1);
  }

  #sample(view: DataView, start: number, { stride }: Batch): void {
    const table = start + view.getInt32(start, true);
    const at = table - view.getInt32(table, true);
    const sizeBytes = view.getUint16(at, true);
    if (++this.#samples > this.#learning.windowSamples) this.#rest();
    if (sizeBytes > MAX_VTABLE_BYTES) return;
    const key = vtableHash(view, at, sizeBytes, stride);
    const count = (this.#counts.get(key) ?? 0) + 1;
    this.#counts.set(key, count);
    if (count < this.#learning.learnAfter) return;
    this.#counts.delete(key);
    if (this.readers.length === MAX_SHAPES) this.#rest();
    else this.#pause = FIRST_PAUSE;
    const vtable = new Uint8Array(view.buffer, view.byteOffset + at, sizeBytes).slice();
    this.#learn({ vtable, stride });
  }

  /**
   * The rows may have too many vtables for any to be frequent, or more frequent ones than there are readers,
   * which would give way to each other for ever: they are looked at less and less often.
   */
  #rest(): void {
    this.#samples = 0;
    this.#counts.clear();
    this.#unseen = this.#pause;
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
  }

  /** Adds a reader; the one that was needed least gives way. */
  #learn(shape: Shape): void {
    const { readers, hits } = this;
    let index = readers.length;
    if (index === MAX_SHAPES) index = hits.indexOf(Math.min(...hits));
    readers[index] = createReader(this.#model, shape);
    this.#shapes[index] = shape;
    this.version++;
    hits.fill(0);
  }

  /** A vtable may have been learned for batches of several sizes. */
  vtables(): Uint8Array[] {
    const all = this.#shapes.map(({ vtable }) => vtable);
    return all.filter(
      (vtable, index) => all.findIndex((other) => Buffer.compare(other, vtable) === 0) === index,
    );
  }
}

/** FNV-1a of a vtable's words, and of the size of the batches: 31 bits, which are no allocation. */
function vtableHash(view: DataView, at: number, sizeBytes: number, stride: number): number {
  let hash = Math.imul(0x811c9dc5 ^ stride, 0x01000193);
  for (let word = 0; word + 2 <= sizeBytes; word += 2) {
    hash = Math.imul(hash ^ view.getUint16(at + word, true), 0x01000193);
  }
  return hash >>> 1;
}

function createReader(model: TopicModel, shape: Shape): Extract {
  const offsets = fieldOffsets(model, shape.vtable);
  const indexes = model.columns.map(({ index }) => index);
  const writer: CellWriter = {
    written: indexes.filter((index) => offsets[index] !== 0),
    skipped: indexes.filter((index) => offsets[index] === 0),
  };
  const names = ['growVar', 'completeEnds', 'enterBatch', 'writer'];
  return new Function(...names, readerSource(model, shape, offsets))(
    growVar,
    completeEnds,
    enterBatch,
    writer,
  ) as Extract;
}

function readerSource(model: TopicModel, { vtable, stride }: Shape, offsets: readonly number[]): string {
  const inlineEnds = model.columns.map((column) => {
    const offset = offsets[column.index]!;
    return offset === 0 ? 4 : offset + (column.kind === 'fixed' ? column.widthBytes : 4);
  });
  const columns = model.columns.map((column) =>
    offsets[column.index] === 0 ? '' : columnSource(model, column, stride, offsets[column.index]!),
  );
  return `'use strict';
return function shape_${model.topic}(view, bytes, start, end, batch) {
  if (end - start < ${MIN_FRAME_SIZE_BYTES}) return ${NOT_MINE};
  const root = view.getInt32(start, true);
  if (root < 8 || root > end - start - ${Math.max(...inlineEnds)}) return ${NOT_MINE};
  const table = start + root;
  const vtable = (table - view.getInt32(table, true)) | 0;
  if (vtable < start || vtable > end - ${vtable.length}) return ${NOT_MINE};
  if (${vtableTest(vtable)} || batch.stride !== ${stride}) return ${NOT_MINE};
  if (batch.lastWriter !== writer) enterBatch(batch, writer);
  const row = batch.rowCount;
  const i32 = batch.i32, u16 = batch.u16, u8 = batch.u8, vars = batch.vars;
  let offset = 0, at = 0, length = 0, from = 0, to = 0, element = 0, varBytes = 0, data = null;
${columns.join('\n')}
  batch.pendingVarBytes = varBytes;
  return ${Malformed.ok};
};`;
}

/** Code that is true where the frame's vtable is another. */
function vtableTest(vtable: Uint8Array): string {
  const view = new DataView(vtable.buffer, vtable.byteOffset, vtable.byteLength);
  const tests: string[] = [];
  let at = 0;
  for (; at + 4 <= vtable.length; at += 4) {
    tests.push(`view.getInt32(vtable + ${at}, true) !== ${view.getInt32(at, true)}`);
  }
  if (at < vtable.length) tests.push(`view.getUint16(vtable + ${at}, true) !== ${view.getUint16(at, true)}`);
  return tests.join(' || ');
}

function columnSource(model: TopicModel, column: ColumnModel, stride: number, offset: number): string {
  const place = batchLayout(model).places[column.index]!;
  const notNull = column.nullable ? `u8[${firstElement(stride, place.nullsBefore, 1)} + row] = 0;` : '';
  const at = `at = table + ${offset}; ${notNull}`;
  if (column.kind !== 'fixed') {
    return `  ${startSource(stride, place)}
  ${at}
  ${varSource(column, NOT_MINE)}
  ${END_SOURCE}`;
  }
  return `  element = ${firstElement(stride, place.before, column.widthBytes)} + row;
  ${at}
  ${fixedSource(column)}`;
}
