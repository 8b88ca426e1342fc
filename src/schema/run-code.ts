// The function that reads a run of frames, generated from a topic's model and the vtables that come often:
// WebAssembly that goes from frame to frame and writes their rows into a batch whose arena lies in its memory
// (run-memory.ts).
//
//   run(position, limit, rowLimit, maxFrameBytes) → position of the first frame that it did not take
//
//   memory   0  i64 seq of the first row        told
//            8  i64 ingest_ts                   told
//           16  i32 stream index                told
//           20  i32 address of the arena        told
//           24  i32 first row, told; the row behind the last one, answered
//           28  i32 [] elements of each string and array column before the run   told
//     INPUT_AT  frames with their size prefix
//      DATA_AT  data of each string and array column, all rows of the run one after another
//    ARENAS_AT  arenas
//
// Invariant: it takes a frame only where the code for every frame (extractor.ts) would, and leaves the same
// cells: the checks are those of frame-shape.ts. Whatever it does not like ends the run before that frame,
// of which cells may have been written.

import { type BatchLayout, batchLayout, INGEST_TS_BEFORE, SEQ_BEFORE } from '../columns/batch.ts';
import type { RunColumn } from '../columns/row-run.ts';
import { type Code, copyWords, Locals, OVERRUN_BYTES, SHIFTS, wasm } from '../wasm-code.ts';
import { type ColumnModel, identifierWord, type TopicModel } from './model.ts';
import { MIN_FRAME_SIZE_BYTES } from './verifier.ts';
import { fieldOffsets } from './vtable.ts';

export const RUN_FACTS = { seq: 0, ingestTs: 8, streamIndex: 16, arena: 20, row: 24, elements: 28 } as const;
/** Where frames lie: behind the facts of as many columns as a topic has. */
export const INPUT_AT = 4096;
/** A read of a socket. */
export const INPUT_SIZE_BYTES = 256 * 1024;
const DATA_AT = INPUT_AT + INPUT_SIZE_BYTES + OVERRUN_BYTES;
/** Data of one string or array column in a run. */
const DATA_SIZE_BYTES = 128 * 1024;
/** Behind the data of 29 string and array columns. */
export const ARENAS_AT = 4 * 1024 * 1024;

/** Levels from the code of a shape out. */
const NEXT_SHAPE = 0;
const ROW_END = 1;
const RUN_END = 3;

export interface RunCode {
  module: WebAssembly.Module;
  columns: RunColumn[];
}

/**
 * Generates the function for frames with one of these vtables, and batches of one stride; null where they
 * cannot be read so: an array of bools, whose values are made 0 or 1, or columns without room.
 */
export function runCode(model: TopicModel, vtables: readonly Uint8Array[], stride: number): RunCode | null {
  const shapes = vtables.map((vtable) => ({ vtable, offsets: fieldOffsets(model, vtable) }));
  const present = model.columns.filter(({ index }) => shapes.some(({ offsets }) => offsets[index] !== 0));
  if (present.some(({ kind, scalar }) => kind === 'array' && scalar === 'bool')) return null;
  let end = DATA_AT;
  const columns = present.map((column) => {
    if (column.kind === 'fixed') return { model: column, dataAt: -1 };
    const dataAt = end;
    end += DATA_SIZE_BYTES + OVERRUN_BYTES;
    return { model: column, dataAt };
  });
  if (end > ARENAS_AT || RUN_FACTS.elements + columns.length * 4 > INPUT_AT) return null;
  const module = new RunWriter(columns, batchLayout(model), stride).module(model, shapes);
  return { columns, module };
}

interface Shape {
  vtable: Uint8Array;
  offsets: readonly number[];
}

/** Writes the code with the locals that it needs. */
class RunWriter {
  readonly #columns: readonly RunColumn[];
  readonly #layout: BatchLayout;
  readonly #stride: number;
  readonly #locals = new Locals(4);
  readonly #position = 0;
  readonly #limit = 1;
  readonly #rowLimit = 2;
  readonly #maxFrameBytes = 3;
  readonly #arena = this.#locals.i32();
  readonly #row = this.#locals.i32();
  readonly #size = this.#locals.i32();
  readonly #start = this.#locals.i32();
  readonly #end = this.#locals.i32();
  readonly #root = this.#locals.i32();
  readonly #table = this.#locals.i32();
  readonly #vtable = this.#locals.i32();
  readonly #at = this.#locals.i32();
  readonly #length = this.#locals.i32();
  readonly #stop = this.#locals.i32();
  readonly #seq = this.#locals.i64();
  readonly #ingestTs = this.#locals.i64();
  readonly #streamIndex = this.#locals.i32();
  /** Of each string or array column: elements so far, and where its next data goes. */
  readonly #vars: ReadonlyMap<number, { elements: number; next: number }>;

  constructor(columns: readonly RunColumn[], layout: BatchLayout, stride: number) {
    this.#columns = columns;
    this.#layout = layout;
    this.#stride = stride;
    const variable = columns.filter(({ dataAt }) => dataAt >= 0);
    const locals = () => ({ elements: this.#locals.i32(), next: this.#locals.i32() });
    this.#vars = new Map(variable.map(({ model }) => [model.index, locals()]));
  }

  module(model: TopicModel, shapes: readonly Shape[]): WebAssembly.Module {
    const row = [
      this.#frame(identifierWord(model.identifier)),
      wasm.block([shapes.map((shape) => wasm.block(this.#shape(shape))), wasm.break(RUN_END - 1)]),
      this.#provenance(),
      [wasm.get(this.#end), wasm.set(this.#position)],
      [wasm.get(this.#row), wasm.const(1), wasm.add, wasm.tee(this.#row)],
      [wasm.get(this.#rowLimit), wasm.isLess, wasm.breakIf(0)],
    ];
    return this.#locals.module([
      this.#told(),
      wasm.block(wasm.loop(row)),
      [wasm.const(RUN_FACTS.row), wasm.get(this.#row), wasm.store()],
      wasm.get(this.#position),
    ]);
  }

  #told(): Code {
    const columns = this.#columns.map(({ model, dataAt }, index) => {
      const local = this.#vars.get(model.index);
      if (local === undefined) return [];
      return [
        [wasm.const(RUN_FACTS.elements + index * 4), wasm.load(), wasm.set(local.elements)],
        [wasm.const(dataAt), wasm.set(local.next)],
      ];
    });
    return [
      [wasm.const(RUN_FACTS.seq), wasm.load64(), wasm.set(this.#seq)],
      [wasm.const(RUN_FACTS.ingestTs), wasm.load64(), wasm.set(this.#ingestTs)],
      [wasm.const(RUN_FACTS.streamIndex), wasm.load(), wasm.set(this.#streamIndex)],
      [wasm.const(RUN_FACTS.arena), wasm.load(), wasm.set(this.#arena)],
      [wasm.const(RUN_FACTS.row), wasm.load(), wasm.set(this.#row)],
      columns,
    ];
  }

  /** What all frames have: a size that fits, the identifier, a table and a vtable that begin in the frame. */
  #frame(identifier: number): Code {
    const stop = wasm.breakIf(1);
    const rest = [wasm.get(this.#limit), wasm.get(this.#position), wasm.subtract];
    return [
      [rest, wasm.const(4 + MIN_FRAME_SIZE_BYTES), wasm.isLess, stop],
      [wasm.get(this.#position), wasm.load(), wasm.tee(this.#size)],
      [wasm.const(MIN_FRAME_SIZE_BYTES), wasm.isLess, stop],
      [wasm.get(this.#size), wasm.get(this.#maxFrameBytes), wasm.isGreater, stop],
      [wasm.get(this.#size), rest, wasm.const(4), wasm.subtract, wasm.isGreater, stop],
      [wasm.get(this.#position), wasm.const(4), wasm.add, wasm.tee(this.#start)],
      [wasm.get(this.#size), wasm.add, wasm.set(this.#end)],
      [wasm.get(this.#start), wasm.load(4), wasm.const(identifier), wasm.isNotEqual, stop],
      [wasm.get(this.#start), wasm.load(), wasm.tee(this.#root), wasm.const(8), wasm.isLess, stop],
      [wasm.get(this.#root), wasm.get(this.#size), wasm.const(4), wasm.subtract, wasm.isGreater, stop],
      [wasm.get(this.#start), wasm.get(this.#root), wasm.add, wasm.tee(this.#table)],
      [wasm.get(this.#table), wasm.load(), wasm.subtract, wasm.tee(this.#vtable)],
      [wasm.get(this.#start), wasm.isLess, stop],
    ];
  }

  #shape({ vtable, offsets }: Shape): Code {
    const inlineEnds = this.#columns.map(({ model: { index, kind, widthBytes } }) =>
      offsets[index] === 0 ? 4 : offsets[index]! + (kind === 'fixed' ? widthBytes : 4),
    );
    const lastRoot = [wasm.get(this.#size), wasm.const(Math.max(4, ...inlineEnds)), wasm.subtract];
    return [
      [wasm.get(this.#vtable), wasm.get(this.#end), wasm.const(vtable.length), wasm.subtract],
      [wasm.isGreater, wasm.breakIf(NEXT_SHAPE)],
      this.#sameVtable(vtable),
      // Signed: the frame may be shorter than its fields.
      [wasm.get(this.#root), lastRoot, wasm.isGreaterSigned, wasm.breakIf(RUN_END)],
      this.#columns.map((column) => this.#cell(column, offsets[column.model.index]!)),
      wasm.break(ROW_END),
    ];
  }

  #sameVtable(vtable: Uint8Array): Code {
    const view = new DataView(vtable.buffer, vtable.byteOffset, vtable.byteLength);
    const tests: Code[] = [];
    const other = wasm.breakIf(NEXT_SHAPE);
    let at = 0;
    for (; at + 8 <= vtable.length; at += 8) {
      const word = wasm.const64(view.getBigUint64(at, true));
      tests.push([wasm.get(this.#vtable), wasm.load64(at), word, wasm.isNotEqual64, other]);
    }
    for (; at < vtable.length; at += 2) {
      const word = wasm.const(view.getUint16(at, true));
      tests.push([wasm.get(this.#vtable), wasm.load16(at), word, wasm.isNotEqual, other]);
    }
    return tests;
  }

  #cell(column: RunColumn, offset: number): Code {
    const { before, nullsBefore } = this.#layout.places[column.model.index]!;
    const isNull = wasm.const(offset === 0 ? 1 : 0);
    const nulls = nullsBefore < 0 ? [] : [this.#cellAt(1), isNull, wasm.store8(this.#stride * nullsBefore)];
    const at = this.#stride * before;
    const value = column.dataAt < 0 ? this.#fixed(column, at, offset) : this.#variable(column, at, offset);
    return [nulls, value];
  }

  /** The row's cell in a column of this width that would begin with the arena. */
  #cellAt(widthBytes: 1 | 2 | 4 | 8): Code {
    const row = [wasm.get(this.#row), wasm.const(SHIFTS[widthBytes]), wasm.shiftLeft];
    return [row, wasm.get(this.#arena), wasm.add];
  }

  #fixed({ model }: RunColumn, at: number, offset: number): Code {
    const cell = this.#cellAt(model.widthBytes);
    const [table, bits] = [wasm.get(this.#table), model.defaultBits];
    const given = (load: Code, ifAbsent: Code): Code => (offset === 0 ? ifAbsent : [table, load]);
    const small = wasm.const(Number(BigInt.asIntN(32, bits)));
    switch (model.widthBytes) {
      case 1: {
        const isTrue = model.scalar === 'bool' ? [wasm.const(0), wasm.isNotEqual] : [];
        return [cell, given([wasm.load8(offset), isTrue], small), wasm.store8(at)];
      }
      case 2:
        return [cell, given(wasm.load16(offset), small), wasm.store16(at)];
      case 4:
        return [cell, given(wasm.load(offset), small), wasm.store(at)];
      case 8:
        return [cell, given(wasm.load64(offset), wasm.const64(bits)), wasm.store64(at)];
    }
  }

  #variable({ model, dataAt }: RunColumn, at: number, offset: number): Code {
    const { elements, next } = this.#vars.get(model.index)!;
    const end = [this.#cellAt(4), wasm.get(elements), wasm.store(at)];
    if (offset === 0) return end;
    const shift = wasm.const(SHIFTS[model.widthBytes]);
    const stop = wasm.breakIf(RUN_END);
    const room = [wasm.get(this.#end), wasm.get(this.#at), wasm.subtract, wasm.const(4), wasm.subtract];
    return [
      [wasm.get(this.#table), wasm.const(offset), wasm.add, wasm.set(this.#at)],
      // An offset is 1 to `room`.
      [wasm.get(this.#at), wasm.load(), wasm.const(1), wasm.subtract, room, wasm.isNotLess, stop],
      [wasm.get(this.#at), wasm.get(this.#at), wasm.load(), wasm.add, wasm.set(this.#at)],
      [wasm.get(this.#at), wasm.load(), wasm.tee(this.#length), wasm.const(0), wasm.isLessSigned, stop],
      [wasm.get(this.#length), this.#most(model, room), wasm.isGreaterSigned, stop],
      model.kind === 'string'
        ? [wasm.get(this.#at), wasm.get(this.#length), wasm.add, wasm.load8(4), stop]
        : [],
      [wasm.get(next), wasm.get(this.#length), shift, wasm.shiftLeft, wasm.add, wasm.tee(this.#stop)],
      [wasm.const(dataAt + DATA_SIZE_BYTES), wasm.isGreater, stop],
      [wasm.get(elements), wasm.get(this.#length), wasm.add, wasm.set(elements)],
      // Behind the length.
      copyWords(next, this.#at, this.#stop, 4),
      end,
    ];
  }

  /** Most elements that a vector may have; a string has a terminating zero behind it. */
  #most({ kind, widthBytes }: ColumnModel, room: Code): Code {
    if (kind === 'string') return [room, wasm.const(1), wasm.subtract];
    return [room, wasm.const(SHIFTS[widthBytes]), wasm.shiftRightSigned];
  }

  #provenance(): Code {
    const at = (before: number) => this.#stride * before;
    return [
      [this.#cellAt(8), wasm.get(this.#seq), wasm.store64(at(SEQ_BEFORE))],
      [this.#cellAt(8), wasm.get(this.#ingestTs), wasm.store64(at(INGEST_TS_BEFORE))],
      [this.#cellAt(4), wasm.get(this.#streamIndex), wasm.store(at(this.#layout.streamIndexBefore))],
      [wasm.get(this.#seq), wasm.const64(1n), wasm.add64, wasm.set(this.#seq)],
    ];
  }
}
