// Rows that the WAL has lost and whose loss an operator has accepted, as reconciliation meets them.

import type { LsnRange } from './lsn-difference.ts';

/** Number of LSNs in ranges that do not overlap. */
export function rowsOf(ranges: readonly LsnRange[]): number {
  return ranges.reduce((sum, { firstLsn, lastLsn }) => sum + Number(lastLsn - firstLsn) + 1, 0);
}

/** Parts of `ranges` below `lsn`, and from it on. */
export function splitRanges(ranges: readonly LsnRange[], lsn: bigint): [LsnRange[], LsnRange[]] {
  const below: LsnRange[] = [];
  const above: LsnRange[] = [];
  for (const { firstLsn, lastLsn } of ranges) {
    if (firstLsn < lsn) below.push({ firstLsn, lastLsn: lastLsn < lsn ? lastLsn : lsn - 1n });
    if (lastLsn >= lsn) above.push({ firstLsn: firstLsn < lsn ? lsn : firstLsn, lastLsn });
  }
  return [below, above];
}

/** Parts of `ranges` within `others`, and outside of all of them. */
export function splitByRanges(
  ranges: readonly LsnRange[],
  others: readonly LsnRange[],
): [LsnRange[], LsnRange[]] {
  const within: LsnRange[] = [];
  let outside = [...ranges];
  for (const { firstLsn, lastLsn } of others) {
    const [below, from] = splitRanges(outside, firstLsn);
    const [inside, above] = splitRanges(from, lastLsn + 1n);
    within.push(...inside);
    outside = [...below, ...above];
  }
  return [within, outside];
}
