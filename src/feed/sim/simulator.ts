// A seeded market and a few strategies: all six topics with ids that fit together.
//
// Invariants: the same seed and rows give the same events. Exactly `rows` events come, by time; every
// episode of a strategy is complete, and the last rows are one backtest_runs row a strategy, whose numbers
// are those of its fills. From 40 rows on, every topic is there.

import type { EventSource, FeedEvent } from '../event.ts';
import { createStrategy, equityOf, type Strategy } from './account.ts';
import { createInstruments, marketRow } from './market.ts';
import { createRandom, type Random } from './random.ts';
import { decide, EPISODE_ROWS_MAX, type RunFacts } from './strategy.ts';
import { createTimeQueue } from './time-queue.ts';

/** 2024-01-02 14:30:00 UTC, the opening in New York. */
const START_NS = 1_704_205_800_000_000_000n;
const MEAN_PAUSE_NS = 40_000;
const DECISION_CHANCE = 0.012;
const RISK_METRIC_CHANCE = 0.0005;
const BATCH_ROWS = 512;

export interface SimOptions {
  seed: number;
  /** How many events to make. */
  rows: number;
}

/** Simulates `rows` events, in batches. */
export function* simulate({ seed, rows }: SimOptions): Generator<FeedEvent[]> {
  const random = createRandom(seed);
  const facts = runFacts(seed, random);
  const instruments = createInstruments();
  const strategies = ['momentum', 'market_maker', 'pairs'].map((id, i) => createStrategy(id, `1.${i}.0`));
  const reserved = rows > EPISODE_ROWS_MAX + strategies.length ? strategies.length : 0;
  const queue = createTimeQueue();
  let now = START_NS;
  let emitted = 0;
  let decisions = 0;
  let batch: FeedEvent[] = [];

  const free = () => rows - reserved - emitted - queue.size - batch.length;
  while (free() > 0) {
    now += BigInt(1 + Math.floor(random.exponential(MEAN_PAUSE_NS)));
    for (let due = queue.popUntil(now); due !== null; due = queue.popUntil(now)) batch.push(due);
    const instrument = random.pick(instruments);
    batch.push({ topic: 'market_data', row: marketRow(random, instrument, now), eventTimeNs: now });
    const deciding = decisions === 0 || random.chance(DECISION_CHANCE);
    if (deciding && free() >= EPISODE_ROWS_MAX) {
      decisions++;
      const strategy = strategies[decisions % strategies.length]!;
      for (const event of decide(random, facts, strategy, instrument, now, decisions, decisions === 1))
        queue.push(event);
    } else if (random.chance(RISK_METRIC_CHANCE) && free() > 0) {
      queue.push(riskMetric(random.pick(strategies), now));
    }
    if (batch.length >= BATCH_ROWS) {
      emitted += batch.length;
      yield batch;
      batch = [];
    }
  }
  for (let late = queue.pop(); late !== null; late = queue.pop()) {
    if (late.eventTimeNs > now) now = late.eventTimeNs;
    batch.push(late);
  }
  for (const strategy of strategies.slice(0, reserved)) batch.push(backtestRun(strategy, facts, now));
  yield batch;
}

function runFacts(seed: number, random: Random): RunFacts {
  const hex = (length: number) => Array.from({ length }, () => random.int(0, 15).toString(16)).join('');
  return { prefix: seed.toString(36), configHash: hex(16), gitSha: hex(40), dataSession: `sim-${seed}` };
}

/** A metric that nobody decides on: approved and limit are NULL. */
function riskMetric(strategy: Strategy, timeNs: bigint): FeedEvent {
  const row = {
    ts: timeNs,
    strategy_id: strategy.id,
    rule: 'monitor',
    metric: 'equity',
    value: equityOf(strategy),
    context: JSON.stringify({ trades: strategy.trades, drawdown: strategy.drawdown }),
  };
  return { topic: 'risk_log', row, eventTimeNs: timeNs };
}

function backtestRun(strategy: Strategy, facts: RunFacts, endNs: bigint): FeedEvent {
  const { changes } = strategy;
  const mean = changes.sum / changes.count;
  const deviation = Math.sqrt(changes.squares / changes.count - mean * mean);
  const row = {
    run_id: `${facts.prefix}-${strategy.id}`,
    strategy_id: strategy.id,
    git_commit: facts.gitSha,
    config_hash: facts.configHash,
    start_ts: START_NS,
    end_ts: endNs,
    config_json: JSON.stringify({
      strategy: strategy.id,
      version: strategy.version,
      session: facts.dataSession,
    }),
    total_pnl: equityOf(strategy),
    // NaN where there was no fill or no change.
    sharpe_ratio: deviation > 0 ? (mean / deviation) * Math.sqrt(252) : Number.NaN,
    max_drawdown: strategy.equityPeak > 0 ? strategy.drawdown / strategy.equityPeak : 0,
    win_rate: strategy.trades === 0 ? 0 : strategy.wins / strategy.trades,
    total_turnover: strategy.turnover,
    total_trades: strategy.trades,
    runtime_seconds: Number(endNs - START_NS) / 1e9,
    created_at: endNs,
  };
  return { topic: 'backtest_runs', row, eventTimeNs: endNs };
}

/** The simulator as a source for the player. */
export function openSim(options: SimOptions): EventSource {
  return {
    label: `sim, seed ${options.seed}`,
    sizeBytes: 0,
    readBytes: () => 0,
    async *batches() {
      yield* simulate(options);
    },
  };
}
