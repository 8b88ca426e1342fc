// Latencies of rows that were due at a steady rate and became known to be safe, or visible, in steps.
//
// Row i was due at startNs + i / rate, whether or not the sender was held up then: what a slow moment delays
// counts for every row that it delayed (no coordinated omission).

import { percentile } from './statistics.ts';

/** From `timeNs` on, the first `rows` rows are through. Steps are in order of both. */
export interface Step {
  timeNs: number;
  rows: number;
}

export interface Schedule {
  startNs: number;
  rowsPerSecond: number;
  /** Rows before it are warm-up. */
  firstRow: number;
  /** Not included. */
  endRow: number;
}

export interface Percentiles {
  p50: number;
  p99: number;
  p999: number;
}

/** Percentiles of sorted values. */
export function percentilesOf(sorted: ArrayLike<number>): Percentiles {
  return { p50: percentile(sorted, 0.5), p99: percentile(sorted, 0.99), p999: percentile(sorted, 0.999) };
}

/** Percentiles of the rows' latencies, ns. Throws where the steps do not reach the last row. */
export function stepLatencies(steps: readonly Step[], schedule: Schedule): Percentiles {
  const { startNs, rowsPerSecond, firstRow, endRow } = schedule;
  const latencies = new Float64Array(endRow - firstRow);
  let step = 0;
  for (let row = firstRow; row < endRow; row++) {
    while (step < steps.length && steps[step]!.rows <= row) step++;
    if (step === steps.length) throw new Error(`row ${row} of ${endRow} never got through`);
    latencies[row - firstRow] = steps[step]!.timeNs - (startNs + (row / rowsPerSecond) * 1e9);
  }
  return percentilesOf(latencies.sort());
}
