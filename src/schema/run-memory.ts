// The memory in which a thread reads runs: what came from sockets, and the arenas of the batches that they
// are written to.
//
// Life cycle: a batch is made with an arena of its own, moves in at its first run, and moves out when another
// batch of its topic comes in its place, or when there is no room beside others. So every topic has one batch
// here, the open one: who keeps a batch (one that the WAL cannot take) or makes many (tests) need not know.

import { arenaViews, type Batch } from '../columns/batch.ts';
import { PAGE_SIZE_BYTES } from '../wasm-code.ts';
import type { TopicModel } from './model.ts';
import { ARENAS_AT, INPUT_AT, INPUT_SIZE_BYTES } from './run-code.ts';

/**
 * Address space, which takes room where something is written. The open batches of seven topics at their
 * largest (limits.batchBytes) fit beside one another.
 */
const SIZE_BYTES = 36 * 1024 * 1024;

interface Place {
  at: number;
  sizeBytes: number;
  batch: Batch;
}

export class RunMemory {
  readonly memory: WebAssembly.Memory;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  readonly #places = new Map<TopicModel, Place>();
  #end = ARENAS_AT;

  constructor() {
    const pages = SIZE_BYTES / PAGE_SIZE_BYTES;
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const buffer = this.memory.buffer as ArrayBuffer;
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
  }

  /** Address of the batch's arena, which moves in where it is not here; -1: it is too large. */
  arenaOf(batch: Batch): number {
    return batch.u8.buffer === this.bytes.buffer ? batch.u8.byteOffset : this.#moveIn(batch);
  }

  #moveIn(batch: Batch): number {
    const { model } = batch;
    const sizeBytes = batch.u8.length;
    if (sizeBytes > SIZE_BYTES - ARENAS_AT) return -1;
    let place = this.#places.get(model);
    if (place !== undefined) moveOut(place.batch);
    if (place === undefined || place.sizeBytes < sizeBytes) {
      if (sizeBytes > SIZE_BYTES - this.#end) this.#clear();
      place = { at: this.#end, sizeBytes, batch };
      this.#end += sizeBytes;
      this.#places.set(model, place);
    }
    place.batch = batch;
    moveArena(batch, this.bytes.buffer, place.at);
    return place.at;
  }

  #clear(): void {
    for (const { batch } of this.#places.values()) moveOut(batch);
    this.#places.clear();
    this.#end = ARENAS_AT;
  }
}

/** Moves the arena, with what is in it. */
function moveArena(batch: Batch, buffer: ArrayBuffer, at: number): void {
  const { u8 } = batch;
  Object.assign(batch, arenaViews(buffer, at, u8.length));
  batch.u8.set(u8);
}

function moveOut(batch: Batch): void {
  moveArena(batch, new ArrayBuffer(batch.u8.length), 0);
}

let shared: RunMemory | null = null;

/** The thread's. */
export function runMemory(): RunMemory {
  shared ??= new RunMemory();
  return shared;
}

/** Memory to read sockets into: frames that lie there need not be copied to be read as a run. */
export function runInput(): Uint8Array<ArrayBuffer> {
  return runMemory().bytes.subarray(INPUT_AT, INPUT_AT + INPUT_SIZE_BYTES);
}
