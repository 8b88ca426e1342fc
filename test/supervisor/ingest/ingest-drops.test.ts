// Rows that are dropped on purpose: which, and that each is counted with its cause.

import { expect, test } from 'bun:test';
import { createFrameBuilder } from '../../../src/schema/build-frame.ts';
import { createExtractor } from '../../../src/schema/extractor.ts';
import { topics } from '../../../src/schema/registry.ts';
import { Ingest } from '../../../src/supervisor/ingest/ingest.ts';
import { NOTHING_STOPPED } from '../../../src/supervisor/ingest/topic-ingest.ts';
import { WalFullError } from '../../../src/wal/errors.ts';

const STREAM = 1;
const FEED = 2;

function fixture(batchRows = 4) {
  const appended: { topicIndex: number; rowCount: number }[] = [];
  const state = { isFull: false, appended };
  const vital = new Set<number>();
  const ingest = new Ingest({
    topics,
    createExtract: createExtractor,
    batchRows,
    append: ({ topicIndex, rowCount }) => {
      if (state.isFull) throw new WalFullError('full', null);
      appended.push({ topicIndex, rowCount });
    },
    streamName: () => ({ source: Buffer.from('s'), session: Buffer.from('1') }),
    isDatagram: (streamId) => streamId === FEED,
    isVital: (streamId) => vital.has(streamId),
    noteVital: (streamId) => vital.add(streamId),
    quarantine: () => {},
    gap: () => {},
    pending: () => {},
  });
  let seq = 0;
  const send = (topic: string, streamId: number) => {
    const model = topics.find((one) => one.topic === topic)!;
    const frame = createFrameBuilder(model).build({});
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    ingest.chunkStart('test');
    ingest.frame(streamId, ++seq, 0, frame, view, 0, frame.length);
    return ingest.chunkEnd();
  };
  return { ingest, state, send };
}

const indexOf = (topic: string) => topics.findIndex((model) => model.topic === topic);

test('shed topics lose datagrams and no row of a stream; stopped ones lose both', () => {
  const { ingest, send } = fixture();
  const topicsStopped = new Map([[indexOf('latency_spans'), 'all']] as const);
  ingest.setDrops(new Set([indexOf('market_data')]), { topics: topicsStopped, holdsVital: false });
  for (const streamId of [STREAM, FEED]) {
    for (const topic of ['market_data', 'latency_spans', 'fills']) send(topic, streamId);
  }
  ingest.setDrops(new Set(), NOTHING_STOPPED);
  for (const topic of ['market_data', 'latency_spans']) send(topic, FEED);
  const counts = (topic: string) => {
    const { received, shed, batch } = ingest.topics[indexOf(topic)]!;
    return { received, shed, kept: batch.rowCount };
  };
  expect(counts('market_data')).toEqual({ received: 3, shed: 1, kept: 2 });
  expect(counts('latency_spans')).toEqual({ received: 3, shed: 2, kept: 1 });
  expect(counts('fills')).toEqual({ received: 2, shed: 0, kept: 2 });
  const shed = [...ingest.shedRows()].filter(({ rows }) => rows > 0);
  expect(shed).toEqual([
    { topic: 'latency_spans', cause: 'disk', rows: 2 },
    { topic: 'market_data', cause: 'memory', rows: 1 },
  ]);
});

test('buffered rows and bytes are those of open and of waiting batches, and go to zero', () => {
  const { ingest, state, send } = fixture();
  state.isFull = true;
  for (let i = 0; i < 10; i++) send('fills', STREAM);
  for (let i = 0; i < 3; i++) send('orders', STREAM);
  expect(ingest.seal()).toBe(false);
  const { rows, bytes, openBytes } = ingest.buffered();
  expect(rows).toBe(13);
  expect(bytes).toBeGreaterThan(openBytes);
  state.isFull = false;
  expect(ingest.seal()).toBe(true);
  expect(ingest.buffered()).toEqual({ rows: 0, bytes: 0, openBytes: 0 });
  expect(state.appended.map(({ rowCount }) => rowCount)).toEqual([4, 4, 2, 3]);
});

test('the fullest topic is sealed alone', () => {
  const { ingest, state, send } = fixture(100);
  for (let i = 0; i < 5; i++) send('latency_spans', STREAM);
  for (let i = 0; i < 50; i++) send('market_data', STREAM);
  ingest.sealFullest();
  expect(state.appended).toEqual([{ topicIndex: indexOf('market_data'), rowCount: 50 }]);
  expect(ingest.buffered().rows).toBe(5);
});

test('who brings a stopped topic is held back, not dropped; who brings fills too from halt on', () => {
  const { ingest, send } = fixture();
  const MIXED = 3;
  for (const topic of ['market_data', 'fills']) expect(send(topic, MIXED)).toBe(false);
  expect(ingest.seal()).toBe(true);
  const stop = (holdsVital: boolean) =>
    ingest.setDrops(new Set(), {
      topics: new Map([[indexOf('market_data'), 'datagrams']]),
      holdsVital,
    });
  stop(false);
  expect([send('market_data', STREAM), send('fills', STREAM)]).toEqual([true, false]);
  expect([send('market_data', MIXED), send('fills', MIXED)]).toEqual([false, false]);
  expect([send('market_data', FEED), send('fills', FEED)]).toEqual([false, false]);
  stop(true);
  expect([send('market_data', MIXED), send('fills', MIXED)]).toEqual([true, false]);
  ingest.setDrops(new Set([indexOf('market_data')]), NOTHING_STOPPED);
  expect(send('market_data', STREAM)).toBe(false);
  expect(ingest.topics[indexOf('market_data')]).toMatchObject({ received: 6, shed: 1 });
});
