// The only place that reads the clock for timestamps. Bun has no nanosecond wall clock, so the wall clock
// (milliseconds) is read once and the monotonic clock is added to it; re-anchored so that steps and drift of the
// wall clock are followed.

const REANCHOR_INTERVAL_NS = 1_000_000_000;

let anchorWallMs = 0;
let anchorMonotonicNs = Number.NEGATIVE_INFINITY;

/** A moment as two 32-bit words of nanoseconds since 1970; reused by its owner, so that reading allocates nothing. */
export interface Timestamp {
  low: number;
  high: number;
}

/** Reads the wall clock into `target`, ns since 1970. */
export function readClock(target: Timestamp): void {
  const monotonicNs = Bun.nanoseconds();
  if (monotonicNs - anchorMonotonicNs > REANCHOR_INTERVAL_NS) {
    anchorWallMs = Date.now();
    anchorMonotonicNs = monotonicNs;
  }
  const sinceNs = monotonicNs - anchorMonotonicNs;
  const ms = anchorWallMs + Math.floor(sinceNs / 1e6);
  const restNs = sinceNs % 1e6;
  // ms * 1e6 exceeds 2^53: multiply in two halves of 2^32.
  const msLow = ms % 0x1000;
  const msHigh = (ms - msLow) / 0x1000;
  const lowPart = msLow * 1e6 + restNs;
  const highPart = msHigh * 1e6;
  const carry = (highPart % 0x100000) * 0x1000 + lowPart;
  target.low = carry % 0x1_0000_0000 >>> 0;
  target.high = Math.floor(highPart / 0x100000) + Math.floor(carry / 0x1_0000_0000);
}

/** The wall clock as a bigint, ns since 1970; for everything that is not on the hot path. */
export function nowNs(): bigint {
  const timestamp = { low: 0, high: 0 };
  readClock(timestamp);
  return (BigInt(timestamp.high) << 32n) | BigInt(timestamp.low);
}
