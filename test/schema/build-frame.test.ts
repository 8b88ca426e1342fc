// The frames are decoded by flatc itself (C++), which shares no code with the builder or the flatbuffers
// package.

import { expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createFrameBuilder, type Row } from '../../src/schema/build-frame.ts';
import { topicByName } from '../../src/schema/registry.ts';
import { hasFlatc, projectDir } from '../support/schemas.ts';

/** The frame as flatc prints it, with all integers as text, so that no digit is lost. */
function flatcJson(topic: string, frame: Uint8Array, sizePrefixed: boolean): Record<string, unknown> {
  const dir = mkdtempSync(join(tmpdir(), 'recorder-frame-'));
  try {
    writeFileSync(join(dir, 'frame.bin'), frame);
    const prefix = sizePrefixed ? ['--size-prefixed'] : [];
    const schema = join(projectDir, `schemas/${topic}.fbs`);
    const args = ['--json', '--strict-json', ...prefix, '-o', dir, schema, '--', join(dir, 'frame.bin')];
    const run = spawnSync('flatc', args, { encoding: 'utf8' });
    if (run.status !== 0) throw new Error(run.stdout + run.stderr);
    const text = readFileSync(join(dir, 'frame.json'), 'utf8');
    return JSON.parse(text.replace(/([[ ])(-?\d{16,})(?=[,\]\s])/g, '$1"$2"')) as Record<string, unknown>;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const row: Row = {
  symbol: 'BTCUSDT',
  kind: 3,
  exch_ts: 1_700_000_000_123_456_789n,
  price: -(1n << 63n),
  volume: 9_007_199_254_740_991,
  bid_prices: [(1n << 63n) - 1n, -1_000_000_000_000_000_000n],
  ask_prices: [],
  exch_seq: (1n << 64n) - 1n,
  trade_id: 2 ** 52,
  suspicious: true,
  conditions: '',
  strike: 0,
  expiry: -1,
};

test.skipIf(!hasFlatc)('flatc reads what was built', () => {
  const builder = createFrameBuilder(topicByName('market_data')!);
  const expected = {
    symbol: 'BTCUSDT',
    kind: 'depth',
    exch_ts: '1700000000123456789',
    price: '-9223372036854775808',
    volume: '9007199254740991',
    bid_prices: ['9223372036854775807', '-1000000000000000000'],
    ask_prices: [],
    exch_seq: '18446744073709551615',
    trade_id: '4503599627370496',
    conditions: '',
    suspicious: true,
    strike: 0,
    expiry: -1,
  };
  expect(flatcJson('market_data', builder.build(row), false)).toEqual(expected);
  const prefixed = builder.buildSizePrefixed(row);
  expect(new DataView(prefixed.buffer).getUint32(0, true)).toBe(prefixed.length - 4);
  expect(flatcJson('market_data', prefixed, true)).toEqual(expected);
});

test.skipIf(!hasFlatc)('defaults are left out, or written when forced', () => {
  const model = topicByName('latency_spans')!;
  const defaults = { ts: 0, latency_ns: 0n };
  expect(flatcJson('latency_spans', createFrameBuilder(model).build(defaults), false)).toEqual({});
  const forced = createFrameBuilder(model, { forceDefaults: true }).build(defaults);
  expect(flatcJson('latency_spans', forced, false)).toEqual({ ts: 0, latency_ns: 0 });
});

test('strings may be any bytes, and a builder can be used again after a large row', () => {
  const builder = createFrameBuilder(topicByName('risk_log')!);
  const small = { rule: new Uint8Array([0xff, 0, 0xfe]), value: 0.5 };
  const first = builder.build(small);
  expect(Buffer.from(first).includes(Buffer.from([3, 0, 0, 0, 0xff, 0, 0xfe, 0]))).toBe(true);
  builder.build({ context: 'x'.repeat(100_000) });
  expect(builder.build(small)).toEqual(first);
});
