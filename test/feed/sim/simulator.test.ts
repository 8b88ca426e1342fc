import { expect, test } from 'bun:test';
import type { FeedEvent } from '../../../src/feed/event.ts';
import { simulate } from '../../../src/feed/sim/simulator.ts';
import { createTimeQueue } from '../../../src/feed/sim/time-queue.ts';
import { createFrameBuilder } from '../../../src/schema/build-frame.ts';
import { topics } from '../../../src/schema/registry.ts';
import { seededRandom } from '../../support/random.ts';

const run = (seed: number, rows: number): FeedEvent[] => [...simulate({ seed, rows })].flat();
const rowsOf = (events: FeedEvent[], topic: string) =>
  events.filter((e) => e.topic === topic).map(({ row }) => row);

test('the same seed gives the same events, another seed others', () => {
  expect(run(7, 3000)).toEqual(run(7, 3000));
  expect(run(7, 3000)).not.toEqual(run(8, 3000));
});

test('exactly as many rows come as asked for, whatever their number', () => {
  const random = seededRandom('sim-rows');
  for (const rows of [0, 1, 2, 3, 10, 21, 22, 23, 39, 40, 41, random.int(42, 5000), random.int(42, 5000)]) {
    expect(run(random.u32(), rows)).toHaveLength(rows);
  }
});

test('from 40 rows on every topic is there', () => {
  const random = seededRandom('sim-topics');
  for (const rows of [40, 41, 60, 500]) {
    const seen = new Set(run(random.u32(), rows).map(({ topic }) => topic));
    expect([...seen].sort()).toEqual([
      'backtest_runs',
      'fills',
      'latency_spans',
      'market_data',
      'orders',
      'risk_log',
    ]);
  }
});

test('events come by time, and most are market data', () => {
  const events = run(3, 20_000);
  for (let i = 1; i < events.length; i++)
    expect(events[i]!.eventTimeNs >= events[i - 1]!.eventTimeNs).toBe(true);
  const marketData = rowsOf(events, 'market_data');
  expect(marketData.length / events.length).toBeGreaterThan(0.75);
  for (const kind of [1, 2, 3, 4]) expect(marketData.some((row) => row['kind'] === kind)).toBe(true);
});

test('ids fit together: fills have orders, orders have risk decisions, all have spans', () => {
  const random = seededRandom('sim-ids');
  const events = run(random.u32(), 30_000);
  const orders = Map.groupBy(rowsOf(events, 'orders'), (row) => row['client_order_id']);
  const fills = rowsOf(events, 'fills');
  const decisions = rowsOf(events, 'risk_log').filter((row) => row['approved'] !== undefined);
  const risks = new Map(decisions.map((row) => [row['risk_decision_id'], row]));
  const spans = Map.groupBy(rowsOf(events, 'latency_spans'), (row) => row['trace_id']);
  expect(orders.size).toBe(risks.size);
  expect(new Set(fills.map((row) => row['fill_id'])).size).toBe(fills.length);
  const filledQty = new Map<unknown, number>();
  for (const fill of fills) {
    const [first] = orders.get(fill['client_order_id'])!;
    for (const name of ['trace_id', 'symbol', 'strategy_id', 'side', 'risk_decision_id', 'git_sha'])
      expect(fill[name]).toBe(first![name]);
    filledQty.set(
      first!['client_order_id'],
      (filledQty.get(first!['client_order_id']) ?? 0) + Number(fill['qty']),
    );
  }
  for (const [id, states] of orders) {
    const last = states.at(-1)!;
    const risk = risks.get(last['risk_decision_id'])!;
    expect(risk['approved']).toBe(last['status'] !== 8);
    expect(risk['trace_id']).toBe(last['trace_id']);
    expect(spans.get(last['trace_id'])!.map((row) => row['stage'])).toContain('risk');
    expect(last['filled_qty']).toBe(filledQty.get(id) ?? 0);
    // Every life ends: filled, cancelled or rejected.
    expect([4, 6, 8]).toContain(last['status'] as number);
    if (last['status'] === 4) expect(last['filled_qty']).toBe(last['qty']);
    else expect(Number(last['filled_qty'])).toBeLessThan(Number(last['qty']));
  }
});

test('a backtest run says what its fills say', () => {
  const events = run(11, 30_000);
  const fills = Map.groupBy(rowsOf(events, 'fills'), (row) => row['strategy_id']);
  const runs = rowsOf(events, 'backtest_runs');
  expect(runs).toHaveLength(3);
  for (const one of runs) {
    const own = fills.get(one['strategy_id'])!;
    expect(one['total_trades']).toBe(own.length);
    const turnover = own.reduce(
      (sum, fill) => sum + (Number(fill['price']) / 1e9) * (Number(fill['qty']) / 1e9),
      0,
    );
    expect(Math.abs(Number(one['total_turnover']) - turnover) / turnover).toBeLessThan(1e-9);
  }
});

test('every row is a frame', () => {
  const builders = new Map(topics.map((model) => [model.topic, createFrameBuilder(model)]));
  const columns = new Map(
    topics.map((model) => [model.topic, new Set(model.columns.map(({ name }) => name))]),
  );
  for (const { topic, row } of run(5, 5000)) {
    for (const name of Object.keys(row)) expect(columns.get(topic)!.has(name)).toBe(true);
    expect(builders.get(topic)!.build(row).length).toBeGreaterThan(16);
  }
});

test('the queue gives back by time, equal times in order', () => {
  const random = seededRandom('time-queue');
  const queue = createTimeQueue();
  const events = Array.from({ length: 2000 }, (_, n): FeedEvent => {
    return { topic: 'orders', row: { n }, eventTimeNs: BigInt(random.int(0, 300)) };
  });
  for (const event of events) queue.push(event);
  const sorted = [...events].sort((a, b) => Number(a.eventTimeNs - b.eventTimeNs));
  const early = sorted.filter(({ eventTimeNs }) => eventTimeNs <= 100n);
  for (const event of early) expect(queue.popUntil(100n)).toBe(event);
  expect(queue.popUntil(100n)).toBeNull();
  for (const event of sorted.slice(early.length)) expect(queue.pop()).toBe(event);
  expect(queue.size).toBe(0);
  expect(queue.pop()).toBeNull();
});
