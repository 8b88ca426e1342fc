import { expect, test } from 'bun:test';
import type { EventSource, FeedEvent } from '../../src/feed/event.ts';
import { mergedByTime, oneAfterAnother } from '../../src/feed/merge.ts';
import { createPacer, parseSpeed } from '../../src/feed/pacer.ts';
import { seededRandom } from '../support/random.ts';

const event = (time: number, source: number, n: number): FeedEvent => ({
  topic: 'market_data',
  row: { source, n },
  eventTimeNs: BigInt(time),
});

function sourceOf(batches: FeedEvent[][], onEnd = () => {}): EventSource {
  return {
    label: 'test',
    sizeBytes: 0,
    readBytes: () => 0,
    async *batches() {
      try {
        yield* batches;
      } finally {
        onEnd();
      }
    },
  };
}

async function all(batches: AsyncGenerator<FeedEvent[]>): Promise<FeedEvent[]> {
  const events: FeedEvent[] = [];
  for await (const batch of batches) events.push(...batch);
  return events;
}

test('sorted sources merge to what a stable sort of all events gives', async () => {
  const random = seededRandom('merge');
  for (let round = 0; round < 50; round++) {
    const lists = Array.from({ length: random.int(0, 6) }, (_, source) => {
      let time = random.int(0, 50);
      return Array.from({ length: random.int(0, 900) }, (_, n) => {
        time += random.int(0, 3);
        return event(time, source, n);
      });
    });
    const sources = lists.map((list) => {
      const batches: FeedEvent[][] = [[]];
      for (const one of list) {
        if (random.int(0, 20) === 0) batches.push([]);
        batches.at(-1)!.push(one);
      }
      return sourceOf(batches);
    });
    const expected = lists.flat().sort((a, b) => Number(a.eventTimeNs - b.eventTimeNs));
    expect(await all(mergedByTime(sources))).toEqual(expected);
  }
});

test('a source whose times go back keeps its order', async () => {
  const back = [event(5, 0, 0), event(1, 0, 1), event(9, 0, 2)];
  const other = [event(2, 1, 0), event(6, 1, 1)];
  const merged = await all(mergedByTime([sourceOf([back]), sourceOf([other])]));
  expect(merged.filter(({ row }) => row['source'] === 0)).toEqual(back);
  expect(merged).toHaveLength(5);
});

test('sources are closed when the reader stops early', async () => {
  let closed = 0;
  const sources = [0, 1].map((source) =>
    sourceOf([[event(1, source, 0)], [event(2, source, 1)]], () => closed++),
  );
  for await (const _ of mergedByTime(sources)) break;
  expect(closed).toBe(2);
});

test('one after another keeps the order of the sources', async () => {
  const events = await all(oneAfterAnother([sourceOf([[event(5, 0, 0)]]), sourceOf([[event(1, 1, 0)]])]));
  expect(events.map(({ row }) => row['source'])).toEqual([0, 1]);
});

test('the pacer says how long until an event is due, by the recorded time and the factor', () => {
  let now = 1000;
  const pacer = createPacer(10, () => now);
  expect(pacer(5_000_000_000n)).toBe(0);
  expect(pacer(5_500_000_000n)).toBe(50);
  now = 1020;
  expect(pacer(5_500_000_000n)).toBe(30);
  now = 2000;
  expect(pacer(5_500_000_000n)).toBe(0);
  // Time that goes back is due at once.
  expect(pacer(1_000_000_000n)).toBe(0);
});

test('speeds', () => {
  expect(['max', '1x', '10x', '0.5x', '2'].map(parseSpeed)).toEqual(['max', 1, 10, 0.5, 2]);
  for (const text of ['', '0x', '-1x', 'fast', '1xx']) expect(() => parseSpeed(text)).toThrow('--speed');
});
