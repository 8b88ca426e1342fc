// The data behind the page, without a browser.

import { expect, test } from 'bun:test';
import { History, type Look } from '../../src/observe/dashboard/history.ts';
import type { SqlAnswer } from '../../src/observe/dashboard/live.ts';
import { type Buckets, bucketsOf, quantileBetween, valuesOf } from '../../src/observe/dashboard/snapshot.ts';
import { answerSql, sqlParameters } from '../../src/observe/dashboard/sql-console.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { seededRandom } from '../support/random.ts';

const NONE: Buckets = { bounds: [], counts: [] };

test('percentiles lie in the bucket that holds the exact one', async () => {
  const random = seededRandom('dashboard quantiles');
  const { sync } = createMetrics();
  const read = async () => bucketsOf((await sync.get()).values as never);
  for (let i = 0; i < 50; i++) sync.observe(random.next() * 20);
  for (let round = 0; round < 20; round++) {
    const before = await read();
    const observed = Array.from({ length: random.int(1, 200) }, () => 10 ** (random.next() * 5 - 4));
    for (const value of observed) sync.observe(value);
    const after = await read();
    const sorted = observed.toSorted((a, b) => a - b);
    for (const share of [0.5, 0.99]) {
      const exact = sorted[Math.ceil(share * sorted.length) - 1]!;
      const shown = quantileBetween(before, after, share)!;
      const upper = after.bounds.find((bound) => bound >= exact)!;
      const lower = after.bounds.findLast((bound) => bound < exact) ?? 0;
      expect(shown).toBeGreaterThanOrEqual(lower);
      expect(shown).toBeLessThanOrEqual(Math.min(upper, 10));
    }
  }
});

test('nothing observed is no percentile, not zero', async () => {
  const { sync } = createMetrics();
  sync.observe(1);
  const buckets = bucketsOf((await sync.get()).values as never);
  expect(quantileBetween(buckets, buckets, 0.5)).toBeNull();
  expect(quantileBetween(null, NONE, 0.5)).toBeNull();
});

test('samples become values by name and labels', () => {
  const values = valuesOf([
    { name: 'recorder_received_rows_total', value: 3, labels: { topic: 'fills' } },
    { name: 'recorder_received_rows_total', value: 4, labels: { topic: 'orders' } },
    { name: 'recorder_shed_rows_total', value: 2, labels: { topic: 'fills', cause: 'disk' } },
    { name: 'recorder_next_lsn', value: 9 },
  ]);
  expect(values).toEqual({
    recorder_received_rows_total: { fills: 3, orders: 4 },
    recorder_shed_rows_total: { 'fills/disk': 2 },
    recorder_next_lsn: { '': 9 },
  });
});

function look(atMs: number, received: number, inserted?: number): Look {
  const values = {
    recorder_received_rows_total: { fills: received },
    ...(inserted === undefined ? {} : { recorder_inserted_rows_total: { fills: inserted } }),
  };
  return { atMs, values, durable: NONE, inserted: NONE };
}

test('rates are of the time that has really passed; without a flusher nothing is inserted', () => {
  const history = new History(10);
  history.add(look(1000, 500));
  expect(history.after(0)).toEqual([]);
  history.add(look(3000, 700));
  history.add(look(4000, 700, 50));
  history.add(look(5000, 700, 90));
  const points = history.after(0);
  expect(points.map(({ received }) => received['fills'])).toEqual([100, 0, 0]);
  expect(points.map(({ inserted }) => inserted)).toEqual([null, null, 40]);
});

test('a reader gets what it has not seen, and everything when it comes from another history', () => {
  const history = new History(5);
  for (let i = 0; i <= 8; i++) history.add(look(i * 1000, i));
  const numbers = (after: number) => history.after(after).map(({ number }) => number);
  expect(numbers(0)).toEqual([4, 5, 6, 7, 8]);
  expect(numbers(6)).toEqual([7, 8]);
  expect(numbers(8)).toEqual([]);
  expect(numbers(99)).toEqual([4, 5, 6, 7, 8]);
  expect(numbers(Number.NaN)).toEqual([]);
});

async function ask(sql: string, answer: () => Promise<Response>): Promise<SqlAnswer & { status: number }> {
  const response = await answerSql({ questions: [], send: answer }, sql);
  return { status: response.status, ...((await response.json()) as SqlAnswer) };
}

test('every statement is read-only and bounded, and no setting follows readonly', () => {
  const names = [...sqlParameters().keys()];
  expect(sqlParameters().get('readonly')).toBe('1');
  expect(names.at(-1)).toBe('readonly');
  for (const bound of ['max_execution_time', 'max_result_rows', 'max_memory_usage'])
    expect(Number(sqlParameters().get(bound))).toBeGreaterThan(0);
});

test('answers are bounded, errors are those of the server without an address', async () => {
  const rows = Array.from({ length: 3000 }, (_, i) => [i]);
  const many = JSON.stringify({ meta: [{ name: 'n', type: 'UInt64' }], data: rows });
  const cut = await ask('SELECT 1', async () => new Response(many));
  expect(cut.rows).toHaveLength(1000);
  expect(cut.truncated).toBe(true);
  expect((await ask('SELECT 1 FORMAT CSV', async () => new Response('1\n'))).text).toBe('1\n');
  const long = await ask('SELECT 1', async () => new Response(`{${' '.repeat(5_000_000)}}`));
  expect(long.error).toContain('too long');
  const refused = await ask('DROP', async () => new Response('Code: 164. no', { status: 500 }));
  expect(refused).toMatchObject({ status: 200, error: 'Code: 164. no' });
  const gone = await ask('SELECT 1', () => Promise.reject(new Error('connect http://user:secret@host')));
  expect(gone).toEqual({ status: 200, error: 'ClickHouse cannot be reached' });
  expect((await ask('  ', async () => new Response(''))).error).toBe('no statement');
  expect(await (await answerSql(null, 'SELECT 1')).json()).toEqual({
    error: 'ClickHouse is not configured here',
  });
});
