import { expect, test } from 'bun:test';
import { commitRow, createBatch } from '../../../src/columns/batch.ts';
import { blockSizeBytes, encodeBlock } from '../../../src/columns/block-codec.ts';
import { createFrameBuilder, type Row } from '../../../src/schema/build-frame.ts';
import { createExtractor } from '../../../src/schema/extractor.ts';
import { topicByName } from '../../../src/schema/registry.ts';
import { StreamRecovery } from '../../../src/supervisor/ingest/stream-recovery.ts';
import type { RecordHeader } from '../../../src/wal/format.ts';
import { seededRandom } from '../../support/random.ts';

const STREAMS = ['s', 't'].map((session) => ({ source: Buffer.from('f'), session: Buffer.from(session) }));

/** Gives `recovery` a block of `topic` with these rows. */
function block(
  recovery: StreamRecovery,
  topic: string,
  rows: { stream: number; seq: number; row: Row }[],
): void {
  const model = topicByName(topic)!;
  const batch = createBatch(model, 16);
  const extract = createExtractor(model);
  const builder = createFrameBuilder(model);
  for (const { stream, seq, row } of rows) {
    const frame = builder.build(row);
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    expect(extract(view, frame, 0, frame.length, batch)).toBe(0);
    commitRow(batch, stream, seq >>> 0, Math.floor(seq / 2 ** 32), 1, 0);
  }
  const streams = batch.streamIds.map((id) => STREAMS[id]!);
  const payload = new Uint8Array(blockSizeBytes(batch, streams));
  encodeBlock(batch, streams, payload);
  const header = { rowCount: rows.length } as RecordHeader;
  const { table, fingerprint, bfbs } = model;
  recovery.block(header, payload, { topic, table, fingerprint, bfbs });
}

const found = (recovery: StreamRecovery) =>
  Object.fromEntries(recovery.positions().map(({ session, lastSeq }) => [session, lastSeq]));

test('positions are those of the header, moved on by the rows after it', () => {
  const recovery = new StreamRecovery(new Set(['f']));
  recovery.streams([{ source: STREAMS[0]!.source, session: STREAMS[0]!.session, lastSeq: 2n ** 40n }]);
  block(recovery, 'latency_spans', [
    { stream: 1, seq: 7, row: { latency_ns: 1 } },
    { stream: 0, seq: 2 ** 40 + 1, row: { latency_ns: 1 } },
    { stream: 1, seq: 6, row: { latency_ns: 1 } },
  ]);
  expect(found(recovery)).toEqual({ s: 2 ** 40 + 1, t: 7 });
}, 60_000);

test("a gap's row stands for all its numbers, so that a restart does not find the rest of it again", () => {
  const recovery = new StreamRecovery(new Set(['f']));
  block(recovery, 'latency_spans', [{ stream: 0, seq: 3, row: { latency_ns: 1 } }]);
  block(recovery, 'gaps', [{ stream: 0, seq: 4, row: { first_seq: 4, last_seq: 2 ** 35 } }]);
  expect(found(recovery)).toEqual({ s: 2 ** 35 });
}, 60_000);

test('numbers of a gap that came late before the restart are duplicates after it, others are not', () => {
  const recovery = new StreamRecovery(new Set(['f']));
  block(recovery, 'gaps', [
    { stream: 0, seq: 4, row: { first_seq: 4, last_seq: 9, state: 1 } },
    { stream: 0, seq: 6, row: { first_seq: 6, last_seq: 7, state: 2 } },
    { stream: 1, seq: 1, row: { first_seq: 1, last_seq: 1, state: 1 } },
  ]);
  expect(recovery.positions()).toEqual([
    {
      source: 'f',
      session: 's',
      lastSeq: 9,
      isDatagram: true,
      unreported: [{ first: 1, last: 3 }],
      holes: [
        { first: 4, last: 5 },
        { first: 8, last: 9 },
      ],
    },
    { source: 'f', session: 't', lastSeq: 1, isDatagram: true, holes: [{ first: 1, last: 1 }] },
  ]);
}, 60_000);

test('a number that came late is a duplicate after the restart, also where no row says that it did', () => {
  const recovery = new StreamRecovery(new Set(['f']));
  block(recovery, 'gaps', [{ stream: 0, seq: 1, row: { first_seq: 1, last_seq: 3, state: 1 } }]);
  block(recovery, 'latency_spans', [{ stream: 0, seq: 2, row: { latency_ns: 1 } }]);
  const holes = [
    { first: 1, last: 1 },
    { first: 3, last: 3 },
  ];
  expect(recovery.positions()).toMatchObject([{ lastSeq: 3, holes }]);
}, 60_000);

test("a session's gap leaves no hole: its producer has said that the frames will not come", () => {
  const recovery = new StreamRecovery(new Set());
  block(recovery, 'gaps', [{ stream: 0, seq: 4, row: { first_seq: 4, last_seq: 9, state: 1 } }]);
  expect(recovery.positions()).toEqual([{ source: 'f', session: 's', lastSeq: 9 }]);
}, 60_000);

test('numbers of datagrams that are missing and in no gap are known after a restart', () => {
  const random = seededRandom('unreported numbers');
  const [name] = STREAMS as [(typeof STREAMS)[0]];
  for (let round = 0; round < 50; round++) {
    const recovery = new StreamRecovery(new Set(['f']));
    const missing = new Set<number>();
    const baseSeq = random.int(0, 20);
    for (let seq = 1; seq <= baseSeq; seq++) if (random.int(0, 3) === 0) missing.add(seq);
    const unreported = [...missing].map((seq) => [BigInt(seq), BigInt(seq)] as const);
    recovery.streams([{ ...name, lastSeq: BigInt(baseSeq), unreported }]);
    const lastSeq = baseSeq + random.int(1, 30);
    for (let seq = baseSeq + 1; seq <= lastSeq; seq++) missing.add(seq);
    for (const topic of ['latency_spans', 'gaps', 'fills']) {
      const seqs = [...missing].filter(() => random.int(0, 2) === 0).slice(0, 16);
      if (topic === 'gaps') seqs.length = Math.min(seqs.length, 1);
      if (seqs.length === 0) continue;
      const row = (seq: number) => (topic === 'gaps' ? { first_seq: seq, last_seq: seq, state: 1 } : {});
      block(
        recovery,
        topic,
        seqs.map((seq) => ({ stream: 0, seq, row: row(seq) })),
      );
      for (const seq of seqs) missing.delete(seq);
    }
    const [position] = recovery.positions();
    const found = (position!.unreported ?? []).flatMap(({ first, last }) =>
      Array.from({ length: last - first + 1 }, (_, index) => first + index),
    );
    const expected = [...missing].filter((seq) => seq <= position!.lastSeq);
    expect(found.sort((a, b) => a - b)).toEqual(expected.sort((a, b) => a - b));
  }
}, 60_000);
