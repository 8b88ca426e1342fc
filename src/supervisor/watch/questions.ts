// Questions about the recorded data that an operator asks again and again; each runs on ClickHouse 18 too.

/** The questions for tables in `database`. */
export function cannedQuestions(database: string): { title: string; sql: string }[] {
  const db = `\`${database.replaceAll('`', '``')}\``;
  return [
    {
      title: 'What is stored: rows and size by table',
      sql: `SELECT table, sum(rows) AS rows, formatReadableSize(sum(bytes_on_disk)) AS on_disk,
  max(modification_time) AS last_write
FROM system.parts WHERE active AND database = '${database.replaceAll("'", "''")}'
GROUP BY table ORDER BY rows DESC`,
    },
    {
      // On ClickHouse 18 the column is a number of nanoseconds.
      title: 'Market data of the last minutes: rows by minute',
      sql: `WITH toInt64(ingest_ts) AS ts, if(ts > 100000000000, intDiv(ts, 1000000000), ts) AS second
SELECT toStartOfMinute(toDateTime(second, 'UTC')) AS minute, count() AS rows, uniq(symbol) AS symbols
FROM ${db}.market_data GROUP BY minute ORDER BY minute DESC LIMIT 15`,
    },
    {
      title: 'Busiest symbols',
      sql: `SELECT symbol, exchange, count() AS rows, min(exch_ts) AS first, max(exch_ts) AS last
FROM ${db}.market_data GROUP BY symbol, exchange ORDER BY rows DESC LIMIT 20`,
    },
    {
      title: 'Latest fills',
      sql: `SELECT match_ts, symbol, side_name, price, qty, liquidity_name, strategy_id, order_id
FROM ${db}.trades ORDER BY match_ts DESC LIMIT 20`,
    },
    {
      title: 'Fill quality: slippage against the decision price, basis points',
      sql: `WITH toFloat64(qty) AS q, toFloat64(decision_price) AS decided,
  if(side_name = 'buy', 1, -1) AS sign
SELECT strategy_id, count() AS fills,
  round(1e4 * sum(sign * (toFloat64(price) - decided) * q) / sum(decided * q), 3) AS slippage_bps
FROM ${db}.trades WHERE decision_price > 0 GROUP BY strategy_id ORDER BY fills DESC LIMIT 20`,
    },
    {
      title: 'Engine latency by stage, microseconds',
      sql: `SELECT stage, count() AS spans, round(quantile(0.5)(latency_ns) / 1000, 1) AS p50,
  round(quantile(0.99)(latency_ns) / 1000, 1) AS p99, round(max(latency_ns) / 1000, 1) AS worst
FROM ${db}.latency_spans GROUP BY stage ORDER BY p99 DESC`,
    },
    {
      title: "What was wrong: the recorder's own health changes",
      sql: `SELECT ts, reason_code, metric, value, context
FROM ${db}.logs WHERE source = 'recorder' AND rule = 'health' ORDER BY ts DESC LIMIT 50`,
    },
    {
      title: 'Gaps: sequence numbers that never came',
      sql: `SELECT * FROM ${db}.gaps ORDER BY ingest_ts DESC LIMIT 50`,
    },
    {
      title: 'Proof: no row of market data is there twice',
      sql: `SELECT count() AS rows, uniqExact(recorder, wal_id, wal_lsn) AS different_rows,
  if(rows = different_rows, 'each row once', 'DUPLICATES') AS verdict
FROM ${db}.market_data`,
    },
  ];
}
