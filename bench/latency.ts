// latency/ack/<sync>/<rate>/<percentile>: µs from the moment a row was due to its acknowledgement at the
// producer, at a steady rate (open loop), one session. Held against a bare loop of 4 KiB write and fdatasync
// on the same disk, run before and after; with sync `none` against 100 µs, the target. Ratio: times that.
//
// latency/bare/1k/<percentile>: µs of the same bare loop at a thousand a second, against itself without
// pauses: what the machine adds when it has slept in between, and nothing of the recorder's.
//
// latency/visible/<rate>/<percentile>: ms from due to the first SELECT count() that has the row, embedded
// ClickHouse, default settings; held against HFT_FLUSH_INTERVAL_MS, for which a group waits.

import { join } from 'node:path';
import { type RecorderProcess, sqlValue } from '../test/support/recorder-process.ts';
import type { PacedOptions, PacedResult } from './programs/paced-sender.ts';
import type { BenchOptions, BenchResult, BenchSuite } from './suite.ts';
import { waitForRows } from './support/delivery.ts';
import { type FrameFile, inputFile } from './support/inputs.ts';
import { type Percentiles, type Step, stepLatencies } from './support/latency-steps.ts';
import { monotonicNs } from './support/posix.ts';
import { sendTogether, startProgram } from './support/programs.ts';
import { startServe, stopServe, temporaryHome } from './support/recorder.ts';
import { startServer } from './support/servers.ts';

const RATES = { '1k': 1e3, '10k': 1e4, '100k': 1e5, '1M': 1e6 } as const;
type RateName = keyof typeof RATES;
const QUICK_RATES: readonly RateName[] = ['1k', '100k'];
const NONE_TARGET_NS = 100_000;
const FLUSH_INTERVAL_NS = 500e6;
const DISTINCT_FRAMES = 8192;
const WARM_UP_ROWS = 300_000;
const TABLE = 'hft.market_data';

const names: Record<keyof Percentiles, string> = { p50: 'p50', p99: 'p99', p999: 'p99.9' };

function resultsOf(
  name: string,
  unit: 'µs' | 'ms',
  measured: Percentiles,
  baseline: Percentiles,
): BenchResult[] {
  const nsPerUnit = unit === 'µs' ? 1e3 : 1e6;
  return (Object.keys(names) as (keyof Percentiles)[]).map((key) => ({
    name: `${name}/${names[key]}`,
    value: measured[key] / nsPerUnit,
    unit,
    baseline: baseline[key] / nsPerUnit,
    ratio: measured[key] / baseline[key],
  }));
}

const constant = (ns: number): Percentiles => ({ p50: ns, p99: ns, p999: ns });

async function bareSync(dir: string, seconds: number, ...perSecond: string[]): Promise<Percentiles> {
  const program = await startProgram('bare-sync.ts', join(dir, 'bare-sync'), String(seconds), ...perSecond);
  program.go();
  const percentiles = JSON.parse(await program.line()) as Percentiles;
  await program.end();
  return percentiles;
}

const meanOf = (a: Percentiles, b: Percentiles): Percentiles => ({
  p50: (a.p50 + b.p50) / 2,
  p99: (a.p99 + b.p99) / 2,
  p999: (a.p999 + b.p999) / 2,
});

/** How long is sent at a rate, and how much of it is warm-up. */
const secondsOf = (quick: boolean) => (quick ? { warmUp: 0.5, all: 2.5 } : { warmUp: 4, all: 14 });

/** Sends at a rate and waits until all is acknowledged. */
async function sendPaced(
  recorder: RecorderProcess,
  input: FrameFile,
  rate: RateName,
  { quick }: BenchOptions,
): Promise<{ result: PacedResult; options: PacedOptions }> {
  const rowsPerSecond = RATES[rate];
  const { warmUp, all } = secondsOf(quick);
  const options: PacedOptions = {
    socket: recorder.socket,
    framesPath: input.path,
    session: `paced-${rate}`,
    rowsPerSecond,
    rows: rowsPerSecond * all,
    warmUpRows: rowsPerSecond * warmUp,
  };
  const sender = await startProgram('paced-sender.ts', JSON.stringify(options));
  sender.go();
  const result = JSON.parse(await sender.line()) as PacedResult;
  await sender.end();
  return { result, options };
}

async function warmUp({ socket }: RecorderProcess, input: FrameFile): Promise<number> {
  await sendTogether([{ socket, framesPath: input.path, frames: WARM_UP_ROWS, session: 'warm-up' }]);
  return WARM_UP_ROWS;
}

/** The bare loop at a thousand a second, against the one without pauses. */
async function* measureBare({ quick }: BenchOptions): ReturnType<BenchSuite> {
  using home = temporaryHome();
  const seconds = quick ? 1 : 8;
  const steady = await bareSync(home.path, seconds);
  const paced = await bareSync(home.path, seconds, String(RATES['1k']));
  yield* resultsOf('latency/bare/1k', 'µs', paced, steady);
}

/** Latency to the acknowledgement, each rate between two bare loops. */
async function* measureAcks(
  sync: 'group' | 'none',
  rates: readonly RateName[],
  options: BenchOptions,
): ReturnType<BenchSuite> {
  using home = temporaryHome();
  const input = await inputFile(home.path, 'ticks', DISTINCT_FRAMES);
  const recorder = await startServe(home.path, { HFT_WAL_SYNC: sync });
  let rows = await warmUp(recorder, input);
  const bareSeconds = options.quick ? 1 : 4;
  for (const rate of rates) {
    const before = sync === 'none' ? constant(NONE_TARGET_NS) : await bareSync(home.path, bareSeconds);
    const paced = await sendPaced(recorder, input, rate, options);
    const after = sync === 'none' ? before : await bareSync(home.path, bareSeconds);
    rows += paced.options.rows;
    yield* resultsOf(`latency/ack/${sync}/${rate}`, 'µs', paced.result.latency, meanOf(before, after));
  }
  await stopServe(recorder, rows);
}

/** Asks for the number of rows until `rows` are there: a step for each answer that has more. */
async function watchCount(url: string, before: number, rows: number): Promise<Step[]> {
  const steps: Step[] = [];
  for (let count = 0; count < rows; ) {
    const answer = Number(await sqlValue(url, `SELECT count() FROM ${TABLE}`)) - before;
    if (answer > count) steps.push({ timeNs: monotonicNs(), rows: answer });
    count = Math.max(count, answer);
    await Bun.sleep(5);
  }
  return steps;
}

async function* measureVisible(
  rates: readonly RateName[],
  benchOptions: BenchOptions,
): ReturnType<BenchSuite> {
  using home = temporaryHome();
  const input = await inputFile(home.path, 'ticks', DISTINCT_FRAMES);
  const server = (await startServer('embedded'))!;
  try {
    const recorder = await startServe(home.path, {
      HFT_RECORDER_MODE: 'direct',
      HFT_CLICKHOUSE_HOST: '127.0.0.1',
      HFT_CLICKHOUSE_PORT: new URL(server.url).port,
    });
    let sent = await warmUp(recorder, input);
    await waitForRows(server.url, TABLE, sent);
    for (const rate of rates) {
      const paced = sendPaced(recorder, input, rate, benchOptions);
      const rows = RATES[rate] * secondsOf(benchOptions.quick).all;
      const steps = await watchCount(server.url, sent, rows);
      const { result, options } = await paced;
      sent += options.rows;
      const { rowsPerSecond, warmUpRows } = options;
      const schedule = { startNs: result.startNs, rowsPerSecond, firstRow: warmUpRows, endRow: options.rows };
      const name = `latency/visible/${rate}`;
      yield* resultsOf(name, 'ms', stepLatencies(steps, schedule), constant(FLUSH_INTERVAL_NS));
    }
    await stopServe(recorder, sent);
  } finally {
    await server.stop();
  }
}

export async function* latencySuite(...[options, wanted]: Parameters<BenchSuite>): ReturnType<BenchSuite> {
  const ratesFor = (stage: string) =>
    (Object.keys(RATES) as RateName[]).filter(
      (rate) => wanted(`latency/${stage}/${rate}/p50`) && (!options.quick || QUICK_RATES.includes(rate)),
    );
  if (wanted('latency/bare/1k/p50')) yield* measureBare(options);
  for (const sync of ['group', 'none'] as const) {
    const rates = ratesFor(`ack/${sync}`);
    if (rates.length > 0) yield* measureAcks(sync, rates, options);
  }
  const visible = ratesFor('visible');
  if (visible.length > 0) yield* measureVisible(visible, options);
}
