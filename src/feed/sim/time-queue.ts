import type { FeedEvent } from '../event.ts';

/**
 * Events that lie in the future, given back by time; events of the same time in the order in which they
 * came.
 */
export interface TimeQueue {
  readonly size: number;
  push(event: FeedEvent): void;
  /** The earliest event if it is not later than `timeNs`. */
  popUntil(timeNs: bigint): FeedEvent | null;
  /** The earliest event. */
  pop(): FeedEvent | null;
}

interface Slot {
  event: FeedEvent;
  order: number;
}

/** Makes an empty queue (a binary heap). */
export function createTimeQueue(): TimeQueue {
  const heap: Slot[] = [];
  let pushed = 0;
  const before = (a: Slot, b: Slot) =>
    a.event.eventTimeNs < b.event.eventTimeNs ||
    (a.event.eventTimeNs === b.event.eventTimeNs && a.order < b.order);

  const sink = (slot: Slot): void => {
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (before(slot, heap[child]!)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = slot;
  };

  const pop = (): FeedEvent | null => {
    const first = heap[0];
    if (first === undefined) return null;
    const last = heap.pop()!;
    if (heap.length > 0) sink(last);
    return first.event;
  };

  return {
    get size() {
      return heap.length;
    },
    push(event) {
      const slot = { event, order: pushed++ };
      let at = heap.length;
      while (at > 0) {
        const parent = (at - 1) >> 1;
        if (!before(slot, heap[parent]!)) break;
        heap[at] = heap[parent]!;
        at = parent;
      }
      heap[at] = slot;
    },
    popUntil: (timeNs) => (heap.length > 0 && heap[0]!.event.eventTimeNs <= timeNs ? pop() : null),
    pop,
  };
}
