import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'csv-parse/sync';
import { createBatch } from '../../src/columns/batch.ts';
import { createFrameBuilder, type Row } from '../../src/schema/build-frame.ts';
import { createExtractor } from '../../src/schema/extractor.ts';
import { topics } from '../../src/schema/registry.ts';
import { openWal } from '../../src/wal/open.ts';
import { extractOne } from '../support/frames.ts';
import { run } from '../support/recorder-process.ts';

const dir = mkdtempSync(join(tmpdir(), 'recorder-wal-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const FILL: Row = { fill_id: 'F,"1"', price: 123_456_789_012n, qty: -1n, side: 1n, decision_price: 0n };
const QUOTE: Row = {
  symbol: Uint8Array.of(0x41, 0xff),
  kind: 9n,
  bid_prices: [1_000_000_000n, -5n],
  exch_seq: 2n ** 63n,
};

/** Ten rows in turn: fills have even LSNs, market data odd ones. */
async function makeWal(): Promise<void> {
  const wal = await openWal({ dir, recorder: 'cli-test', topics, segmentSizeBytes: 1 << 20 });
  for (let lsn = 0; lsn < 10; lsn++) {
    const topicIndex = topics.findIndex(({ topic }) => topic === (lsn % 2 === 0 ? 'fills' : 'market_data'));
    const model = topics[topicIndex]!;
    const frame = createFrameBuilder(model).build(lsn % 2 === 0 ? FILL : QUOTE);
    const { block } = extractOne(createExtractor(model), createBatch(model, 8), frame);
    wal.append({
      topicIndex,
      rowCount: 1,
      payloadSizeBytes: block!.length,
      firstSeq: 1n,
      lastSeq: 1n,
      firstStream: 0,
      lastStream: 0,
      streamCount: 1,
      firstIngestTs: 0n,
      lastIngestTs: 0n,
      encode: (target) => target.set(block!),
    });
  }
  await wal.close();
}

const wal = (...args: string[]) => run(['wal', ...args]);
const rowsOf = (output: string) =>
  output
    .trimEnd()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

beforeAll(makeWal);

describe('wal dump', () => {
  test('prints every row, exact, as JSON lines', async () => {
    const { code, output, errors } = await wal('dump', dir);
    expect({ code, errors }).toEqual({ code: 0, errors: '' });
    const rows = rowsOf(output);
    expect(rows.map((row) => row['wal_lsn'])).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(rows[0]).toMatchObject({
      topic: 'fills',
      fill_id: 'F,"1"',
      price: '123.456789012',
      qty: '-0.000000001',
      side: 'buy',
      decision_price: '0.000000000',
      arrival_price: null,
      recorder: 'cli-test',
      source: 'engine',
      session: 's1',
      seq: 1,
    });
    expect(rows[1]).toMatchObject({
      topic: 'market_data',
      symbol: 'A\uFFFD',
      symbol_hex: '41ff',
      kind: 9,
      bid_prices: ['1.000000000', '-0.000000005'],
      exch_seq: '9223372036854775808',
    });
  });

  test('keeps to topic, range and limit', async () => {
    const lsns = async (...args: string[]) =>
      rowsOf((await wal('dump', dir, ...args)).output).map((row) => row['wal_lsn']);
    expect(await lsns('--topic', 'fills')).toEqual([0, 2, 4, 6, 8]);
    expect(await lsns('--from-lsn', '3', '--to-lsn', '6')).toEqual([3, 4, 5, 6]);
    expect(await lsns('--topic', 'market_data', '--from-lsn', '2', '--limit', '2')).toEqual([3, 5]);
    expect(await lsns('--from-lsn', '10')).toEqual([]);
    const { json } = await wal('dump', dir, '--limit', '3', '--json');
    expect(json).toEqual({ rows: 3, firstLsn: 0, lastLsn: 2, damagedRanges: 0 });
  });

  test('writes CSV that a CSV reader reads', async () => {
    const { output } = await wal('dump', dir, '--topic', 'fills', '--format', 'csv');
    const rows = parse(output, { columns: true }) as Record<string, string>[];
    expect(rows.length).toBe(5);
    expect(rows[0]).toMatchObject({ fill_id: 'F,"1"', price: '123.456789012', wal_lsn: '0', order_id: '' });
    const cells = output.split('\n')[1]!.split(',');
    expect(cells).toContain('""');
    expect(cells).toContain('');
  });

  test('says what is wrong with its flags', async () => {
    for (const [args, text] of [
      [['--format', 'xml'], 'jsonl or csv is expected'],
      [['--format', 'csv'], 'add --topic'],
      [['--from-lsn', '-1'], 'a whole number is expected'],
      [['--limit', 'x'], 'a whole number is expected'],
    ] as const) {
      const { code, errors } = await wal('dump', dir, ...args);
      expect({ code, found: errors.includes(text) }).toEqual({ code: 1, found: true });
    }
  });
});

test('wal ls lists segments, rows by topic and dead letters', async () => {
  mkdirSync(join(dir, 'dead-letter'));
  const letter = { topic: 'fills', firstLsn: '4', lastLsn: '4', rowCount: 1, reason: 'no such table' };
  writeFileSync(join(dir, 'dead-letter', 'fills-4.json'), JSON.stringify(letter));
  const { json, code } = await wal('ls', dir, '--json');
  expect(code).toBe(0);
  expect(json).toMatchObject({
    durableLsn: 10,
    owner: null,
    rows: 10,
    segments: [{ firstLsn: 0, endLsn: 10, blocks: 10, topics: { fills: 5, market_data: 5 }, fault: null }],
    deadLetters: [letter],
  });
  const { output } = await wal('ls', dir);
  expect(output).toContain('0000000000000000.wal');
  expect(output).toContain('dead letter: fills LSN 4 to 4, 1 rows: no such table');
});

test('wal verify finds a flipped bit, and dump names the rows it cannot give', async () => {
  expect((await wal('verify', dir, '--json')).json).toMatchObject({
    segments: 1,
    blocks: 10,
    rows: 10,
    damaged: [],
  });
  const copy = mkdtempSync(join(tmpdir(), 'recorder-wal-'));
  try {
    for (const name of readdirSync(dir).filter((file) => file.endsWith('.wal') || file === 'durable')) {
      writeFileSync(join(copy, name), readFileSync(join(dir, name)));
    }
    const path = join(copy, '0000000000000000.wal');
    const bytes = readFileSync(path);
    bytes[bytes.lastIndexOf('RBLK') + 140]! ^= 1;
    writeFileSync(path, bytes);
    const { code, json } = await wal('verify', copy, '--json');
    expect(code).toBe(1);
    expect(json).toMatchObject({
      blocks: 9,
      rows: 9,
      damaged: [{ kind: 'corruption', firstLsn: 9, lastLsn: 9 }],
    });
    const dump = await wal('dump', copy);
    expect(dump.code).toBe(1);
    expect(rowsOf(dump.output).length).toBe(9);
    expect(dump.errors).toContain('rows 9 to 9 cannot be read');
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
});

test('a directory without a WAL is named', async () => {
  expect((await wal('verify', join(dir, 'none'))).errors).toContain('there is no directory');
  expect((await wal('verify', join(dir, 'dead-letter'), '--json')).json).toMatchObject({
    error: { code: 'wal_format' },
  });
});
