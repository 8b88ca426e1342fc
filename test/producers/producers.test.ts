// Producers in C++ and Python that share no code with the recorder: every value of every frame is in the
// columns of a block. Through the whole program into ClickHouse: test/integration/foreign-producers.test.ts.

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { commitRow, createBatch } from '../../src/columns/batch.ts';
import { blockSizeBytes, encodeBlock, openBlock } from '../../src/columns/block-codec.ts';
import { createExtractor } from '../../src/schema/extractor.ts';
import type { TopicModel } from '../../src/schema/model.ts';
import { topicByIdentifier } from '../../src/schema/registry.ts';
import { FakeRecorder } from '../feed/producer-support.ts';
import {
  buildProducers,
  LANGUAGES,
  type Language,
  missingTools,
  runProducer,
  temporaryDirectory,
} from './foreign.ts';
import { type StoredValue, storedInBlock } from './stored-values.ts';

const missing = missingTools();
const directory = missing ? '' : temporaryDirectory();
beforeAll(() => {
  if (!missing) buildProducers(directory);
}, 120_000);
afterAll(() => {
  if (directory !== '') rmSync(directory, { recursive: true, force: true });
});

const ROWS = 900;
const produce = (language: Language, socket: string, ...flags: string[]) =>
  runProducer(directory, language, socket, ROWS, ...flags);

/** The value that the extractor put into a block's columns. */
function extracted(model: TopicModel, frame: Uint8Array): Record<string, StoredValue> {
  const batch = createBatch(model, 1);
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  expect(createExtractor(model)(view, frame, 0, frame.length, batch)).toBe(0);
  commitRow(batch, 0, 1, 0, 0, 0);
  const streams = [{ source: new Uint8Array(), session: new Uint8Array() }];
  const payload = new Uint8Array(blockSizeBytes(batch, streams));
  encodeBlock(batch, streams, payload);
  return storedInBlock(openBlock(model, payload, 1), 0);
}

for (const language of LANGUAGES) {
  test.skipIf(missing)(
    `${language}: every value of every frame is in the columns`,
    async () => {
      const socket = join(directory, 'fake.sock');
      const recorder = await FakeRecorder.start(socket);
      try {
        const sent = await produce(language, socket, '--seed', '42');
        while (recorder.sink.frames.length < ROWS) await Bun.sleep(5);
        for (const [i, { topic, values }] of sent.entries()) {
          const { bytes } = recorder.sink.frames[i]!;
          const model = topicByIdentifier(new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, true))!;
          expect(model.topic).toBe(topic);
          expect(extracted(model, bytes)).toEqual(values);
        }
      } finally {
        recorder.stop();
      }
    },
    60_000,
  );
}

test.skipIf(missing)(
  'Python: a session is welcomed and acknowledged',
  async () => {
    const socket = join(directory, 'session.sock');
    const recorder = (await FakeRecorder.start(socket)).syncEvery(5);
    try {
      await produce('Python', socket, '--session', 'strategy', 'run-1');
      expect(recorder.sink.frames).toHaveLength(ROWS);
    } finally {
      recorder.stop();
    }
  },
  60_000,
);
