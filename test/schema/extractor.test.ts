import { describe, expect, spyOn, test } from 'bun:test';
import { commitRow, createBatch, isFull, MAX_BATCH_BYTES, resetBatch } from '../../src/columns/batch.ts';
import { openBlock } from '../../src/columns/block-codec.ts';
import { createFrameBuilder, type Row } from '../../src/schema/build-frame.ts';
import { createExtractor, extractorSource } from '../../src/schema/extractor.ts';
import { createGeneric, createRowDecoder } from '../../src/schema/generic.ts';
import { Malformed } from '../../src/schema/malformed.ts';
import type { TopicModel } from '../../src/schema/model.ts';
import { topics } from '../../src/schema/registry.ts';
import { allTypes } from '../support/all-types.ts';
import { blockOf, classOf, expectRow, extractOne, patched, randomRow } from '../support/frames.ts';
import { seededRandom } from '../support/random.ts';

const FRAMES_PER_TOPIC = 300;
const MUTATIONS_PER_TOPIC = 3000;
/** Time for a test that takes a second or two on an idle machine. */
const SLOW_MS = 60_000;

/** A row with every column present and short, so that all its byte mutations can be tried. */
function fullRow(model: TopicModel): Row {
  const entries = model.columns.map((column, i) => {
    if (column.kind === 'string') return [column.name, 'ab'.slice(0, i % 3)];
    if (column.kind === 'array') return [column.name, [1n, 2n].slice(0, 1 + (i % 2))];
    return [column.name, 1n];
  });
  return Object.fromEntries(entries) as Row;
}

for (const model of [...topics, allTypes.model]) {
  describe(model.topic, () => {
    const extract = createExtractor(model);
    const generic = createGeneric(model, classOf(model));
    const batches = [createBatch(model, 8), createBatch(model, 8)] as const;

    const decode = createRowDecoder(model, classOf(model));

    /** Both paths must accept with the same cells, or refuse with the same code. */
    function expectSame(bytes: Uint8Array, what: () => string, start = 0, end = bytes.length): number {
      const fast = extractOne(extract, batches[0], bytes, start, end);
      const slow = extractOne(generic, batches[1], bytes, start, end);
      if (fast.code !== slow.code)
        throw new Error(`${what()}: extractor ${fast.code}, generic path ${slow.code}`);
      if (fast.block !== null && Buffer.compare(fast.block, slow.block!) !== 0) {
        throw new Error(`${what()}: the cells differ`);
      }
      if (batches[0].sizeBytes !== batches[1].sizeBytes) throw new Error(`${what()}: the sizes differ`);
      return fast.code;
    }

    test('reads random frames as the generic path does', () => {
      const random = seededRandom(`extract ${model.topic}`);
      for (const forceDefaults of [false, true]) {
        const builder = createFrameBuilder(model, { forceDefaults });
        for (let i = 0; i < FRAMES_PER_TOPIC; i++) {
          const row = randomRow(model, random);
          const frame = builder.build(row);
          expect(expectSame(frame, () => `frame ${i}`)).toBe(Malformed.ok);
          expectRow(model, row, decode(frame));
        }
      }
    });

    test('reads a frame at any alignment, and nothing of its neighbours', () => {
      const frame = createFrameBuilder(model).build(fullRow(model));
      const reference = extractOne(extract, batches[0], frame).block!;
      for (let shift = 0; shift < 8; shift++) {
        for (const fill of [0, 0xff]) {
          const chunk = new Uint8Array(frame.length + 16).fill(fill);
          chunk.set(frame, shift);
          const found = extractOne(extract, batches[1], chunk, shift, shift + frame.length);
          expect(Buffer.compare(found.block!, reference)).toBe(0);
        }
      }
    });

    test('every truncation is judged as by the generic path', () => {
      const frame = createFrameBuilder(model).build(fullRow(model));
      // In a longer chunk: what lies behind the frame's end must not help it.
      const chunk = new Uint8Array(frame.length + 64);
      chunk.set(frame);
      let refused = 0;
      for (let end = 0; end < frame.length; end++) {
        if (expectSame(chunk, () => `cut at ${end}`, 0, end) !== Malformed.ok) refused++;
      }
      // A frame may end in padding that nobody needs; all else must be missed.
      expect(refused).toBeGreaterThanOrEqual(frame.length - 8);
    });

    test(
      'every single-byte mutation is judged as by the generic path',
      () => {
        const frame = createFrameBuilder(model).build(fullRow(model));
        for (let at = 0; at < frame.length; at++) {
          const mutated = frame.slice();
          for (let value = 0; value < 256; value++) {
            mutated[at] = value;
            expectSame(mutated, () => `byte ${at} = ${value}`);
          }
        }
      },
      SLOW_MS,
    );

    test(
      'random mutations are judged as by the generic path',
      () => {
        const random = seededRandom(`mutate ${model.topic}`);
        const builder = createFrameBuilder(model);
        let refused = 0;
        for (let i = 0; i < MUTATIONS_PER_TOPIC; i++) {
          let frame = builder.build(randomRow(model, random));
          for (let k = random.int(1, 3); k > 0; k--) {
            const value = random.pick([0, 1, 0x7fffffff, 0x80000000, 0xffffffff, frame.length, random.u32()]);
            const width = random.pick([1, 2, 4] as const);
            frame = patched(frame, random.int(0, frame.length - width), value, width);
          }
          if (random.int(0, 4) === 0) frame = frame.slice(0, random.int(0, frame.length));
          if (expectSame(frame, () => `mutation ${i}`) !== Malformed.ok) refused++;
        }
        expect(refused).toBeGreaterThan(MUTATIONS_PER_TOPIC / 100);
      },
      SLOW_MS,
    );

    test('a refused frame leaves its neighbours in the batch as they are', () => {
      const random = seededRandom(`neighbours ${model.topic}`);
      const builder = createFrameBuilder(model);
      const frames = Array.from({ length: 20 }, () => builder.build(randomRow(model, random)));
      const run = (withBad: boolean) => {
        const batch = createBatch(model, 32);
        frames.forEach((frame, i) => {
          if (withBad) {
            const bad = frame.slice(0, frame.length >> 1);
            expect(extract(new DataView(bad.buffer), bad, 0, bad.length, batch)).not.toBe(Malformed.ok);
          }
          expect(extract(new DataView(frame.buffer), frame, 0, frame.length, batch)).toBe(Malformed.ok);
          commitRow(batch, 5 + (i % 3), i, 0, i, 0);
        });
        return batch;
      };
      const [clean, disturbed] = [run(false), run(true)];
      expect(disturbed.sizeBytes).toBe(clean.sizeBytes);
      expect(Buffer.compare(blockOf(disturbed), blockOf(clean))).toBe(0);
    });
  });
}

test('the extractors never make a BigInt', () => {
  const spies = (['getBigInt64', 'getBigUint64', 'setBigInt64', 'setBigUint64'] as const).map((name) =>
    spyOn(DataView.prototype, name),
  );
  const random = seededRandom('no BigInt');
  const frames = topics.map((model) => createFrameBuilder(model).build(randomRow(model, random)));
  for (const spy of spies) spy.mockClear();
  try {
    topics.forEach((model, i) => {
      const batch = createBatch(model, 8);
      const frame = frames[i]!;
      expect(createExtractor(model)(new DataView(frame.buffer), frame, 0, frame.length, batch)).toBe(0);
      commitRow(batch, 0, 1, 0, 0, 0);
      blockOf(batch);
      expect(extractorSource(model)).not.toContain('Big');
    });
    for (const spy of spies) expect(spy).not.toHaveBeenCalled();
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
});

test('arrays of 10,000 levels and strings of 100,000 bytes arrive whole', () => {
  const model = topics.find(({ topic }) => topic === 'market_data')!;
  const levels = BigInt64Array.from({ length: 10_000 }, (_, i) => BigInt(i) * 1_000_000_007n - 5_000n);
  const symbol = 'é'.repeat(50_000);
  const frame = createFrameBuilder(model).build({
    symbol,
    bid_prices: levels,
    ask_sizes: levels.subarray(1),
  });
  const { block } = extractOne(createExtractor(model), createBatch(model, 8), frame);
  const column = (name: string) => openBlock(model, block!, 1).columns.find((c) => c.model.name === name)!;
  expect(new TextDecoder().decode(column('symbol').bytes)).toBe(symbol);
  const prices = column('bid_prices').bytes;
  expect(new BigInt64Array(prices.buffer, prices.byteOffset, 10_000)).toEqual(levels);
  expect(column('ask_sizes').offsets![1]).toBe(9_999);
});

test('a batch is full by rows and by bytes, and is as new after a reset', () => {
  const model = topics.find(({ topic }) => topic === 'risk_log')!;
  const extract = createExtractor(model);
  const huge = createFrameBuilder(model).build({ context: new Uint8Array(MAX_BATCH_BYTES) });
  const batch = createBatch(model, 3);
  extract(new DataView(huge.buffer), huge, 0, huge.length, batch);
  expect(isFull(batch)).toBe(false);
  commitRow(batch, 1, 1, 0, 0, 0);
  expect(isFull(batch)).toBe(true);
  resetBatch(batch);
  expect(batch.vars.every((data) => data.bytes.length <= 4096)).toBe(true);
  const small = createFrameBuilder(model).build({ context: 'x' });
  for (let i = 0; i < 3; i++) {
    expect(isFull(batch)).toBe(false);
    extract(new DataView(small.buffer), small, 0, small.length, batch);
    commitRow(batch, 1, 1, 0, 0, 0);
  }
  expect(isFull(batch)).toBe(true);
});
