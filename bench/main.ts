// `bun run bench [-- --json] [--quick] [NAME-PREFIX…]`: runs the benchmarks of all stages. Text for people;
// with --json the last line is one JSON list of {name, value, unit, baseline, ratio}.

import { parseArgs } from 'node:util';
import { extractSuite } from './extract.ts';
import { flushSuite } from './flush.ts';
import { idleSuite } from './idle.ts';
import { ingestSuite } from './ingest.ts';
import { latencySuite } from './latency.ts';
import { pathSuite } from './path.ts';
import { replaySuite } from './replay.ts';
import type { BenchResult, BenchSuite } from './suite.ts';
import { udpSuite } from './udp.ts';

const suites: BenchSuite[] = [
  extractSuite,
  ingestSuite,
  flushSuite,
  replaySuite,
  pathSuite,
  latencySuite,
  udpSuite,
  idleSuite,
];

/** Four significant digits: more is noise. */
const round = (value: number) => Number(value.toPrecision(4));

const { values, positionals } = parseArgs({
  options: { json: { type: 'boolean', default: false }, quick: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const wanted = (name: string) =>
  positionals.length === 0 || positionals.some((prefix) => name.startsWith(prefix));

const results: BenchResult[] = [];
for (const suite of suites) {
  for await (const result of suite({ quick: values.quick }, wanted)) {
    const { value, unit, baseline, ratio } = result;
    results.push({ ...result, value: round(value), baseline: round(baseline), ratio: round(ratio) });
    const numbers = `${round(value)} ${unit}, baseline ${round(baseline)} ${unit}, ratio ${round(ratio)}`;
    process.stdout.write(`${result.name.padEnd(32)} ${numbers}\n`);
  }
}
if (values.json) process.stdout.write(`${JSON.stringify(results)}\n`);
