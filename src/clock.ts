// The only place that reads the clock for timestamps. Bun has no nanosecond wall clock, so the wall clock
// (milliseconds) anchors the monotonic clock (nanoseconds).

/** How often the anchor is compared with the wall clock. */
const CHECK_INTERVAL_NS = 1_000_000_000;
/** A smaller difference is the wall clock's own resolution: following it would make time run backwards. */
const TOLERANCE_MS = 2;

const TWO_32 = 0x1_0000_0000;

let anchorWallMs = 0;
let anchorMonotonicNs = 0;
let nextCheckNs = Number.NEGATIVE_INFINITY;

/**
 * A moment as two 32-bit words of nanoseconds since 1970; reused by its owner, so that reading allocates
 * nothing.
 */
export interface Timestamp {
  low: number;
  high: number;
}

function followWallClock(monotonicNs: number): void {
  nextCheckNs = monotonicNs + CHECK_INTERVAL_NS;
  const wallMs = Date.now();
  const derivedMs = anchorWallMs + (monotonicNs - anchorMonotonicNs) / 1e6;
  if (Math.abs(wallMs - derivedMs) <= TOLERANCE_MS) return;
  anchorWallMs = wallMs;
  anchorMonotonicNs = monotonicNs;
}

/**
 * Reads the wall clock into `target`, ns since 1970. Runs backwards only when the system's clock is set
 * back; returns true when it has, since the time that `target` held before.
 */
export function readClock(target: Timestamp): boolean {
  const { low: lowBefore, high: highBefore } = target;
  const monotonicNs = Bun.nanoseconds();
  if (monotonicNs >= nextCheckNs) followWallClock(monotonicNs);
  const sinceNs = monotonicNs - anchorMonotonicNs;
  const restNs = sinceNs % 1e6;
  const ms = anchorWallMs + (sinceNs - restNs) / 1e6;
  // ms * 1e6 does not fit into 53 bits: ms = high * 2^12 + low is multiplied in two parts.
  const msLow = ms % 0x1000;
  const highPart = ((ms - msLow) / 0x1000) * 1e6;
  const low = (highPart % 0x10_0000) * 0x1000 + msLow * 1e6 + restNs;
  target.low = low % TWO_32;
  target.high = Math.floor(highPart / 0x10_0000) + Math.floor(low / TWO_32);
  return target.high < highBefore || (target.high === highBefore && target.low < lowBefore);
}

/** The wall clock as a bigint, ns since 1970; for everything that is not on the hot path. */
export function nowNs(): bigint {
  const timestamp = { low: 0, high: 0 };
  readClock(timestamp);
  return (BigInt(timestamp.high) << 32n) | BigInt(timestamp.low);
}
