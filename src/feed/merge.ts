// Several sources to one sequence of events.

import type { EventSource, FeedEvent } from './event.ts';

const BATCH_ROWS = 256;

/** One source after the other, in the order given. */
export async function* oneAfterAnother(sources: readonly EventSource[]): AsyncGenerator<FeedEvent[]> {
  for (const source of sources) yield* source.batches();
}

interface Cursor {
  batches: AsyncGenerator<FeedEvent[]>;
  batch: FeedEvent[];
  index: number;
}

/**
 * All sources at once, by event time; events of the same time in the order of the sources. The order within
 * a source is never changed: a source whose times go back holds the others up no longer than until its next
 * event is due.
 */
export async function* mergedByTime(sources: readonly EventSource[]): AsyncGenerator<FeedEvent[]> {
  const cursors: Cursor[] = sources.map((source) => ({ batches: source.batches(), batch: [], index: 0 }));
  try {
    let merged: FeedEvent[] = [];
    for (;;) {
      for (let i = cursors.length - 1; i >= 0; i--) {
        const cursor = cursors[i]!;
        if (cursor.index >= cursor.batch.length && !(await refill(cursor))) cursors.splice(i, 1);
      }
      let first: Cursor | null = null;
      for (const cursor of cursors) {
        const time = cursor.batch[cursor.index]!.eventTimeNs;
        if (first === null || time < first.batch[first.index]!.eventTimeNs) first = cursor;
      }
      if (first === null) break;
      takeRun(first, cursors, merged);
      if (merged.length >= BATCH_ROWS) {
        yield merged;
        merged = [];
      }
    }
    yield merged;
  } finally {
    for (const cursor of cursors) await cursor.batches.return(undefined);
  }
}

/** Takes the events of `first` that come before all other cursors' next events. */
function takeRun(first: Cursor, cursors: readonly Cursor[], merged: FeedEvent[]): void {
  let limit: bigint | null = null;
  for (const cursor of cursors) {
    if (cursor === first) continue;
    const time = cursor.batch[cursor.index]!.eventTimeNs;
    if (limit === null || time < limit) limit = time;
  }
  do {
    merged.push(first.batch[first.index++]!);
  } while (
    first.index < first.batch.length &&
    merged.length < BATCH_ROWS &&
    (limit === null || first.batch[first.index]!.eventTimeNs < limit)
  );
}

async function refill(cursor: Cursor): Promise<boolean> {
  for (;;) {
    const { done, value } = await cursor.batches.next();
    if (done === true) return false;
    if (value.length === 0) continue;
    cursor.batch = value;
    cursor.index = 0;
    return true;
  }
}
