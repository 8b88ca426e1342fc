// Which LSNs a table lacks or has too many, against the runs that the WAL says are its rows. Two passes, so
// that only what differs is fetched: counts by bucket of LSNs, then the LSNs of the buckets whose counts
// differ.

import type { SqlClient } from '../../sink/clickhouse-client.ts';
import type { LsnRun } from './wal-survey.ts';

/** `firstLsn` to `lastLsn`, both included. */
export interface LsnRange {
  firstLsn: bigint;
  lastLsn: bigint;
}

/** Rows of one table that count. */
export interface LsnSource {
  client: SqlClient;
  table: string;
  /** Condition on the rows. */
  filter: string;
}

/** What is compared of a bucket: number and sum of its different LSNs, the sum modulo 2^64. */
interface Bucket {
  rows: number;
  sum: bigint;
}

const BUCKET_ROWS = 65_536n;

/**
 * Compares the rows of `source` that lie in [firstLsn, endLsn) with `runs` (ascending, joined); a null source
 * has no rows. Throws ServerError.
 */
export async function findDifferences(
  source: LsnSource | null,
  runs: readonly LsnRun[],
  firstLsn: bigint,
  endLsn: bigint,
): Promise<{ missing: LsnRange[]; foreign: LsnRange[] }> {
  if (source === null) return { missing: runs.map(rangeOf), foreign: [] };
  const expected = expectedBuckets(runs);
  const found = await foundBuckets(source, firstLsn);
  const differing = [...new Set([...expected.keys(), ...found.keys()])]
    .filter((bucket) => !sameBucket(expected.get(bucket), found.get(bucket)))
    .sort((a, b) => (a < b ? -1 : 1));
  const missing: LsnRange[] = [];
  const foreign: LsnRange[] = [];
  for (const bucket of differing) {
    const from = bucket * BUCKET_ROWS > firstLsn ? bucket * BUCKET_ROWS : firstLsn;
    const to = (bucket + 1n) * BUCKET_ROWS < endLsn ? (bucket + 1n) * BUCKET_ROWS : endLsn;
    const there = found.has(bucket) ? await lsnsOf(source, from, to) : [];
    const wanted = lsnsWithin(runs, from, to);
    addMissingFrom(wanted, new Set(there), missing);
    addMissingFrom(there, new Set(wanted), foreign);
  }
  return { missing, foreign };
}

function rangeOf({ firstLsn, rowCount }: LsnRun): LsnRange {
  return { firstLsn, lastLsn: firstLsn + BigInt(rowCount) - 1n };
}

function sameBucket(a: Bucket | undefined, b: Bucket | undefined): boolean {
  return a?.rows === b?.rows && a?.sum === b?.sum;
}

function expectedBuckets(runs: readonly LsnRun[]): Map<bigint, Bucket> {
  const buckets = new Map<bigint, Bucket>();
  for (const { firstLsn, rowCount } of runs) {
    const end = firstLsn + BigInt(rowCount);
    for (let at = firstLsn; at < end; ) {
      const number = at / BUCKET_ROWS;
      const next = (number + 1n) * BUCKET_ROWS < end ? (number + 1n) * BUCKET_ROWS : end;
      const { rows, sum } = buckets.get(number) ?? { rows: 0, sum: 0n };
      const sumHere = ((at + next - 1n) * (next - at)) / 2n;
      buckets.set(number, { rows: rows + Number(next - at), sum: BigInt.asUintN(64, sum + sumHere) });
      at = next;
    }
  }
  return buckets;
}

async function foundBuckets(
  { client, table, filter }: LsnSource,
  firstLsn: bigint,
): Promise<Map<bigint, Bucket>> {
  const rows = await client.query<{ bucket: string; rows: string; total: string }>(
    `SELECT intDiv(wal_lsn, ${BUCKET_ROWS}) AS bucket, count() AS rows, sum(wal_lsn) AS total
     FROM (SELECT DISTINCT wal_lsn FROM ${table} WHERE ${filter} AND wal_lsn >= ${firstLsn}) GROUP BY bucket`,
  );
  return new Map(rows.map((row) => [BigInt(row.bucket), { rows: Number(row.rows), sum: BigInt(row.total) }]));
}

async function lsnsOf({ client, table, filter }: LsnSource, from: bigint, to: bigint): Promise<bigint[]> {
  const rows = await client.query<{ lsn: string }>(
    `SELECT DISTINCT wal_lsn AS lsn FROM ${table}
     WHERE ${filter} AND wal_lsn >= ${from} AND wal_lsn < ${to} ORDER BY lsn`,
  );
  return rows.map((row) => BigInt(row.lsn));
}

function lsnsWithin(runs: readonly LsnRun[], from: bigint, to: bigint): bigint[] {
  const result: bigint[] = [];
  for (const { firstLsn, rowCount } of runs) {
    const end = firstLsn + BigInt(rowCount);
    for (let lsn = firstLsn > from ? firstLsn : from; lsn < end && lsn < to; lsn++) result.push(lsn);
  }
  return result;
}

/** Adds to `ranges` what `lsns` (ascending) has and `other` has not; joins neighbours. */
function addMissingFrom(lsns: readonly bigint[], other: ReadonlySet<bigint>, ranges: LsnRange[]): void {
  for (const lsn of lsns) {
    if (other.has(lsn)) continue;
    const last = ranges.at(-1);
    if (last !== undefined && last.lastLsn + 1n === lsn) last.lastLsn = lsn;
    else ranges.push({ firstLsn: lsn, lastLsn: lsn });
  }
}
