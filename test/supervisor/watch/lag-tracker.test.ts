import { expect, test } from 'bun:test';
import { LagTracker } from '../../../src/supervisor/watch/lag-tracker.ts';
import { seededRandom } from '../../support/random.ts';

test('rows, bytes and age of what is not delivered, by topic', () => {
  const lag = new LagTracker();
  expect(lag.lag('orders')).toEqual({ rows: 0, bytes: 0, oldestMs: null });
  lag.append('orders', 0n, 10, 100, 1000);
  lag.append('fills', 10n, 5, 50, 1000);
  lag.append('orders', 15n, 10, 100, 5000);
  expect(lag.lag('orders')).toEqual({ rows: 20, bytes: 200, oldestMs: 1000 });
  lag.delivered('orders', 10n);
  expect(lag.lag('orders')).toEqual({ rows: 10, bytes: 100, oldestMs: 5000 });
  lag.delivered('orders', 20n);
  expect(lag.lag('orders')).toEqual({ rows: 5, bytes: 50, oldestMs: 5000 });
  lag.delivered('orders', 25n);
  expect(lag.lag('orders')).toEqual({ rows: 0, bytes: 0, oldestMs: null });
  expect(lag.lag('fills').rows).toBe(5);
});

test('random appends and deliveries: exact at the end of a stretch, near the truth within one', () => {
  const random = seededRandom('lag-tracker');
  const lag = new LagTracker();
  const blocks: { end: bigint; rows: number }[] = [];
  let lsn = 0n;
  let atMs = 0;
  let delivered = 0;
  for (let i = 0; i < 20_000; i++) {
    const rows = random.int(1, 100);
    atMs += random.int(0, 400);
    lag.append('t', lsn, rows, rows * 10, atMs);
    lsn += BigInt(rows);
    blocks.push({ end: lsn, rows });
    if (random.int(0, 2) === 0) {
      delivered = random.int(delivered, blocks.length - 1);
      lag.delivered('t', blocks[delivered]!.end);
    }
    const truth = Number(lsn - (delivered === 0 ? 0n : blocks[delivered]!.end));
    // Rows of one topic alone lie evenly over their LSNs: the estimate is exact but for rounding.
    expect(Math.abs(lag.lag('t').rows - truth)).toBeLessThanOrEqual(delivered === 0 ? blocks[0]!.rows : 1);
  }
  lag.delivered('t', lsn);
  expect(lag.lag('t')).toEqual({ rows: 0, bytes: 0, oldestMs: null });
});

test('an outage of days costs a bounded number of entries', () => {
  const lag = new LagTracker();
  for (let second = 0; second < 100_000; second++)
    lag.append('t', BigInt(second * 10), 10, 100, second * 2000);
  expect(lag.lag('t')).toEqual({ rows: 1_000_000, bytes: 10_000_000, oldestMs: 0 });
  lag.delivered('t', 500_000n);
  expect(lag.lag('t').rows).toBe(500_000);
});
