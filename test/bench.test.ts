// The benchmarks as a program: what they print, and that the committed report is what its figures give. No
// timing is asserted.

import { expect, test } from 'bun:test';
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { mergeResults } from '../bench/report/figures.ts';
import { committedFigures, reportFiles } from '../bench/report/write.ts';
import { slopePerHour } from '../bench/soak.ts';
import type { BenchResult } from '../bench/suite.ts';
import { percentilesOf, stepLatencies } from '../bench/support/latency-steps.ts';
import { targets } from '../bench/targets.ts';

const root = resolve(import.meta.dir, '..');
/** Cheap ones: neither a recorder nor a server is started. */
const PREFIXES = ['extract/latency_spans', 'extract/gaps'];

/** The unit of a result follows from its name. */
const UNITS: readonly [RegExp, string][] = [
  [/\/heap$/, 'MB/million rows'],
  [/^extract\//, 'ns/frame'],
  [/-cpu$|\/cpu$|\/main-thread$/, 'ns/row'],
  [/\/resident$/, 'MB'],
  [/^latency\/(ack|bare)\//, 'µs'],
  [/^latency\/visible\//, 'ms'],
  [/loss-at-full-rate$/, '%'],
  [/^udp\//, 'datagrams/s'],
  [/^start\/|^growth\/backlog\/.*\/start$|^soak\/ack-p99$/, 'ms'],
  [/^growth\/(levels|frame-bytes)\//, 'MB/s'],
  [/^soak\/resident-slope$/, 'MB/h'],
];

const unitOf = (name: string) =>
  name === 'idle/cpu' ? '%' : (UNITS.find(([pattern]) => pattern.test(name))?.[1] ?? 'rows/s');

test('the benchmark runs, checks its paths against each other, and prints one JSON list', async () => {
  const main = resolve(root, 'bench/main.ts');
  const command = [process.execPath, main, '--quick', '--json', ...PREFIXES];
  const run = Bun.spawn(command, { stderr: 'inherit' });
  const output = await new Response(run.stdout).text();
  expect(await run.exited).toBe(0);
  const results = JSON.parse(output.trimEnd().split('\n').at(-1)!) as Record<string, unknown>[];
  expect(results.map(({ name }) => name)).toEqual(['extract/gaps', 'extract/latency_spans']);
  for (const result of results) {
    expect(result).toEqual({
      name: expect.any(String),
      value: expect.any(Number),
      unit: 'ns/frame',
      baseline: expect.any(Number),
      ratio: expect.any(Number),
    });
  }
}, 60_000);

test('the committed report is what the committed figures draw', () => {
  const figures = committedFigures()!;
  const files = reportFiles(figures);
  expect([...files.keys()]).toContain('docs/images/throughput.svg');
  for (const [path, text] of files) {
    expect(existsSync(resolve(root, path))).toBeTrue();
    expect(readFileSync(resolve(root, path), 'utf8')).toBe(text);
  }
});

test('the committed figures have a stage in their names, one unit for each kind, and numbers', () => {
  const { results } = committedFigures()!;
  expect(new Set(results.map(({ name }) => name)).size).toBe(results.length);
  for (const { name, unit, value, baseline, ratio } of results) {
    expect(name).toMatch(/^(extract|ingest|flush|replay|path|latency|udp|start|idle|growth|soak)\//);
    expect(`${name} ${unit}`).toBe(`${name} ${unitOf(name)}`);
    for (const number of [value, baseline, ratio]) expect(Number.isFinite(number)).toBeTrue();
  }
  const names = new Set(results.map(({ name }) => name));
  expect(targets.map(({ name }) => name).filter((name) => !names.has(name))).toEqual([]);
});

test('a later result takes the place of the earlier one with its name', () => {
  const result = (name: string, value: number): BenchResult => ({
    name,
    value,
    unit: 'ms',
    baseline: 1,
    ratio: value,
  });
  const merged = mergeResults([result('a', 1), result('b', 2)], [result('b', 3), result('c', 4)]);
  expect(merged.map(({ name, value }) => [name, value])).toEqual([
    ['a', 1],
    ['b', 3],
    ['c', 4],
  ]);
});

test('a row that was held up counts from when it was due', () => {
  // Ten rows a second; the answers come at 1.0 s for the first five, at 2.0 s for the rest.
  const steps = [
    { timeNs: 1e9, rows: 5 },
    { timeNs: 2e9, rows: 10 },
  ];
  const schedule = { startNs: 0, rowsPerSecond: 10, firstRow: 0, endRow: 10 };
  const expected = [1.0, 0.9, 0.8, 0.7, 0.6, 1.5, 1.4, 1.3, 1.2, 1.1].map((seconds) => seconds * 1e9);
  expect(stepLatencies(steps, schedule)).toEqual(percentilesOf(expected.sort((a, b) => a - b)));
  expect(() => stepLatencies(steps, { ...schedule, endRow: 11 })).toThrow('never got through');
});

test('growth of memory is the slope over time', () => {
  const samples = Array.from({ length: 30 }, (_, i) => ({ minutes: i, residentMb: 100 + i * 2 }));
  expect(slopePerHour(samples)).toBeCloseTo(120);
});
