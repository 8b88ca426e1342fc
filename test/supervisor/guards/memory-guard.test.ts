import { expect, test } from 'bun:test';
import { type BufferedRows, MemoryGuard } from '../../../src/supervisor/guards/memory-guard.ts';
import { sheddingOrder } from '../../../src/supervisor/guards/topic-priority.ts';
import { seededRandom } from '../../support/random.ts';

const TOPICS = ['backtest_runs', 'fills', 'gaps', 'latency_spans', 'market_data', 'orders', 'risk_log'];
const bounds = { maxBytes: 1000, maxRows: 100, flushBytes: 100, unsyncedBytes: 10_000 };
const bytes = (total: number, openBytes = 0): BufferedRows => ({ rows: 0, bytes: total, openBytes });

function guard(): MemoryGuard {
  return new MemoryGuard(bounds, TOPICS.length);
}

test('market data goes first, fills last', () => {
  const order = sheddingOrder(TOPICS).map((index) => TOPICS[index]);
  expect(order).toEqual([
    'latency_spans',
    'market_data',
    'gaps',
    'backtest_runs',
    'risk_log',
    'orders',
    'fills',
  ]);
});

test('the fullest topic is to be sealed above the threshold of open batches', () => {
  expect(guard().measure(bytes(100, 100), 0)).toBe(false);
  expect(guard().measure(bytes(101, 101), 0)).toBe(true);
  expect(guard().measure(bytes(900, 100), 0)).toBe(false);
});

test('streams are paused at half the bound and resumed at a quarter', () => {
  const memory = guard();
  const pausedAt = (total: number) => {
    memory.measure(bytes(total), 0);
    return memory.paused;
  };
  expect([499, 500, 499, 250, 249, 499, 500].map(pausedAt)).toEqual([
    false,
    true,
    true,
    true,
    false,
    false,
    true,
  ]);
});

test('streams are paused while too much waits for the disk', () => {
  const memory = guard();
  const pausedAt = (unsynced: number) => {
    memory.measure(bytes(0), unsynced);
    return memory.paused;
  };
  expect([10_000, 10_001, 5_000, 4_999].map(pausedAt)).toEqual([false, true, true, false]);
  expect(memory.shedCount).toBe(0);
});

test('rows count as bytes do', () => {
  const memory = guard();
  memory.measure({ rows: 60, bytes: 0, openBytes: 0 }, 0);
  expect([memory.fill, memory.paused, memory.shedCount]).toEqual([0.6, true, 1]);
});

test('topics are shed one after another from 0.6 on, all of them at the bound', () => {
  const memory = guard();
  const shedAt = (total: number) => {
    memory.measure(bytes(total), 0);
    return memory.shedCount;
  };
  expect([599, 600, 667, 734, 800, 867, 934, 999, 1000, 2000].map(shedAt)).toEqual([
    0, 1, 2, 3, 4, 5, 6, 6, 7, 7,
  ]);
  // Each ends 0.05 below where it began.
  expect([999, 951, 949, 600, 551, 549].map(shedAt)).toEqual([7, 7, 6, 1, 1, 0]);
});

test('whatever comes: shedding only after pausing, and never without need', () => {
  const random = seededRandom('memory-guard');
  const memory = guard();
  for (let i = 0; i < 10_000; i++) {
    const total = random.int(0, 1200);
    memory.measure(bytes(total), 0);
    if (memory.shedCount > 0) expect(memory.paused).toBe(true);
    if (total < 550) expect(memory.shedCount).toBe(0);
    if (total >= 1000) expect(memory.shedCount).toBe(TOPICS.length);
    if (total < 950) expect(memory.shedCount).toBeLessThan(TOPICS.length);
  }
});
