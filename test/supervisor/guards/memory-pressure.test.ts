// A WAL without room under a flood of datagrams: memory stays bounded, the least important rows go first,
// every row is accounted for, and all is as before once there is room.

import { expect, test } from 'bun:test';
import { loadConfig } from '../../../src/config.ts';
import { createLogger } from '../../../src/log.ts';
import { createFrameBuilder } from '../../../src/schema/build-frame.ts';
import { topics } from '../../../src/schema/registry.ts';
import { openIngestPath } from '../../../src/supervisor/ingest/ingest-path.ts';
import { MemoryFileSystem } from '../../support/memory-file-system.ts';
import { seededRandom } from '../../support/random.ts';

const MAX_BYTES = 4 << 20;
const FEED = 'feed';
const nothing = () => {};
const observer = {
  appended: nothing,
  synced: nothing,
  durable: nothing,
  syncFailed: nothing,
  walChanged: nothing,
  spareSegment: () => null,
};

async function openPath(disk: MemoryFileSystem) {
  const config = {
    ...loadConfig({}, {}),
    walDir: 'wal',
    walSegmentBytes: 65_536,
    batchRows: 64,
    memoryMaxBytes: MAX_BYTES,
  };
  const logger = await createLogger('test', 'silent');
  return await openIngestPath(config, [FEED], observer, logger, { fileSystem: disk });
}

test('a flood without room in the WAL', async () => {
  const random = seededRandom('memory-pressure');
  const disk = new MemoryFileSystem();
  const path = await openPath(disk);
  const paused: boolean[] = [];
  path.attach({
    pause: () => paused.push(true),
    resume: () => paused.push(false),
    release: () => {},
    sendAcks: () => {},
  });
  const stream = path.streams.open(FEED, 'one', true);
  const frames = new Map(topics.map((model) => [model.topic, createFrameBuilder(model).build({})]));
  const names = [...Array(8).fill('market_data'), 'latency_spans', 'orders', 'fills', 'risk_log'] as string[];
  let seq = 0;
  const send = (topic: string) => {
    const frame = frames.get(topic)!;
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    path.ingest.chunkStart('test');
    path.ingest.frame(stream.id, ++seq, 0, frame, view, 0, frame.length);
    stream.receivedSeq = seq;
    path.streams.touch(stream);
    path.ingest.chunkEnd();
  };
  const topicOf = (name: string) => path.ingest.topics.find(({ model }) => model.topic === name)!;
  const shed = (name: string) => topicOf(name).shed;

  disk.fault = (operation) => (operation === 'write' || operation === 'open' ? 'ENOSPC' : null);
  let mostBytes = 0;
  // Rows that each topic kept, from its first shed row on; in the order in which shedding began.
  const kept = new Map<string, number>();
  const keptOf = (name: string) => topicOf(name).received - shed(name);
  for (let i = 0; i < 200_000; i++) {
    const name = random.pick(names);
    send(name);
    if (shed(name) > 0 && !kept.has(name)) kept.set(name, keptOf(name));
    if (i % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
    mostBytes = Math.max(mostBytes, path.ingest.buffered().bytes);
    // Fills are shed only when nothing else is kept any more.
    if (shed('fills') > 0) expect(path.memory.shedCount).toBe(topics.length);
    if (shed('market_data') > 0) expect(shed('latency_spans')).toBeGreaterThan(0);
  }
  expect(paused).toEqual([true]);
  // The bound, and what one datagram can add: a batch for each topic.
  expect(mostBytes).toBeLessThan(MAX_BYTES * 1.2);
  expect(shed('market_data')).toBeGreaterThan(shed('orders'));
  expect([...kept.keys()]).toEqual(['latency_spans', 'market_data', 'risk_log', 'orders', 'fills']);
  // Nothing leaves a WAL without room: what is shed once is shed for the whole flood.
  for (const [name, rows] of kept) expect([name, keptOf(name)]).toEqual([name, rows]);

  disk.fault = () => null;
  expect(await path.flush(20_000)).toBe(true);
  expect(path.ingest.buffered()).toEqual({ rows: 0, bytes: 0, openBytes: 0 });
  expect([path.memory.shedCount, paused]).toEqual([0, [true, false]]);
  for (const topic of path.ingest.topics) expect(topic.logged + topic.shed).toBe(topic.received);
  const before = shed('latency_spans');
  send('latency_spans');
  expect(await path.flush(20_000)).toBe(true);
  expect(shed('latency_spans')).toBe(before);
  expect(path.wal.durableLsn).toBe(BigInt(path.ingest.topics.reduce((sum, { logged }) => sum + logged, 0)));
  await path.close();
}, 60_000);
