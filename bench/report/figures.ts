// The committed figures of a run, and how numbers are written.

import type { BenchResult } from '../suite.ts';

/** bench/results.json: the results of the last full run, by name, and what they were measured on. */
export interface Figures {
  machine: string;
  measuredAt: string;
  results: BenchResult[];
}

export type Find = (name: string) => BenchResult | undefined;

/** Looks results up by name. */
export function finder({ results }: Figures): Find {
  const byName = new Map(results.map((result) => [result.name, result]));
  return (name) => byName.get(name);
}

/** Later results take the place of earlier ones with the same name; new names go to the end. */
export function mergeResults(before: readonly BenchResult[], now: readonly BenchResult[]): BenchResult[] {
  const merged = new Map(before.map((result) => [result.name, result]));
  for (const result of now) merged.set(result.name, result);
  return [...merged.values()];
}

const scales: readonly [number, string][] = [
  [1e9, ' G'],
  [1e6, ' M'],
  [1e3, ' k'],
];

/** Three digits: 3.14 M, 240 k, 12.5. */
export function shortNumber(value: number): string {
  if (!Number.isFinite(value)) return '–';
  for (const [factor, letter] of scales) {
    if (Math.abs(value) >= factor * 0.9995) return `${digits(value / factor)}${letter}`;
  }
  return digits(value);
}

function digits(value: number): string {
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  return String(Number(value.toPrecision(size >= 10 ? 3 : 2)));
}

/** A value with its unit: `3.1 M rows/s`, `0.43 ms`. */
export function withUnit(value: number, unit: string): string {
  if (unit.startsWith('ns/') && value >= 1000) return `${digits(value / 1000)} ${unit.replace('ns', 'µs')}`;
  if (unit === 'µs' && value >= 1000) return `${digits(value / 1000)} ms`;
  if (unit === 'ms' && value >= 1000) return `${digits(value / 1000)} s`;
  if (unit === '%') return `${digits(value)} %`;
  return `${shortNumber(value)} ${unit}`.replace(/ ([kMG]) rows/, ' $1 rows');
}
