// What the demo asks ClickHouse in the end: the questions of a desk, and the proof that nothing is missing or
// double.

import Table from 'cli-table3';
import type { SqlClient } from '../sink/clickhouse-client.ts';
import { printLine } from './options.ts';

/** A question and its SQL; `hft` is the database. */
export interface Question {
  title: string;
  sql: string;
}

const TABLES = ['market_data', 'orders', 'trades', 'logs', 'backtest_runs', 'latency_spans'] as const;

function proofOf(table: string): string {
  return `SELECT '${table}' AS table, count() AS rows, uniqExact(recorder, wal_id, wal_lsn) AS different,
  if(rows = different, 'each row once', 'DUPLICATES') AS verdict FROM hft.${table}`;
}

export const QUESTIONS: readonly Question[] = [
  {
    title: 'What was recorded',
    sql: `SELECT table, sum(rows) AS rows, formatReadableSize(sum(data_uncompressed_bytes)) AS raw,
  formatReadableSize(sum(data_compressed_bytes)) AS stored
FROM system.parts WHERE active AND database = 'hft' GROUP BY table ORDER BY rows DESC`,
  },
  {
    title: 'Volume-weighted average price by symbol',
    sql: `SELECT symbol, count() AS ticks, sum(volume) AS total,
  round(sum(toFloat64(price) * toFloat64(volume)) / sum(toFloat64(volume)), 4) AS vwap,
  min(price) AS low, max(price) AS high
FROM hft.market_data WHERE kind_name = 'tick' GROUP BY symbol ORDER BY ticks DESC LIMIT 8`,
  },
  {
    title: 'Fill quality: slippage against the price of the decision',
    sql: `WITH toFloat64(qty) AS q, toFloat64(decision_price) AS decided, if(side_name = 'buy', 1, -1) AS sign
SELECT strategy_id, count() AS fills,
  round(100 * countIf(liquidity_name = 'maker') / fills, 1) AS maker_percent,
  round(1e4 * sum(sign * (toFloat64(price) - decided) * q) / sum(decided * q), 3) AS slippage_bps,
  round(1e4 * sum(toFloat64(fee)) / sum(toFloat64(price) * toFloat64(qty)), 3) AS fee_bps
FROM hft.trades GROUP BY strategy_id ORDER BY fills DESC LIMIT 8`,
  },
  {
    title: 'Latency by stage, microseconds',
    sql: `SELECT stage, count() AS spans, round(quantile(0.5)(latency_ns) / 1000, 1) AS p50,
  round(quantile(0.9)(latency_ns) / 1000, 1) AS p90, round(quantile(0.99)(latency_ns) / 1000, 1) AS p99,
  round(max(latency_ns) / 1000, 1) AS worst
FROM hft.latency_spans GROUP BY stage ORDER BY p50`,
  },
  {
    title: 'Orders, their risk decisions and their fills, joined by id',
    sql: `SELECT strategy_id, uniqExact(client_order_id) AS orders,
  uniqExactIf(client_order_id, risk_decision_id IN (SELECT risk_decision_id FROM hft.logs)) AS with_decision,
  uniqExactIf(client_order_id, client_order_id IN (SELECT client_order_id FROM hft.trades)) AS with_fill
FROM hft.orders GROUP BY strategy_id ORDER BY orders DESC LIMIT 8`,
  },
  {
    title: 'The proof: (recorder, wal_id, wal_lsn) is unique',
    sql: `SELECT * FROM (${TABLES.map(proofOf).join('\nUNION ALL ')}) ORDER BY rows DESC`,
  },
];

function shown(value: unknown): string {
  const text = String(value);
  return /^\d{4,}$/.test(text) ? Number(text).toLocaleString('en-US') : text;
}

/** Asks each question and prints its SQL's answer as a table. Throws ServerError. */
export async function printAnswers(client: SqlClient): Promise<void> {
  for (const { title, sql } of QUESTIONS) {
    const rows = await client.query<Record<string, unknown>>(sql);
    const names = Object.keys(rows[0] ?? { 'no rows': '' });
    const table = new Table({
      head: names,
      colAligns: names.map((name) => (/^-?[\d.]+$/.test(String(rows[0]?.[name])) ? 'right' : 'left')),
      chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
      style: { head: [], border: [] },
    });
    for (const row of rows) table.push(names.map((name) => shown(row[name])));
    printLine(`\n${title}\n${table.toString()}`);
  }
}
