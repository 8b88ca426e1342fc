// Frames that are taken in runs end where they would end one by one: rows, quarantine, counts, positions.

import { expect, spyOn, test } from 'bun:test';
import { openBlock } from '../../../src/columns/block-codec.ts';
import { encodeHello } from '../../../src/net/control-messages.ts';
import { StreamTable } from '../../../src/net/session.ts';
import { StreamConnection } from '../../../src/net/stream-connection.ts';
import { createFrameBuilder, type Row } from '../../../src/schema/build-frame.ts';
import { createExtractor, type Extract } from '../../../src/schema/extractor.ts';
import type { TopicModel } from '../../../src/schema/model.ts';
import { topics } from '../../../src/schema/registry.ts';
import { RunReader } from '../../../src/schema/run-reader.ts';
import { Ingest } from '../../../src/supervisor/ingest/ingest.ts';
import { NOTHING_STOPPED } from '../../../src/supervisor/ingest/topic-ingest.ts';
import { sharedOf } from '../../model/model-producer.ts';
import { randomRow } from '../../support/frames.ts';
import { type SeededRandom, seededRandom } from '../../support/random.ts';

const BATCH_ROWS = 500;
const FRAMES = 12_000;
const LEARNING = { sampleEvery: 1, windowSamples: 1e6, learnAfter: 20 };
const FOREIGN = Uint8Array.of(8, 0, 0, 0, 4, 0, 0, 0, 0x58, 0x58, 0x58, 0x58);
const TOO_SHORT = Uint8Array.of(3, 0, 0, 0, 1, 2, 3);

/** Rows with the same columns, whose texts are short: their frames have one vtable. */
function smallRows(model: TopicModel, random: SeededRandom, count: number): Row[] {
  const names = Object.keys(randomRow(model, random));
  const columns = model.columns.filter(({ name, kind }) => names.includes(name) && kind !== 'array');
  const given = randomRow(model, random);
  return Array.from({ length: count }, () => {
    const some = { ...given, ...randomRow(model, random) };
    const value = ({ name, kind }: (typeof columns)[number]) =>
      kind === 'string' ? 'x'.repeat(random.int(0, 12)) : (some[name] ?? 1);
    return Object.fromEntries(columns.map((column) => [column.name, value(column)]));
  });
}

/** Frames with their prefixes: long runs of two topics, in which now and then one is damaged or foreign. */
function manyFrames(random: SeededRandom): Uint8Array[] {
  const some = ['market_data', 'fills'].map((topic) => {
    const model = topics.find((one) => one.topic === topic)!;
    const builder = createFrameBuilder(model, { forceDefaults: true });
    return smallRows(model, random, 50).map((row) => builder.buildSizePrefixed(row).slice());
  });
  let topic = 0;
  return Array.from({ length: FRAMES }, () => {
    if (random.int(0, 400) === 0) topic = 1 - topic;
    const frame = random.pick(some[topic]!);
    const what = random.int(0, 300);
    if (what === 0) return FOREIGN;
    if (what === 1) return TOO_SHORT;
    if (what > 3) return frame;
    const damaged = frame.slice();
    damaged[random.int(8, frame.length - 1)] = random.pick([0, 1, 0x7f, 0x80, 0xff]);
    return damaged;
  });
}

/** The bytes in pieces as sockets give them. */
function* chunksOf(bytes: Uint8Array, random: SeededRandom): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; ) {
    const size = random.int(0, 3) === 0 ? random.int(1, 2000) : random.int(20_000, 400_000);
    yield bytes.slice(at, at + size);
    at += size;
  }
}

/** What comes of the frames, sent over two connections: the second begins again at `resumeAt`. */
function record(frames: readonly Uint8Array[], resumeAt: number, seed: number, inRuns: boolean) {
  const random = seededRandom('chunks', seed);
  const found = { blocks: [] as string[], refused: [] as string[], runRows: 0 };
  const learned = (model: TopicModel) => createExtractor(model, LEARNING);
  const oneByOne = (model: TopicModel): Extract => {
    const extract = learned(model);
    return (view, bytes, start, end, batch) => extract(view, bytes, start, end, batch);
  };
  const streams = new StreamTable();
  const ingest = new Ingest({
    topics,
    createExtract: inRuns ? learned : oneByOne,
    batchRows: BATCH_ROWS,
    append: ({ topicIndex, rowCount, payloadSizeBytes, encode, firstSeq, lastSeq }) => {
      const payload = new Uint8Array(payloadSizeBytes);
      encode(payload);
      openBlock(topics[topicIndex]!, payload, rowCount).ingestTsWords.fill(0);
      found.blocks.push(`${topicIndex} ${rowCount} ${firstSeq} ${lastSeq} ${Bun.hash(payload)}`);
    },
    streamName: (id) => ({ source: streams.get(id)!.sourceBytes, session: streams.get(id)!.sessionBytes }),
    isDatagram: () => false,
    isVital: () => false,
    noteVital: () => {},
    quarantine: ({ reason, seq, bytes, start, end }) => {
      found.refused.push(`${reason} ${seq} ${Bun.hash(bytes.slice(start, end))}`);
    },
    gap: () => {},
    pending: () => {},
  });
  const shared = sharedOf(streams, ingest);
  const socket = { write: (bytes: Uint8Array) => bytes.length, end: () => {}, terminate: () => {} };
  for (const [number, from] of [0, resumeAt].entries()) {
    const until = number === 0 ? Math.floor((resumeAt + frames.length) / 2) : frames.length;
    const connection = new StreamConnection(shared, socket as never, number);
    const hello = encodeHello('engine', 'monday', from + 1);
    const bytes = new Uint8Array(Buffer.concat([hello, ...frames.slice(from, until)]));
    for (const chunk of chunksOf(bytes, random)) {
      // Rows of a topic that is dropped in part are looked at one by one.
      const stopped = random.int(0, 5) === 0;
      ingest.setDrops(
        stopped ? new Set([topics.findIndex(({ topic }) => topic === 'fills')]) : new Set(),
        NOTHING_STOPPED,
      );
      connection.chunk(chunk);
    }
    connection.closed();
  }
  ingest.seal();
  const { receivedSeq } = streams.open('engine', 'monday', true);
  const counts = ingest.topics.map(({ received, malformed, logged }) => ({ received, malformed, logged }));
  return { ...found, counts, receivedSeq, stats: shared.stats };
}

test('frames in runs end where they would end one by one', () => {
  let runRows = 0;
  let rowsInRuns = 0;
  const read = RunReader.prototype.read;
  const spy = spyOn(RunReader.prototype, 'read').mockImplementation(function (this: RunReader, ...args) {
    const position = read.apply(this, args);
    runRows += this.rows;
    return position;
  });
  try {
    for (let round = 0; round < 6; round++) {
      const random = seededRandom(`ingest in runs, ${round}`);
      const frames = manyFrames(random);
      const resumeAt = random.int(0, FRAMES / 2);
      runRows = 0;
      const found = record(frames, resumeAt, random.seed, true);
      rowsInRuns += runRows;
      runRows = 0;
      const expected = record(frames, resumeAt, random.seed, false);
      expect(runRows).toBe(0);
      expect(found).toEqual(expected);
      expect(found.stats.duplicates).toBeGreaterThan(0);
      expect(found.refused.length).toBeGreaterThan(20);
      expect(found.receivedSeq).toBe(FRAMES);
    }
    // Of some rounds nearly all, of others, by chance, a quarter.
    expect(rowsInRuns).toBeGreaterThan(FRAMES);
  } finally {
    spy.mockRestore();
  }
}, 60_000);
