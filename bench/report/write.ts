// Writes the report: results of this run are put among the committed ones (bench/results.json), and the page
// (docs/benchmark.html) and the images (docs/images/) are drawn from all of them.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join, relative, resolve } from 'node:path';
import type { BenchResult } from '../suite.ts';
import { charts } from './charts.ts';
import { type Figures, mergeResults } from './figures.ts';
import { reportPage } from './page.ts';

const ROOT = resolve(import.meta.dir, '../..');
const RESULTS = join(ROOT, 'bench/results.json');
const PAGE = join(ROOT, 'docs/benchmark.html');
const IMAGES = join(ROOT, 'docs/images');

/** The files of a report by their path from the root, as they must be for these figures. */
export function reportFiles(figures: Figures): Map<string, string> {
  const drawn = charts(figures);
  const files = new Map([[relative(ROOT, PAGE), reportPage(figures, drawn)]]);
  for (const [name, svg] of drawn) files.set(relative(ROOT, join(IMAGES, `${name}.svg`)), svg);
  return files;
}

/** The committed figures; none before the first report. */
export function committedFigures(): Figures | null {
  return existsSync(RESULTS) ? (JSON.parse(readFileSync(RESULTS, 'utf8')) as Figures) : null;
}

function machine(): string {
  const gib = Math.round(totalmem() / 2 ** 30);
  const processor = cpus()[0]?.model.trim() ?? 'unknown processor';
  return `${cpus().length} cores (${processor}), ${gib} GiB, Linux ${release()}, Bun ${Bun.version}`;
}

/** Takes the results in and writes all files; returns their paths from the root. */
export function writeReport(results: readonly BenchResult[]): string[] {
  const before = committedFigures()?.results ?? [];
  const measuredAt = new Date().toISOString().slice(0, 10);
  const figures: Figures = { machine: machine(), measuredAt, results: mergeResults(before, results) };
  // A line a result: a later run is a readable difference.
  const lines = figures.results.map((result) => `    ${JSON.stringify(result)}`).join(',\n');
  const { results: _, ...facts } = figures;
  const head = JSON.stringify(facts, null, 2).slice(0, -2);
  writeFileSync(RESULTS, `${head},\n  "results": [\n${lines}\n  ]\n}\n`);
  mkdirSync(IMAGES, { recursive: true });
  const files = reportFiles(figures);
  for (const [path, text] of files) writeFileSync(join(ROOT, path), text);
  return [relative(ROOT, RESULTS), ...files.keys()];
}
