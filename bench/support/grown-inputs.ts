// Frames that grow in one dimension: symbols, distinct strings, levels of the book, size.

import { createFrameBuilder, type Row } from '../../src/schema/build-frame.ts';
import { topics } from '../../src/schema/registry.ts';

const BASE_NS = 1_723_161_255_000_000_000n;

function build(topic: string, rows: Iterable<Row>): Uint8Array[] {
  const builder = createFrameBuilder(topics.find((model) => model.topic === topic)!);
  return Array.from(rows, (row) => builder.buildSizePrefixed(row));
}

function tick(i: number, symbol: string): Row {
  const exch_ts = BASE_NS + BigInt(i) * 1000n;
  const amounts = { price: 61_837_630_000_000n + BigInt(i % 997), volume: 20_000_000n, trade_id: i + 1 };
  return { symbol, exchange: 'BINANCE', kind: 1, exch_ts, local_ts: exch_ts, ...amounts, trade_side: 1 };
}

/** Ticks of `distinct` symbols in turn, at least `count`, all symbols equally often. */
export function ticksOfSymbols(distinct: number, count: number): Uint8Array[] {
  const rows = Math.max(count, distinct);
  // Seven digits: the frames are of one size, however many symbols there are.
  const symbols = Array.from({ length: rows }, (_, i) => `S${String(i % distinct).padStart(7, '0')}`);
  return build(
    'market_data',
    symbols.map((symbol, i) => tick(i, symbol)),
  );
}

/** Whole books with `levels` levels on both sides. */
export function booksOfLevels(levels: number, count: number): Uint8Array[] {
  const side = (i: number, step: bigint) =>
    Array.from({ length: levels }, (_, level) => 61_837_630_000_000n + BigInt(i) + step * BigInt(level));
  const rows = Array.from({ length: count }, (_, i) => ({
    ...tick(i, 'BTCUSDT'),
    kind: 4,
    price: 0n,
    volume: 0n,
    bid_prices: side(i, -10_000_000n),
    bid_sizes: side(i, 1n),
    ask_prices: side(i, 10_000_000n),
    ask_sizes: side(i, 2n),
  }));
  return build('market_data', rows);
}

/** Frames of `size` bytes with their prefix: the smallest are spans, the others carry a long text. */
export function framesOfSize(size: number, count: number): Uint8Array[] {
  if (size <= 60) {
    return build(
      'latency_spans',
      Array.from({ length: count }, (_, i) => ({ ts: BASE_NS + BigInt(i), latency_ns: 250 + i })),
    );
  }
  const riskLog = (length: number) =>
    Array.from({ length: count }, (_, i) => ({ ts: BASE_NS + BigInt(i), context: 'x'.repeat(length) }));
  const overhead = build('risk_log', riskLog(1).slice(0, 1))[0]!.length;
  return build('risk_log', riskLog(Math.max(1, size - overhead)));
}
