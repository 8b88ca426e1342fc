// The values of one moment, from the metrics themselves: what the page shows is what /metrics says. Pure.

import type { Sample } from '../metrics.ts';
import type { MetricValues } from './live.ts';

/** Cumulative counts of a histogram, summed over its labels: bound in seconds (last: +Inf) → observations. */
export interface Buckets {
  bounds: readonly number[];
  counts: readonly number[];
}

/** One value of a histogram as prom-client gives it. */
export interface HistogramValue {
  metricName?: string;
  labels: Partial<Record<string, string | number>>;
  value: number;
}

/** Values of the scraped metrics. Samples of the same name and labels are added up. */
export function valuesOf(samples: Iterable<Sample>): MetricValues {
  const values: MetricValues = {};
  for (const { name, labels, value } of samples) {
    const key = labels === undefined ? '' : Object.values(labels).join('/');
    values[name] ??= {};
    values[name][key] = (values[name][key] ?? 0) + value;
  }
  return values;
}

/** Buckets of a histogram's values, all label values together. */
export function bucketsOf(values: readonly HistogramValue[]): Buckets {
  const counts = new Map<number, number>();
  for (const { metricName, labels, value } of values) {
    if (metricName?.endsWith('_bucket') !== true) continue;
    const le = labels['le'];
    const bound = le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le);
    counts.set(bound, (counts.get(bound) ?? 0) + value);
  }
  const bounds = [...counts.keys()].sort((a, b) => a - b);
  return { bounds, counts: bounds.map((bound) => counts.get(bound)!) };
}

/** Sum of all values of a metric; 0 where it has none. */
export function totalOf(values: MetricValues, name: string): number {
  return Object.values(values[name] ?? {}).reduce((sum, value) => sum + value, 0);
}

/** Greatest value of a metric; null where it has none. */
export function greatestOf(values: MetricValues, name: string): number | null {
  const all = Object.values(values[name] ?? {});
  return all.length === 0 ? null : Math.max(...all);
}

/**
 * The value below which a share of the observations between two moments lies, in seconds: by linear
 * interpolation within its bucket, as Prometheus's histogram_quantile does. Above the last finite bound it is
 * that bound. Null when nothing was observed.
 */
export function quantileBetween(before: Buckets | null, after: Buckets, share: number): number | null {
  const added = after.counts.map((count, i) => count - (before?.counts[i] ?? 0));
  const total = added.at(-1) ?? 0;
  if (total <= 0) return null;
  const wanted = share * total;
  const index = added.findIndex((count) => count >= wanted);
  const upper = after.bounds[index]!;
  const lower = index === 0 ? 0 : after.bounds[index - 1]!;
  if (!Number.isFinite(upper)) return lower;
  const below = index === 0 ? 0 : added[index - 1]!;
  return lower + ((upper - lower) * (wanted - below)) / (added[index]! - below);
}
