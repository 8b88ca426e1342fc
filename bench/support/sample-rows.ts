// Rows as engines send them, for the benchmarks: the fields that a real event has, ids that change, symbols
// that repeat. Fixed seed. A topic that is not known here gets rows with every column set.

import type { Row } from '../../src/schema/build-frame.ts';
import type { ColumnModel, TopicModel } from '../../src/schema/model.ts';

const BASE_TS = 1_700_000_000_000_000_000n;
const symbols = ['BTCUSDT', 'ETHUSDT', 'SOLUSDT', 'AAPL', 'MSFT', 'ESZ5'];
const strategies = ['mm-btc-01', 'arb-eth-02', 'mean-rev-7'];

/** Multiplicative congruential generator: the same rows in every run. */
function generator(): (limit: number) => number {
  let state = 20_240_613;
  return (limit) => {
    state = (state * 48_271) % 0x7fff_ffff;
    return state % limit;
  };
}

function auditFields(i: number): Row {
  return {
    trace_id: `t-${(1e9 + i).toString(16)}`,
    feature_snapshot_id: `fs-${1e6 + i}`,
    risk_decision_id: `rd-${1e6 + i}`,
    strategy_version: '2.14.0',
    config_hash: '9f86d081',
    git_sha: 'e2777d9a',
    data_session_id: '2024-06-13-a',
  };
}

/** Ticks and top-of-book quotes, half and half. */
function marketData(i: number, next: (limit: number) => number): Row {
  const price = 65_000_000_000_000n + BigInt(next(1_000_000)) * 1_000_000n;
  const common = {
    symbol: symbols[next(symbols.length)],
    exchange: 'BINANCE',
    exch_ts: BASE_TS + BigInt(i) * 1_000n,
    local_ts: BASE_TS + BigInt(i) * 1_000n + 350n,
    exch_seq: 10_000_000 + i,
    instrument_type: 5,
  };
  if (next(2) === 0) {
    return {
      ...common,
      kind: 1,
      price,
      volume: BigInt(next(1e6) + 1) * 1000n,
      trade_id: i + 1,
      trade_side: 1,
    };
  }
  const size = BigInt(next(1e6) + 1) * 1000n;
  return {
    ...common,
    kind: 2,
    bid_prices: [price],
    bid_sizes: [size],
    ask_prices: [price + 10n],
    ask_sizes: [size],
  };
}

function anyRow(model: TopicModel, i: number, next: (limit: number) => number): Row {
  const value = (column: ColumnModel): unknown => {
    if (column.kind === 'array') return [i, i + 1];
    if (column.kind === 'string') {
      if (column.name === 'symbol') return symbols[next(symbols.length)];
      if (column.name === 'strategy_id') return strategies[next(strategies.length)];
      return column.clickhouseType === 'String'
        ? `${column.name.slice(0, 4)}-${1e6 + i}`
        : column.name.slice(0, 8);
    }
    if (column.scalar.startsWith('float')) return next(1_000_000) / 1000;
    if (column.enumValues !== null || column.scalar === 'bool') return next(2);
    return column.name.endsWith('_ts') || column.name === 'ts' ? BASE_TS + BigInt(i) : next(1_000_000);
  };
  const row: Row = Object.fromEntries(model.columns.map((column) => [column.name, value(column)]));
  return 'trace_id' in row && 'git_sha' in row ? { ...row, ...auditFields(i) } : row;
}

/** `count` rows of a topic. */
export function sampleRows(model: TopicModel, count: number): Row[] {
  const next = generator();
  return Array.from({ length: count }, (_, i) =>
    model.topic === 'market_data' ? marketData(i, next) : anyRow(model, i, next),
  );
}
