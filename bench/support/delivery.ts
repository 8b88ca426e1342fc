// When all rows are at the server, and whether they are the right ones.

import { realFileSystem } from '../../src/io/real-file-system.ts';
import { readFlushLog } from '../../src/sink/flush-log.ts';
import { type RecorderProcess, sql, sqlValue, until } from '../../test/support/recorder-process.ts';
import { monotonicNs } from './posix.ts';

const TIMEOUT_MS = 120_000;
const POLL_MS = 10;

/** Polls until the table has `rows` rows; the time (monotonic, ns) of the answer that said so. */
export async function waitForRows(url: string, table: string, rows: number): Promise<number> {
  const deadline = performance.now() + TIMEOUT_MS;
  for (;;) {
    const count = Number(await sqlValue(url, `SELECT count() FROM ${table}`).catch(() => '0'));
    if (count === rows) return monotonicNs();
    if (count > rows) throw new Error(`${table} has ${count} rows, ${rows} were sent`);
    if (performance.now() > deadline)
      throw new Error(`${table} has ${count} of ${rows} rows, and no more come`);
    await Bun.sleep(POLL_MS);
  }
}

/**
 * Waits until a recorder's flush log says that `rows` rows of market_data are inserted. To read the file
 * costs the recorder nothing, where each question to its HTTP server took 0.7 ms of its CPU.
 */
export async function waitForInserted({ walDir }: RecorderProcess, rows: number): Promise<void> {
  const isThere = () => {
    const progress = readFlushLog(realFileSystem, walDir)?.progress.get('market_data');
    return progress?.insertedRows === BigInt(rows);
  };
  await until(isThere, `${rows} rows inserted`, TIMEOUT_MS);
}

/** What both sides must have stored alike: everything but who recorded it, and when. */
const FACTS = [
  'count()',
  'sum(price)',
  'sum(volume)',
  'sum(arraySum(bid_prices))',
  'sum(arraySum(bid_sizes))',
  'sum(arraySum(ask_prices))',
  'sum(trade_id)',
  'sum(trade_side)',
  'max(exch_ts)',
  'uniqExact(symbol, exchange, conditions)',
];

/** Sums over a market_data table; two tables with the same rows have the same. */
export async function tableFacts(url: string, table: string): Promise<string> {
  const widened = FACTS.map((fact) => fact.replace(/^sum\((price|volume)\)/, 'sum(toDecimal128($1, 9))'));
  return (await sql(url, `SELECT ${widened.join(', ')} FROM ${table}`)).join();
}
