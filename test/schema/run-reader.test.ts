import { describe, expect, test } from 'bun:test';
import { type Batch, commitRow, createBatch, isFull, resetBatch } from '../../src/columns/batch.ts';
import { createFrameBuilder } from '../../src/schema/build-frame.ts';
import { createExtractor } from '../../src/schema/extractor.ts';
import { createGeneric } from '../../src/schema/generic.ts';
import { Malformed } from '../../src/schema/malformed.ts';
import type { TopicModel } from '../../src/schema/model.ts';
import { topics } from '../../src/schema/registry.ts';
import { runInput } from '../../src/schema/run-memory.ts';
import { RunReader } from '../../src/schema/run-reader.ts';
import { allTypes } from '../support/all-types.ts';
import { blockOf, classOf, randomRow, rowOf } from '../support/frames.ts';
import { type SeededRandom, seededRandom } from '../support/random.ts';

const SLOW_MS = 60_000;
const CAPACITY = 120;
const MAX_FRAME_BYTES = 100_000;
const KINDS = 4;
const TWO_32 = 0x1_0000_0000;

/** What stands where numbers are wrong most often: ends, signs, and what lies just beyond. */
const SPECIAL_BYTES = [0, 1, 2, 3, 4, 7, 8, 0x7f, 0x80, 0xfe, 0xff];

/** Frames of a few kinds; `damagedOf` in a hundred have changed bytes, or are cut. */
function randomFrames(model: TopicModel, random: SeededRandom, count: number, damagedOf: number) {
  const builder = createFrameBuilder(model, { forceDefaults: true });
  const kinds = Array.from({ length: KINDS }, () => Object.keys(randomRow(model, random)));
  return Array.from({ length: count }, () => {
    const frame = builder.build(rowOf(model, random.pick(kinds), random)).slice();
    if (random.int(0, 99) >= damagedOf) return frame;
    if (random.int(0, 4) === 0) return frame.slice(0, random.int(8, frame.length));
    for (let i = random.int(1, 4); i > 0; i--) {
      frame[random.int(0, frame.length - 1)] = random.pick([random.int(0, 255), ...SPECIAL_BYTES]);
    }
    return frame;
  });
}

/** The frames with their size in front; in `into` where they have room there. */
function chunkOf(frames: readonly Uint8Array[], into: Uint8Array | null, at: number): Uint8Array {
  const parts = frames.flatMap((frame) => [new Uint8Array(Uint32Array.of(frame.length).buffer), frame]);
  const bytes = new Uint8Array(Buffer.concat(parts));
  if (into === null || at + bytes.length > into.length) return bytes;
  into.set(bytes, at);
  return into.subarray(at, at + bytes.length);
}

interface Recorded {
  codes: number[];
  blocks: string[];
  rows: number;
  runRows: number;
}

/** Numbers of the rows begin short of 2^32. */
const FIRST_SEQ = TWO_32 - 50;
const words = (seq: number) => [(seq % TWO_32) | 0, Math.floor(seq / TWO_32)] as const;
const streamOf = (chunk: number) => (chunk * 7) % 3;
const TIME = { low: -5, high: 414_000_000 } as const;

/** Reads chunks as the program does: in runs where `runs` is given, one by one where those take nothing. */
function record(
  model: TopicModel,
  chunks: readonly Uint8Array[][],
  place: (frames: readonly Uint8Array[]) => Uint8Array,
  isGeneric: boolean,
): Recorded {
  const learning = { sampleEvery: 1, windowSamples: 1e6, learnAfter: 3 };
  const extract = isGeneric ? createGeneric(model, classOf(model)) : createExtractor(model, learning);
  const runs = extract.shapes === undefined ? null : new RunReader(model, extract.shapes, 0);
  const batch: Batch = createBatch(model, CAPACITY);
  const recorded: Recorded = { codes: [], blocks: [], rows: 0, runRows: 0 };
  const seal = () => {
    if (batch.rowCount === 0) return;
    recorded.rows += batch.rowCount;
    recorded.blocks.push(Buffer.from(blockOf(batch)).toString('hex'), String(batch.sizeBytes));
    resetBatch(batch);
  };
  let seq = FIRST_SEQ;
  chunks.forEach((frames, number) => {
    const chunk = place(frames);
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const streamId = streamOf(number);
    for (let position = 0; position < chunk.length; ) {
      const [seqLow, seqHigh] = words(seq);
      const origin = { streamId, seqLow, seqHigh, tsLow: TIME.low, tsHigh: TIME.high };
      const after = runs?.read(batch, chunk, position, chunk.length, MAX_FRAME_BYTES, origin) ?? position;
      const rows = runs?.rows ?? 0;
      expect(after > position).toBe(rows > 0);
      recorded.codes.push(...Array.from({ length: rows }, () => Malformed.ok as number));
      recorded.runRows += rows;
      seq += rows;
      position = after;
      if (rows === 0) {
        const end = position + 4 + view.getUint32(position, true);
        const code = extract(view, chunk, position + 4, end, batch);
        recorded.codes.push(code);
        if (code === Malformed.ok) commitRow(batch, streamId, seqLow, seqHigh, TIME.low, TIME.high);
        seq++;
        position = end;
      }
      if (isFull(batch)) seal();
    }
    if (number % 3 === 2) seal();
  });
  seal();
  return recorded;
}

for (const model of [...topics, allTypes.model]) {
  describe(model.topic, () => {
    for (const [name, damagedOf] of [
      ['whole frames', 0],
      ['damaged frames among whole ones', 30],
    ] as const) {
      test(
        `${name} are recorded in runs as the generic path records them`,
        () => {
          const random = seededRandom(`runs ${model.topic}`);
          const frames = randomFrames(model, random, 600, damagedOf);
          const chunks: Uint8Array[][] = [];
          for (let from = 0; from < 2 * frames.length; ) {
            const count = random.int(1, 200);
            chunks.push(Array.from({ length: count }, (_, i) => frames[(from + i) % frames.length]!));
            from += count;
          }
          const expected = record(model, chunks, (some) => chunkOf(some, null, 0), true);
          const copied = record(model, chunks, (some) => chunkOf(some, null, 0), false);
          const inPlace = record(
            model,
            chunks,
            (some) => chunkOf(some, runInput(), random.int(0, 63)),
            false,
          );
          expect(copied.runRows).toBeGreaterThan(model.columns.some(isBools) ? -1 : expected.rows / 5);
          for (const found of [copied, inPlace]) {
            expect(found.codes).toEqual(expected.codes);
            expect(found.blocks).toEqual(expected.blocks);
          }
          expect(expected.rows).toBeGreaterThan(300);
        },
        SLOW_MS,
      );
    }
  });
}

/** Such a column is not read in runs. */
function isBools({ kind, scalar }: TopicModel['columns'][number]): boolean {
  return kind === 'array' && scalar === 'bool';
}

test('every cut and every changed byte of a frame ends a run where the extractor would refuse it', () => {
  const random = seededRandom('runs, each byte');
  const model = topics.find(({ topic }) => topic === 'market_data')!;
  const builder = createFrameBuilder(model, { forceDefaults: true });
  const kind = Object.keys(randomRow(model, random));
  let whole = builder.build(rowOf(model, kind, random)).slice();
  while (whole.length > 500) whole = builder.build(rowOf(model, kind, random)).slice();
  const chunks = Array.from({ length: 8 }, () => Array.from({ length: 4 }, () => whole));
  for (let at = 0; at < whole.length; at++) {
    for (const value of [0, 0x7f, 0x80, 0xff, whole[at]! ^ 1, random.int(0, 255)]) {
      const changed = whole.slice();
      changed[at] = value;
      chunks.push([whole, changed, whole]);
    }
    // What follows begins with a zero, as the end of a string would.
    if (at >= 8) chunks.push([whole, whole.slice(0, at), new Uint8Array(256), whole]);
  }
  const place = (some: readonly Uint8Array[]) => chunkOf(some, runInput(), 4);
  const found = record(model, chunks, place, false);
  const expected = record(model, chunks, place, true);
  expect(found.codes).toEqual(expected.codes);
  expect(found.blocks).toEqual(expected.blocks);
  expect(found.runRows).toBeGreaterThan(chunks.length);
});

test('a run takes no frame that is longer than frames may be', () => {
  const random = seededRandom('runs and long frames');
  const model = topics.find(({ topic }) => topic === 'orders')!;
  const builder = createFrameBuilder(model, { forceDefaults: true });
  const frame = builder.build(rowOf(model, Object.keys(randomRow(model, random)), random)).slice();
  const extract = createExtractor(model, { sampleEvery: 1, windowSamples: 1e6, learnAfter: 1 });
  const batch = createBatch(model, CAPACITY);
  const chunk = chunkOf([frame, frame], null, 0);
  const view = new DataView(chunk.buffer);
  expect(extract(view, chunk, 4, 4 + frame.length, batch)).toBe(Malformed.ok);
  const runs = new RunReader(model, extract.shapes!, 0);
  const origin = { streamId: 1, seqLow: 1, seqHigh: 0, tsLow: 0, tsHigh: 0 };
  expect(runs.read(batch, chunk, 0, chunk.length, frame.length - 1, origin)).toBe(0);
  expect(runs.read(batch, chunk, 0, chunk.length, frame.length, origin)).toBe(chunk.length);
  expect(runs.rows).toBe(2);
});

test('a run ends where a column has no room for more data', () => {
  const random = seededRandom('runs of long texts');
  const model = topics.find(({ topic }) => topic === 'risk_log')!;
  const builder = createFrameBuilder(model, { forceDefaults: true });
  const base = randomRow(model, random);
  const names = model.columns.filter(({ kind }) => kind === 'string').map(({ name }) => name);
  const frames = Array.from({ length: 540 }, () => {
    const texts = names.map((name) => [name, 'x'.repeat(random.int(0, 4))]);
    const long = [random.pick(names), String(random.int(0, 9)).repeat(random.int(1200, 1900))];
    return builder.build({ ...base, ...Object.fromEntries([...texts, long]) }).slice();
  });
  // The tenth chunk finds an empty batch.
  const chunks = Array.from({ length: 9 }, (_, i) => frames.slice(i * 60, i * 60 + 60));
  const one = names[0]!;
  const long = { ...base, ...Object.fromEntries(names.map((name) => [name, ''])), [one]: 'y'.repeat(1800) };
  chunks.push(Array.from({ length: 110 }, () => builder.build(long).slice()));
  const place = (some: readonly Uint8Array[]) => chunkOf(some, runInput(), 8);
  const found = record(model, chunks, place, false);
  const expected = record(model, chunks, place, true);
  expect(found.codes).toEqual(expected.codes);
  expect(found.blocks).toEqual(expected.blocks);
  expect(found.runRows).toBeGreaterThan(100);
});
