// RowBinary of blocks that are large, long-named or cut, against a writer that goes cell by cell: what the
// engines' own bytes (encoders.test.ts) are too few for.

import { expect, test } from 'bun:test';
import type { BlockColumn, BlockView } from '../../src/columns/block-codec.ts';
import { limits } from '../../src/limits.ts';
import type { Row } from '../../src/schema/build-frame.ts';
import type { TopicModel } from '../../src/schema/model.ts';
import { topicByName } from '../../src/schema/registry.ts';
import { createByteSink, writtenBytes } from '../../src/sink/byte-sink.ts';
import type { BlockSlice, GroupOrigin } from '../../src/sink/group-encoder.ts';
import { createRowBinaryEncoder } from '../../src/sink/row-binary.ts';
import { allTypes } from '../support/all-types.ts';
import { seededRandom } from '../support/random.ts';
import { blockOf, RECORDER, randomRow } from './wal-fixture.ts';

const random = seededRandom('row binary');
const text = new TextEncoder();
const ORIGIN: GroupOrigin = { recorder: text.encode(RECORDER), walId: 0xfedc_ba98_7654_3210n };
const NOW_NS = 1_700_000_000_000_000_000n;

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
}

const withLength = (bytes: Uint8Array) => [Uint8Array.from(varint(bytes.length)), bytes];
const word = (value: bigint) => new Uint8Array(BigUint64Array.of(value).buffer);

/** A cell's bytes, from the bytes of its column. */
function cell({ model, nulls, offsets, bytes }: BlockColumn, row: number): Uint8Array[] {
  const start = (offsets === null ? row : offsets[row]!) * model.widthBytes;
  const end = (offsets === null ? row + 1 : offsets[row + 1]!) * model.widthBytes;
  const length = offsets === null ? [] : [Uint8Array.from(varint((end - start) / model.widthBytes))];
  const isNull = nulls === null ? [] : [nulls.subarray(row, row + 1)];
  return nulls?.[row] === 1 ? isNull : [...isNull, ...length, bytes.subarray(start, end)];
}

function byCells(slices: readonly BlockSlice[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const { view, lsn, fromRow, toRow } of slices) {
    for (let row = fromRow; row < toRow; row++) {
      const { source, session } = view.streams[view.streamIndex[row]!]!;
      for (const column of view.columns) parts.push(...cell(column, row));
      for (const name of [ORIGIN.recorder, source, session]) parts.push(...withLength(name));
      const { seqWords, ingestTsWords } = view;
      for (const words of [seqWords, ingestTsWords]) {
        parts.push(new Uint8Array(words.slice(row * 2, row * 2 + 2).buffer));
      }
      parts.push(word(ORIGIN.walId), word(BigInt.asUintN(64, lsn + BigInt(row))));
    }
  }
  return new Uint8Array(Buffer.concat(parts));
}

function expectSame(model: TopicModel, slices: readonly BlockSlice[]): void {
  const encoder = createRowBinaryEncoder(model);
  // Twice: what is left of one call must not show in the next.
  for (let turn = 0; turn < 2; turn++) {
    const sink = createByteSink(16);
    encoder(sink, slices, ORIGIN);
    const [ours, theirs] = [writtenBytes(sink), byCells(slices)];
    expect(ours.length).toBe(theirs.length);
    expect(Buffer.compare(ours, theirs)).toBe(0);
  }
}

function sliceOf(model: TopicModel, rows: readonly Row[], lsn = 2n ** 32n - 3n): BlockSlice {
  return { view: blockOf(model, rows, (row) => NOW_NS + BigInt(row)), lsn, fromRow: 0, toRow: rows.length };
}

/** The block with other names for its streams, as long as one likes. */
function renamed(slice: BlockSlice, sizeBytes: number): BlockSlice {
  const streams = slice.view.streams.map(() => ({
    source: random.bytes(sizeBytes),
    session: random.bytes(random.int(0, sizeBytes)),
  }));
  const view: BlockView = { ...slice.view, streams };
  return { ...slice, view };
}

const orders = topicByName('orders')!;
const riskLog = topicByName('risk_log')!;
const rowsOf = (model: TopicModel, count: number) =>
  Array.from({ length: count }, () => randomRow(model, random));

test('blocks of many rows, cut at random', () => {
  for (const model of [orders, allTypes.model]) {
    const slice = sliceOf(model, rowsOf(model, 2500));
    expect(byCells([slice]).length).toBeGreaterThan(3 * 512 * 1024);
    const fromRow = random.int(0, 1200);
    expectSame(model, [
      slice,
      { ...slice, fromRow, toRow: random.int(fromRow, 2500), lsn: 2n ** 64n - 2500n },
      { ...slice, toRow: 1 },
    ]);
  }
}, 30_000);

test('strings at the sizes where their length or their copying takes another form', () => {
  const sizes = [7, 8, 9, 15, 16, 17, 63, 64, 65, 72, 127, 128, 16_383, 16_384, 70_000, 2_100_000];
  const rows = sizes.map((size) => ({ ...randomRow(riskLog, random), context: random.bytes(size) }));
  expectSame(riskLog, [sliceOf(riskLog, rows)]);
});

test('a block that is larger than any that is kept room for, and a small one after it', () => {
  const rows = Array.from({ length: 5 }, () => ({
    ...randomRow(riskLog, random),
    context: new Uint8Array(limits.batchBytes).fill(random.int(0, 255)),
  }));
  const small = sliceOf(riskLog, rowsOf(riskLog, 3));
  expectSame(riskLog, [small, sliceOf(riskLog, rows), small]);
}, 30_000);

test('names of streams up to their longest', () => {
  const slice = sliceOf(orders, rowsOf(orders, 40));
  for (const size of [0, 1, 127, 128, 65_535]) expectSame(orders, [renamed(slice, size), slice]);
});
