// The memory guard: what to do about rows that are in memory and not yet in the WAL. Pure; the caller acts.
//
// By fill, which is buffered bytes or rows as a share of their bound, the greater one:
//
//   open batches > flush threshold   the fullest topic is sealed at once, whatever its age
//   fill >= 0.5                      stream producers are paused: the kernel holds them back
//   fill >= 0.6 … 1.0                datagrams, which cannot be held back, are shed topic after topic
//
// Invariants
// - Topics are shed in the order of topic-priority.ts: no fill before all market data.
// - Each threshold has a lower one at which it ends, so that nothing flutters.
// - Rows of streams are never shed here: a paused producer still has them.

import type { Config } from '../../config.ts';
import { limits } from '../../limits.ts';

/** Rows that are not in the WAL. */
export interface BufferedRows {
  rows: number;
  /** Open batches and full ones that wait. */
  bytes: number;
  /** Open batches alone. */
  openBytes: number;
}

export interface MemoryBounds {
  maxBytes: number;
  maxRows: number;
  /** Bytes of open batches at which the fullest topic is sealed. */
  flushBytes: number;
  /** Bytes in the WAL that no sync has covered, and in memory, at which streams are paused. */
  unsyncedBytes: number;
}

export const PAUSE_AT_FILL = 0.5;
const RESUME_AT_FILL = 0.25;
const FIRST_SHED_FILL = 0.6;
const LAST_SHED_FILL = 1;
const SHED_HYSTERESIS = 0.05;

/** Bounds of the memory guard. */
export function memoryBounds({ memoryMaxBytes, memoryMaxRows, memoryFlushBytes }: Config): MemoryBounds {
  const { unsyncedBytes } = limits;
  return { maxBytes: memoryMaxBytes, maxRows: memoryMaxRows, flushBytes: memoryFlushBytes, unsyncedBytes };
}

export class MemoryGuard {
  #bounds: MemoryBounds;
  readonly #topicCount: number;
  #fill = 0;
  #paused = false;
  #shedCount = 0;

  /** `topicCount`: topics that can be shed, one after another. */
  constructor(bounds: MemoryBounds, topicCount: number) {
    this.#bounds = bounds;
    this.#topicCount = topicCount;
  }

  /** Share of the bound that is used; above 1 it is exceeded. */
  get fill(): number {
    return this.#fill;
  }

  /** Stream producers are to be held back. */
  get paused(): boolean {
    return this.#paused;
  }

  /** So many topics, the least important first, are to be shed. */
  get shedCount(): number {
    return this.#shedCount;
  }

  /** Takes other bounds, from the next measurement on. */
  setBounds(bounds: MemoryBounds): void {
    this.#bounds = bounds;
  }

  /** Takes a measurement; true where the fullest topic is to be sealed now. */
  measure(buffered: BufferedRows, unsyncedBytes: number): boolean {
    const { maxBytes, maxRows, flushBytes, unsyncedBytes: pauseBytes } = this.#bounds;
    const fill = Math.max(buffered.bytes / maxBytes, buffered.rows / maxRows);
    this.#fill = fill;
    const waitingBytes = unsyncedBytes + buffered.bytes;
    if (fill >= PAUSE_AT_FILL || waitingBytes > pauseBytes) this.#paused = true;
    else if (fill < RESUME_AT_FILL && waitingBytes < pauseBytes / 2) this.#paused = false;
    while (this.#shedCount < this.#topicCount && fill >= this.#shedAt(this.#shedCount)) this.#shedCount++;
    while (this.#shedCount > 0 && fill < this.#shedAt(this.#shedCount - 1) - SHED_HYSTERESIS)
      this.#shedCount--;
    return buffered.openBytes > flushBytes;
  }

  #shedAt(rank: number): number {
    if (this.#topicCount < 2) return LAST_SHED_FILL;
    return FIRST_SHED_FILL + ((LAST_SHED_FILL - FIRST_SHED_FILL) * rank) / (this.#topicCount - 1);
  }
}
