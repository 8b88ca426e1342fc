import { describe, expect, test } from 'bun:test';
import { type Batch, commitRow, createBatch, resetBatch } from '../../src/columns/batch.ts';
import { discardRow } from '../../src/columns/clean-cells.ts';
import { createFrameBuilder } from '../../src/schema/build-frame.ts';
import { createExtractor, type Extract } from '../../src/schema/extractor.ts';
import { createGeneric } from '../../src/schema/generic.ts';
import { Malformed } from '../../src/schema/malformed.ts';
import type { TopicModel } from '../../src/schema/model.ts';
import { topics } from '../../src/schema/registry.ts';
import { allTypes } from '../support/all-types.ts';
import { blockOf, classOf, randomRow, rowOf } from '../support/frames.ts';
import { type SeededRandom, seededRandom } from '../support/random.ts';

const SLOW_MS = 60_000;
const CAPACITY = 24;
const SHAPES = 5;

/** Looks at every frame, and soon. */
const learning = (learnAfter: number) => ({ sampleEvery: 1, windowSamples: 1e6, learnAfter });

/** Frames of a few kinds that have the same columns each; some are damaged, some cut. */
function randomFrames(model: TopicModel, random: SeededRandom, count: number): Uint8Array[] {
  // Defaults are written too, so that the frames of a kind have one vtable.
  const builder = createFrameBuilder(model, { forceDefaults: true });
  const kinds = Array.from({ length: SHAPES }, () => Object.keys(randomRow(model, random)));
  return Array.from({ length: count }, () => {
    const frame = builder.build(rowOf(model, random.pick(kinds), random)).slice();
    const damage = random.int(0, 9);
    if (damage === 0) frame[random.int(0, frame.length - 1)] = random.int(0, 255);
    return damage === 1 ? frame.slice(0, random.int(0, frame.length)) : frame;
  });
}

/** What one path makes of the frames: codes, and the blocks of full batches. */
function record(extract: Extract, batch: Batch, frames: readonly Uint8Array[], drop: readonly boolean[]) {
  const codes: number[] = [];
  const blocks: string[] = [];
  const seal = () => {
    blocks.push(Buffer.from(blockOf(batch)).toString('hex'));
    resetBatch(batch);
  };
  frames.forEach((frame, i) => {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    const code = extract(view, frame, 0, frame.length, batch);
    codes.push(code);
    if (code !== Malformed.ok) return;
    if (drop[i]) {
      discardRow(batch);
      return;
    }
    commitRow(batch, i % 3, i, 0, i, 1);
    if (batch.rowCount === CAPACITY || i % 41 === 0) seal();
  });
  seal();
  return { codes, blocks };
}

for (const model of [...topics, allTypes.model]) {
  describe(model.topic, () => {
    test(
      'learned shapes record what the generic path records: damaged, cut and dropped frames between',
      () => {
        const random = seededRandom(`shapes ${model.topic}`);
        const frames = randomFrames(model, random, 400);
        const drop = frames.map(() => random.int(0, 9) === 0);
        // Each again, so that a shape is learned between two looks at the same frame.
        const sent = [...frames, ...frames];
        const dropped = [...drop, ...drop];
        const generic = createGeneric(model, classOf(model));
        const expected = record(generic, createBatch(model, CAPACITY), sent, dropped);
        for (const learnAfter of [1, 3, 50]) {
          const batch = createBatch(model, CAPACITY);
          const found = record(createExtractor(model, learning(learnAfter)), batch, sent, dropped);
          expect(found).toEqual(expected);
        }
        expect(expected.codes.filter((code) => code === Malformed.ok).length).toBeGreaterThan(80);
        expect(new Set(expected.codes).size).toBeGreaterThan(2);
      },
      SLOW_MS,
    );
  });
}

test('a shape that was learned for one size of batch is not used for another', () => {
  const { model } = allTypes;
  const random = seededRandom('shapes and batch sizes');
  const frames = randomFrames(model, random, 200);
  const drop = frames.map(() => false);
  const extract = createExtractor(model, learning(1));
  const generic = createGeneric(model, classOf(model));
  for (const capacity of [CAPACITY, 4 * CAPACITY, CAPACITY]) {
    const found = record(extract, createBatch(model, capacity), frames, drop);
    expect(found).toEqual(record(generic, createBatch(model, capacity), frames, drop));
  }
});

test('frequent vtables, more than are learned, do not give way to each other for ever', () => {
  const random = seededRandom('too many shapes');
  const model = topics.find(({ topic }) => topic === 'market_data')!;
  const builder = createFrameBuilder(model, { forceDefaults: true });
  const columns = model.columns.filter(({ kind }) => kind === 'fixed').slice(0, 12);
  const frames = columns.map(({ name }) => builder.build({ [name]: 1n }).slice());
  const extract = createExtractor(model, { sampleEvery: 1, windowSamples: 100, learnAfter: 10 });
  const batch = createBatch(model, CAPACITY);
  for (let i = 0; i < 100_000; i++) {
    const frame = random.pick(frames);
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    expect(extract(view, frame, 0, frame.length, batch)).toBe(Malformed.ok);
    discardRow(batch);
  }
  expect(extract.shapes!.version).toBeGreaterThanOrEqual(6);
  expect(extract.shapes!.version).toBeLessThan(12);
});
