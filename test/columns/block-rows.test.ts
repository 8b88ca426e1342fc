import { expect, test } from 'bun:test';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commitRow, createBatch } from '../../src/columns/batch.ts';
import { blockSizeBytes, encodeBlock, openBlock } from '../../src/columns/block-codec.ts';
import { rowAt } from '../../src/columns/block-rows.ts';
import { createFrameBuilder, type Row } from '../../src/schema/build-frame.ts';
import { createExtractor } from '../../src/schema/extractor.ts';
import type { TopicModel } from '../../src/schema/model.ts';
import { topicByName } from '../../src/schema/registry.ts';
import { allTypes } from '../support/all-types.ts';

const goldenDir = join(import.meta.dir, '../golden/blocks');
const origin = { lsn: 9_007_199_254_740_990n, recorder: 'host-a', walId: 0xffff_ffff_ffff_fffen };

/** Payload of rows from one stream. */
function payloadOf(model: TopicModel, rows: Row[]): Uint8Array {
  const builder = createFrameBuilder(model);
  const extract = createExtractor(model);
  const batch = createBatch(model, rows.length);
  rows.forEach((row, i) => {
    const frame = builder.build(row);
    if (extract(new DataView(frame.buffer), frame, 0, frame.length, batch) !== 0)
      throw new Error('malformed');
    commitRow(batch, 0, i + 1, 0, 5, 0);
  });
  const streams = [{ source: Buffer.from('sim'), session: Buffer.from([0x61, 0xff]) }];
  const payload = new Uint8Array(blockSizeBytes(batch, streams));
  encodeBlock(batch, streams, payload);
  return payload;
}

function rowOf(model: TopicModel, row: Row): Record<string, unknown> {
  return rowAt(openBlock(model, payloadOf(model, [row]), 1), 0, origin);
}

test('market data as text without a rounded digit', () => {
  const row = rowOf(topicByName('market_data')!, {
    symbol: 'ESZ5',
    kind: 4,
    exch_ts: 1_704_164_645_000_000_006n,
    price: 123_456_789_012n,
    volume: -1n,
    bid_prices: [(1n << 63n) - 1n, 0n, -(1n << 63n)],
    exch_seq: 2n ** 53n,
    trade_id: 2n ** 53n - 1n,
    trade_side: 77,
    expiry: -1,
    strike: 0,
  });
  expect(row).toMatchObject({
    symbol: 'ESZ5',
    exchange: '',
    kind: 'snapshot',
    exch_ts: '2024-01-02T03:04:05.000000006Z',
    local_ts: null,
    price: '123.456789012',
    volume: '-0.000000001',
    bid_prices: ['9223372036.854775807', '0.000000000', '-9223372036.854775808'],
    bid_sizes: [],
    exch_seq: '9007199254740992',
    trade_id: 9_007_199_254_740_991,
    trade_side: 77,
    suspicious: false,
    expiry: '1969-12-31',
    strike: '0.000000000',
  });
  expect(Object.keys(row).slice(-8)).toEqual([
    ...['recorder', 'source', 'session', 'session_hex', 'seq', 'ingest_ts', 'wal_id', 'wal_lsn'],
  ]);
  expect(row).toMatchObject({
    recorder: 'host-a',
    source: 'sim',
    session: 'a\ufffd',
    session_hex: '61ff',
    seq: 1,
    ingest_ts: '1970-01-01T00:00:00.000000005Z',
    wal_id: '18446744073709551614',
    wal_lsn: 9_007_199_254_740_990,
  });
});

test('every other type', () => {
  const row = rowOf(allTypes.model, {
    text: new Uint8Array([0x68, 0x69, 0xc3]),
    text_null: '\ufeffé',
    u64s: [(1n << 64n) - 1n, 1],
    b_null: false,
    bools: [1, 0],
    day: 65_535,
    second: 0xffff_ffff,
    milli: -1,
    small_price: -5,
    i8s: [-128, 127],
    i16s: [-32_768],
    i64s: [-1],
    f32_null: 0x7fc0_0001n,
    f64_null: -0.1,
    f64s: [Number.POSITIVE_INFINITY, 0x7ff0_0000_0000_0001n, Number.NEGATIVE_INFINITY, 1.5],
    tiny: -1,
    tiny_null: 5,
    wide: (1n << 64n) - 1n,
  });
  expect(row).toMatchObject({
    text: 'hi\ufffd',
    text_hex: '6869c3',
    text_null: '\ufeffé',
    u64s: ['18446744073709551615', 1],
    b_plain: false,
    b_default: true,
    b_null: false,
    bools: [true, false],
    day: '2149-06-06',
    second: '2106-02-07T06:28:15Z',
    milli: '1969-12-31T23:59:59.999Z',
    small_price: '-0.0005',
    i8s: [-128, 127],
    i16s: [-32_768],
    i64s: ['1969-12-31T23:59:59.999999999Z'],
    f32_null: 'NaN',
    f32_default: 1.5,
    f64_null: -0.1,
    f64s: ['Infinity', 'NaN', '-Infinity', 1.5],
    tiny: 'minus',
    tiny_null: 5,
    wide: 'top',
    i64_default: '-9223372036854775808',
    u8_null: null,
  });
  expect(row).not.toHaveProperty('text_null_hex');
  expect(() => JSON.stringify(row)).not.toThrow();
});

test('a day beyond the years of a Date is its number', () => {
  expect(rowOf(topicByName('market_data')!, { expiry: 2_147_483_647 })['expiry']).toBe(2_147_483_647);
});

// Files of this format must stay readable for ever. Each .json names its topic and says what its .bin holds;
// a new pair is a new test. RECORDER_WRITE_GOLDEN=1 writes a missing .json beside a .bin.
for (const name of readdirSync(goldenDir).filter((file) => file.endsWith('.bin'))) {
  test(`golden block ${name}`, () => {
    const payload = new Uint8Array(readFileSync(join(goldenDir, name)));
    const jsonPath = join(goldenDir, name.replace('.bin', '.json'));
    const [topic, rowCount] = name.replace('.bin', '').split('.') as [string, string];
    const model = topic === 'all_types' ? allTypes.model : topicByName(topic)!;
    const view = openBlock(model, payload, Number(rowCount));
    const rows = Array.from({ length: view.rowCount }, (_, i) => rowAt(view, i, origin));
    if (!existsSync(jsonPath) && process.env['RECORDER_WRITE_GOLDEN'] === '1') {
      writeFileSync(jsonPath, `${JSON.stringify(rows, null, 1)}\n`);
    }
    expect(JSON.parse(JSON.stringify(rows))).toEqual(JSON.parse(readFileSync(jsonPath, 'utf8')));
  });
}
