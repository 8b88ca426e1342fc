// Runs: frames of a topic that follow one another in what was read from a socket, read together.
//
// A producer that is ahead fills every read with a thousand frames and more. One by one each goes through
// framing, session, dispatch and extractor, five calls; a run is read by one function of WebAssembly
// (run-code.ts), generated for the vtables that the extractor has learned, which writes the cells where they
// belong in the batch. Measured: see ARCHITECTURE.md.
//
// Invariants
// - A run holds only frames that the extractor would have accepted, in their order; the cells are the same.
// - What it does not take it leaves to the extractor, which says what is wrong with it.
// - All readers of a thread work in one memory (run-memory.ts), one after another; from one call to the next
//   only the batches' arenas are in it and, during its chunk, what was read from a socket straight into it.

import type { Batch } from '../columns/batch.ts';
import type { CellWriter } from '../columns/clean-cells.ts';
import { beginRun, countRun, elementsBefore, type RowRun } from '../columns/row-run.ts';
import { WasmFunction } from '../wasm-code.ts';
import type { LearnedShapes } from './frame-shape.ts';
import type { TopicModel } from './model.ts';
import { INPUT_AT, INPUT_SIZE_BYTES, RUN_FACTS, type RunCode, runCode } from './run-code.ts';
import { runMemory } from './run-memory.ts';

/** Shorter runs cost more than their frames one by one. */
const SHORT_RUN_ROWS = 32;
/** So many frames are read one by one after a short run, then twice as many, and so on. */
const FIRST_PAUSE = 64;
const LONGEST_PAUSE = 16_384;

/** Provenance of a run: its stream, the number of its first row as two words, and the ingest time. */
export interface RunOrigin {
  streamId: number;
  seqLow: number;
  seqHigh: number;
  tsLow: number;
  tsHigh: number;
}

/** Reads runs of one topic's frames. */
export class RunReader {
  /** Rows of the last run. */
  rows = 0;
  readonly #model: TopicModel;
  readonly #shapes: LearnedShapes;
  /** What the code was generated for. */
  #version = -1;
  #stride = 0;
  #run: { call: WasmFunction; rows: RowRun } | null = null;
  readonly #shortRunRows: number;
  #pause = FIRST_PAUSE;
  #unread = 0;

  constructor(model: TopicModel, shapes: LearnedShapes, shortRunRows = SHORT_RUN_ROWS) {
    this.#model = model;
    this.#shapes = shapes;
    this.#shortRunRows = shortRunRows;
  }

  /**
   * Reads frames with their size prefix from bytes[start, end) into the batch, as many as there is room for.
   * Returns where the first one begins that it has not read; `rows` says how many it has.
   */
  read(
    batch: Batch,
    bytes: Uint8Array,
    start: number,
    end: number,
    maxFrameBytes: number,
    origin: RunOrigin,
  ): number {
    this.rows = 0;
    if (this.#unread > 0) {
      this.#unread--;
      return start;
    }
    if (this.#version !== this.#shapes.version || this.#stride !== batch.stride) this.#generate(batch);
    const run = this.#run;
    if (run === null) return start;
    const { memory, bytes: own, view } = runMemory();
    const arena = runMemory().arenaOf(batch);
    if (arena < 0) return start;
    const isThere = bytes.buffer === own.buffer;
    const limit = Math.min(end, start + INPUT_SIZE_BYTES);
    if (!isThere) own.set(bytes.subarray(start, limit), INPUT_AT);
    const from = isThere ? bytes.byteOffset + start : INPUT_AT;
    const { rowCount, capacityRows } = batch;
    view.setInt32(RUN_FACTS.arena, arena, true);
    view.setInt32(RUN_FACTS.row, rowCount, true);
    this.#tell(view, run, batch, origin);
    const position = run.call.call(memory, from, from + limit - start, capacityRows, maxFrameBytes);
    this.rows = view.getInt32(RUN_FACTS.row, true) - rowCount;
    countRun(batch, run.rows, this.rows, origin.streamId);
    this.#pauseAfter(this.rows < Math.min(this.#shortRunRows, capacityRows - rowCount));
    return start + position - from;
  }

  #tell(view: DataView, { rows }: { rows: RowRun }, batch: Batch, origin: RunOrigin): void {
    view.setInt32(RUN_FACTS.seq, origin.seqLow, true);
    view.setInt32(RUN_FACTS.seq + 4, origin.seqHigh, true);
    view.setInt32(RUN_FACTS.ingestTs, origin.tsLow, true);
    view.setInt32(RUN_FACTS.ingestTs + 4, origin.tsHigh, true);
    view.setInt32(RUN_FACTS.streamIndex, beginRun(batch, rows.writer, origin.streamId), true);
    rows.columns.forEach((column, index) => {
      if (column.dataAt < 0) return;
      view.setInt32(RUN_FACTS.elements + index * 4, elementsBefore(batch, column), true);
    });
  }

  #pauseAfter(isShort: boolean): void {
    if (!isShort) {
      this.#pause = FIRST_PAUSE;
      return;
    }
    this.#unread = this.#pause;
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
  }

  #generate({ stride }: Batch): void {
    this.#version = this.#shapes.version;
    this.#stride = stride;
    this.#run = null;
    const code = runCode(this.#model, this.#shapes.vtables(), stride);
    if (code === null || code.columns.length === 0) return;
    const { columns, module } = code;
    const rows: RowRun = { bytes: runMemory().bytes, columns, writer: writerOf(this.#model, code) };
    this.#run = { call: new WasmFunction(module), rows };
    this.#unread = 0;
    this.#pause = FIRST_PAUSE;
  }
}

function writerOf(model: TopicModel, { columns }: RunCode): CellWriter {
  const written = columns.map((column) => column.model.index);
  const all = model.columns.map(({ index }) => index);
  return { written, skipped: all.filter((index) => !written.includes(index)) };
}
