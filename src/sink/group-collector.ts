// Decides when a topic's next group is complete: full, or old enough and the topic free to send it. While a
// group is on its way the next one goes on growing.

import type { GroupReader } from './group-reader.ts';
import type { HorizonWatch } from './horizon-watch.ts';
import type { InsertGroup } from './insert-group.ts';
import { pause } from './retry.ts';

/** A segment that is listed before it can be read: looked at again. */
const STUCK_POLL_MS = 20;

export interface GroupCollectorOptions {
  reader: GroupReader;
  watch: HorizonWatch;
  /** Age that closes a group, from its first row's reading. */
  flushIntervalMs: number;
  signal: AbortSignal;
  /** No group of the topic is on its way. */
  isFree: () => boolean;
  /** Whatever there is is wanted at once. */
  isDraining: () => boolean;
}

export class GroupCollector {
  readonly #options: GroupCollectorOptions;
  #group: InsertGroup | null = null;
  /** Reading has failed, maybe behind rows that are in no group. */
  #hasFailed = false;
  #isClosed = false;

  constructor(options: GroupCollectorOptions) {
    this.#options = options;
  }

  /** All rows of the topic below it have been given out, or are in the group that grows. */
  get position(): bigint {
    return this.#options.reader.position;
  }

  /** Rows have been read, or may have been, that are in no group before the last one given out. */
  get hasRows(): boolean {
    return this.#group !== null || this.#hasFailed;
  }

  /** Ends `next` with null at its next step. */
  close(): void {
    this.#isClosed = true;
    this.#options.watch.nudge();
    this.#options.reader.close();
  }

  /** The next group; null when stopped, closed, or drained. Throws what reading the WAL throws. */
  async next(): Promise<InsertGroup | null> {
    const { reader, watch, flushIntervalMs, signal, isFree, isDraining } = this.#options;
    let startedAtMs = 0;
    this.#group = null;
    while (!signal.aborted && !this.#isClosed) {
      const durableLsn = watch.durableLsn();
      const rowsBefore: number = this.#group?.rowCount ?? 0;
      const filled = this.#fill();
      if (filled !== null) {
        if (this.#group === null) startedAtMs = performance.now();
        this.#group = filled.group;
        if (filled.closed) return filled.group;
        if (filled.group.rowCount > rowsBefore) {
          await pause(0, signal);
          continue;
        }
      }
      if (isDraining()) return this.#group;
      const restMs = this.#group === null ? null : startedAtMs + flushIntervalMs - performance.now();
      if (restMs !== null && restMs <= 0 && isFree()) return this.#group;
      const limitMs = restMs === null || restMs <= 0 ? null : restMs;
      await watch.moved(durableLsn, reader.position < durableLsn ? STUCK_POLL_MS : limitMs);
    }
    return null;
  }

  #fill(): ReturnType<GroupReader['fill']> {
    try {
      return this.#options.reader.fill(this.#group);
    } catch (error) {
      this.#hasFailed = true;
      throw error;
    }
  }
}
