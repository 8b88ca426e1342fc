// Batches whose arenas lie in the memory of the runs, one after another in the same place: nothing is lost.

import { expect, test } from 'bun:test';
import { type Batch, commitRow, createBatch, resetBatch } from '../../src/columns/batch.ts';
import { createFrameBuilder } from '../../src/schema/build-frame.ts';
import { createExtractor, type Extract } from '../../src/schema/extractor.ts';
import { createGeneric } from '../../src/schema/generic.ts';
import { Malformed } from '../../src/schema/malformed.ts';
import type { TopicModel } from '../../src/schema/model.ts';
import { generatedClassOf, topicByName, topics } from '../../src/schema/registry.ts';
import { runMemory } from '../../src/schema/run-memory.ts';
import { RunReader } from '../../src/schema/run-reader.ts';
import { blockOf, randomRow, rowOf } from '../support/frames.ts';
import { type SeededRandom, seededRandom } from '../support/random.ts';

const LEARNING = { sampleEvery: 1, windowSamples: 1e6, learnAfter: 2 };
const MAX_FRAME_BYTES = 100_000;
const RUN_FRAMES = 12;

/** Rows of batches whose arenas do not all fit into the memory together. */
const LARGE = 80_000;

function chunkOf(frames: readonly Uint8Array[]): Uint8Array {
  const parts = frames.flatMap((frame) => [new Uint8Array(Uint32Array.of(frame.length).buffer), frame]);
  return new Uint8Array(Buffer.concat(parts));
}

function take(extract: Extract, frame: Uint8Array, batch: Batch): number {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const code = extract(view, frame, 0, frame.length, batch);
  if (code === Malformed.ok) commitRow(batch, 1, 1 + batch.rowCount, 0, 5, 6);
  return code;
}

/** The rows of some frames in a batch, and in the one of the generic path, which is the oracle. */
class Recorded {
  readonly batch: Batch;
  readonly #expected: Batch;
  readonly #generic: Extract;

  constructor(model: TopicModel, capacityRows: number) {
    this.batch = createBatch(model, capacityRows);
    this.#expected = createBatch(model, capacityRows);
    this.#generic = createGeneric(model, generatedClassOf(model));
  }

  one(extract: Extract, frame: Uint8Array): void {
    expect(take(extract, frame, this.batch)).toBe(Malformed.ok);
    take(this.#generic, frame, this.#expected);
  }

  /** Reads frames as a run that ends where `rest` begins; returns the rows. */
  run(reader: RunReader, frames: readonly Uint8Array[], rest: readonly Uint8Array[] = []): void {
    const chunk = chunkOf([...frames, ...rest]);
    const origin = { streamId: 1, seqLow: 1 + this.batch.rowCount, seqHigh: 0, tsLow: 5, tsHigh: 6 };
    const end = reader.read(this.batch, chunk, 0, chunk.length, MAX_FRAME_BYTES, origin);
    expect(reader.rows).toBe(frames.length);
    expect(end).toBe(chunkOf(frames).length);
    for (const frame of frames) take(this.#generic, frame, this.#expected);
  }

  check(): void {
    expect(Buffer.compare(blockOf(this.batch), blockOf(this.#expected))).toBe(0);
  }

  reset(): void {
    resetBatch(this.batch);
    resetBatch(this.#expected);
  }
}

/** Some frames of two kinds, an extractor that has learned their vtables, and a maker of readers for them. */
function learned(model: TopicModel, random: SeededRandom) {
  const builder = createFrameBuilder(model, { forceDefaults: true });
  const kinds = [0, 1].map(() => Object.keys(randomRow(model, random)));
  const frames = kinds.flatMap((kind) => [0, 1].map(() => builder.build(rowOf(model, kind, random)).slice()));
  const extract = createExtractor(model, LEARNING);
  const batch = createBatch(model, 16);
  for (const frame of frames) {
    for (let i = 0; i < 3; i++) expect(take(extract, frame, batch)).toBe(Malformed.ok);
  }
  const frameOf = () => random.pick(frames);
  return { model, frameOf, extract, readerOf: () => new RunReader(model, extract.shapes!, 0) };
}

test('batches that take turns in the memory keep their rows', () => {
  const random = seededRandom('turns in the run memory');
  const all = topics.map((model) => {
    const some = learned(model, random);
    const batches = [64, 64, 520, LARGE].map((rows) => ({
      recorded: new Recorded(model, rows),
      reader: some.readerOf(),
    }));
    return { ...some, batches };
  });
  const { bytes } = runMemory();
  const large = all.flatMap(({ batches }) => batches.at(-1)!.recorded.batch.u8.length);
  expect(large.reduce((sum, size) => sum + size)).toBeGreaterThan(bytes.length);
  const here = ({ batch }: Recorded) => batch.u8.buffer === bytes.buffer;
  let movedOut = 0;
  for (let round = 0; round < 60; round++) {
    const { batches, frameOf, extract } = random.pick(all);
    const { recorded, reader } = random.pick(batches);
    const before = all.flatMap((topic) => topic.batches).filter((one) => here(one.recorded)).length;
    if (random.int(0, 3) === 0) recorded.one(extract, frameOf());
    if (recorded.batch.rowCount + RUN_FRAMES > 60) {
      recorded.check();
      recorded.reset();
    }
    recorded.run(
      reader,
      Array.from({ length: random.int(1, RUN_FRAMES) }, () => frameOf()),
    );
    expect(here(recorded)).toBe(true);
    if (all.flatMap((topic) => topic.batches).filter((one) => here(one.recorded)).length <= before)
      movedOut++;
  }
  expect(movedOut).toBeGreaterThan(5);
  for (const { batches } of all) {
    expect(batches.filter(({ recorded }) => here(recorded)).length).toBeLessThanOrEqual(1);
    for (const { recorded } of batches) if (recorded.batch.rowCount > 0) recorded.check();
  }
}, 30_000);

test('a batch that is larger than the memory is left to the extractor', () => {
  const random = seededRandom('too large for the run memory');
  const model = topicByName('latency_spans')!;
  const { frameOf, readerOf } = learned(model, random);
  const batch = createBatch(model, 1_000_000);
  const chunk = chunkOf([frameOf(), frameOf()]);
  const reader = readerOf();
  const origin = { streamId: 1, seqLow: 1, seqHigh: 0, tsLow: 0, tsHigh: 0 };
  expect(reader.read(batch, chunk, 0, chunk.length, MAX_FRAME_BYTES, origin)).toBe(0);
  expect([reader.rows, batch.rowCount]).toEqual([0, 0]);
});

test('what a run has written of a frame that it does not take is taken back', () => {
  const random = seededRandom('cells of a refused frame');
  const model = topicByName('market_data')!;
  const builder = createFrameBuilder(model, { forceDefaults: true });
  const extract = createExtractor(model, LEARNING);
  const few = builder.build({ symbol: 'A', price: 1n }).slice();
  const row = { ...rowOf(model, ['symbol', 'exch_ts', 'price', 'volume', 'kind'], random), underlying: 'UU' };
  const full = builder.build(row).slice();
  // `underlying` comes behind the other columns; its end is no zero.
  const broken = full.slice();
  broken[Buffer.from(full).indexOf('UU\0') + 2] = 1;
  const recorded = new Recorded(model, 40);
  for (let i = 0; i < 4; i++) for (const frame of [few, full]) recorded.one(extract, frame);
  recorded.reset();
  recorded.one(extract, few);
  recorded.run(new RunReader(model, extract.shapes!, 0), [few, full], [broken]);
  recorded.one(extract, few);
  recorded.check();
});
