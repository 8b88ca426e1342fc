// One topic's server stands still; the others are delivered as if nothing were.

import { expect, test } from 'bun:test';
import { MemoryFileSystem } from '../support/memory-file-system.ts';
import { seededRandom } from '../support/random.ts';
import { ModelProducer } from './model-producer.ts';
import { ModelServer, type StoredRow } from './model-server.ts';
import { noSeams, openRecorder, startFlusher, usualSettings } from './process.ts';
import { modelTopics } from './topics.ts';
import { VirtualTime } from './virtual-time.ts';

test('an insert of market data that never ends does not hold up a single fill', async () => {
  const random = seededRandom('independent topics');
  const time = new VirtualTime();
  const disk = new MemoryFileSystem();
  const producer = new ModelProducer('a', random);
  const server = new ModelServer(modelTopics, true, time, random);
  const stored: StoredRow[] = [];
  server.onStored = (row) => void stored.push(row);
  time.install();
  try {
    const recorder = await time.until('recorder', () =>
      openRecorder(disk, usualSettings, [producer], noSeams, () => {}),
    );
    const connect = () => {
      const client = server.connect();
      const insert: typeof client.insert = (request) =>
        request.sql.includes('`ticks`') ? new Promise(() => {}) : client.insert(request);
      return { ...client, insert };
    };
    await time.run('recorder', () => {
      startFlusher(disk, connect, 'RowBinary', random, noSeams, () => {});
      producer.make(200);
      producer.connect(recorder.shared);
      producer.send(true);
    });
    await time.advance(5000);
    expect(producer.isAcked).toBe(true);
    const sent = producer.frames.filter(({ model }) => model?.topic === 'fills');
    expect(stored.map(({ cells }) => cells['id'])).toEqual(sent.map(({ id }) => id));
  } finally {
    time.uninstall();
  }
});
