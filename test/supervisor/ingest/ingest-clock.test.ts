// A block says that its rows are in the order of their times only where they are.

import { afterEach, expect, spyOn, test } from 'bun:test';
import { nowNs } from '../../../src/clock.ts';
import { openBlock } from '../../../src/columns/block-codec.ts';
import { createFrameBuilder } from '../../../src/schema/build-frame.ts';
import { createExtractor } from '../../../src/schema/extractor.ts';
import { topicByName } from '../../../src/schema/registry.ts';
import { Ingest } from '../../../src/supervisor/ingest/ingest.ts';
import { randomRow } from '../../support/frames.ts';
import { seededRandom } from '../../support/random.ts';
import { until } from '../../support/recorder-process.ts';

const DEADLINE_MS = 10_000;
const HOUR_MS = 3_600_000;
const spans = topicByName('latency_spans')!;
const random = seededRandom('ingest clock');
const frame = createFrameBuilder(spans).build(randomRow(spans, random)).slice();
const view = new DataView(frame.buffer, frame.byteOffset, frame.length);

/** Sets the system's clock by so much and waits until it is followed: it is looked at once a second. */
async function setClock(byMs: number): Promise<void> {
  const before = nowNs();
  now.mockImplementation(() => realNow() + byMs);
  const isFollowed = () => {
    const movedMs = Number(nowNs() - before) / 1e6;
    return byMs < 0 ? movedMs < byMs / 2 : movedMs > HOUR_MS / 2;
  };
  await until(isFollowed, 'the clock does not follow', DEADLINE_MS);
}

const realNow = Date.now;
const now = spyOn(Date, 'now');
afterEach(() => now.mockRestore());

test('a block in which the clock was set back says so, the next one is in order again', async () => {
  const blocks: { inTimeOrder: boolean | undefined; times: bigint[] }[] = [];
  const ingest = new Ingest({
    topics: [spans],
    createExtract: createExtractor,
    batchRows: 1000,
    append: ({ inTimeOrder, rowCount, payloadSizeBytes, encode }) => {
      const payload = new Uint8Array(payloadSizeBytes);
      encode(payload);
      const words = openBlock(spans, payload, rowCount).ingestTsWords;
      const times = new BigUint64Array(words.slice().buffer);
      blocks.push({ inTimeOrder, times: [...times] });
    },
    streamName: () => ({ source: new Uint8Array(0), session: new Uint8Array(0) }),
    isDatagram: () => false,
    isVital: () => false,
    noteVital: () => {},
    quarantine: () => {},
    gap: () => {},
    pending: () => {},
  });
  let seq = 0;
  const chunk = () => {
    ingest.chunkStart('test');
    for (let count = random.int(1, 3); count > 0; count--) {
      ingest.frame(0, ++seq, 0, frame, view, 0, frame.length);
    }
    ingest.chunkEnd();
  };
  const seal = () => {
    chunk();
    ingest.seal();
  };
  chunk();
  seal();
  chunk();
  await setClock(-HOUR_MS);
  seal();
  chunk();
  seal();
  chunk();
  // Time that jumps ahead is in order.
  await setClock(0);
  seal();
  // Set back between two blocks.
  await setClock(-HOUR_MS);
  chunk();
  seal();
  await setClock(0);

  const hasFallen = (times: bigint[]) => times.some((time, row) => row > 0 && time < times[row - 1]!);
  expect(blocks.map(({ times }) => hasFallen(times))).toEqual([false, true, false, false, false]);
  expect(blocks.map(({ inTimeOrder }) => inTimeOrder)).toEqual([true, false, true, true, true]);
}, 30_000);
