// `bun run bench [-- --json] [--quick] [--report] [NAME-PREFIX…]`: runs the benchmarks of all stages. Text
// for people; with --json the last line is one JSON list of {name, value, unit, baseline, ratio}; with
// --report the results are put among the committed ones and the report is drawn anew (report/write.ts). The
// prefix `none` runs nothing: only draws.
//
// Those that take long run only when they are asked for: `growth` (--backlog 1,4,16: GB) and `soak`
// (--minutes 30).

import { parseArgs } from 'node:util';
import { extractSuite } from './extract.ts';
import { flushSuite } from './flush.ts';
import { growthSuite } from './growth.ts';
import { idleSuite } from './idle.ts';
import { ingestSuite } from './ingest.ts';
import { latencySuite } from './latency.ts';
import { pathSuite } from './path.ts';
import { replaySuite } from './replay.ts';
import { writeReport } from './report/write.ts';
import { soakSuite } from './soak.ts';
import type { BenchOptions, BenchResult, BenchSuite } from './suite.ts';
import { udpSuite } from './udp.ts';

const suites: readonly BenchSuite[] = [
  extractSuite,
  ingestSuite,
  flushSuite,
  replaySuite,
  pathSuite,
  latencySuite,
  udpSuite,
  idleSuite,
  growthSuite,
  soakSuite,
];
const ON_REQUEST = ['growth', 'soak'];

/** Four significant digits: more is noise. */
const round = (value: number) => Number(value.toPrecision(4));

const { values, positionals } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    report: { type: 'boolean', default: false },
    backlog: { type: 'string', default: '1' },
    minutes: { type: 'string', default: '30' },
  },
  allowPositionals: true,
});
const options: BenchOptions = {
  quick: values.quick,
  backlogGb: values.backlog.split(',').map(Number),
  minutes: Number(values.minutes),
};
const wanted = (name: string) =>
  positionals.length === 0
    ? !ON_REQUEST.some((stage) => name.startsWith(stage))
    : positionals.some((prefix) => name.startsWith(prefix));

const results: BenchResult[] = [];
let failures = 0;
for (const suite of suites) {
  try {
    for await (const result of suite(options, wanted)) {
      const { value, unit, baseline, ratio } = result;
      const rounded = { ...result, value: round(value), baseline: round(baseline), ratio: round(ratio) };
      results.push(rounded);
      const held = `baseline ${rounded.baseline} ${unit}, ratio ${rounded.ratio}`;
      process.stdout.write(`${result.name.padEnd(46)} ${rounded.value} ${unit}, ${held}\n`);
    }
  } catch (error) {
    // The other stages' figures are worth having all the same.
    failures++;
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : error}\n`);
  }
}
if (values.report) process.stdout.write(`written: ${writeReport(results).join(', ')}\n`);
if (values.json) process.stdout.write(`${JSON.stringify(results)}\n`);
process.exit(failures === 0 ? 0 : 1);
