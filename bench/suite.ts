// What every benchmark file gives to bench/main.ts, and how a function is timed.

import { measure } from 'mitata';

export interface BenchOptions {
  /** A short run that only shows that the benchmark works. */
  quick: boolean;
  /** Sizes of the backlogs of `growth/backlog`, GB. */
  backlogGb: readonly number[];
  /** How long `soak` runs. */
  minutes: number;
}

/** One line of the report; names begin with the stage: 'extract/market_data'. */
export interface BenchResult {
  name: string;
  value: number;
  unit: string;
  /** What the value is held against, in the same unit. */
  baseline: number;
  /** How many times better than the baseline, or the share of a limit; the benchmark's file says which. */
  ratio: number;
}

/** Runs the benchmarks of one stage whose names pass the filter, and gives each result when it is there. */
export type BenchSuite = (
  options: BenchOptions,
  wanted: (name: string) => boolean,
) => AsyncGenerator<BenchResult, void>;

/** The compiler works in threads of its own, which a busy machine keeps waiting. */
const COMPILE_MS = 100;

/**
 * Median time of one call in nanoseconds, measured by mitata. `run` should take 10 µs or more, so that the
 * clock's resolution does not matter. It is called `warmUpCalls` times before: compiled code, not the
 * interpreter, is what runs for hours.
 */
export async function medianNs(run: () => unknown, quick: boolean, warmUpCalls: number): Promise<number> {
  for (let part = 0; part < 2; part++) {
    for (let i = 0; i < warmUpCalls / 2; i++) run();
    await Bun.sleep(COMPILE_MS);
  }
  const stats = await measure(run, {
    min_cpu_time: quick ? 50e6 : 700e6,
    min_samples: quick ? 5 : 50,
    batch_threshold: 0,
    gc: false,
  });
  return stats.p50;
}
