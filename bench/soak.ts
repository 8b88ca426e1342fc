// soak/…: a recorder that delivers to an embedded ClickHouse for many minutes, all topics, at a steady
// rate, with a new connection each minute. Only on request: `bench -- soak --minutes 30`.
//
//   soak/resident      resident memory at the end, MB, against the mean of the second fifth of the time
//   soak/resident-slope  growth of the resident memory over the last four fifths, MB an hour (least squares),
//                      against the resident memory at the end
//   soak/ack-p99       ms from due to acknowledged, last minute, against the first full minute
//
// At the end `recorder reconcile` must find nothing lost and nothing doubled.

import { type RecorderProcess, reconcile } from '../test/support/recorder-process.ts';
import type { PacedOptions, PacedResult } from './programs/paced-sender.ts';
import type { BenchResult, BenchSuite } from './suite.ts';
import { type FrameFile, inputFile } from './support/inputs.ts';
import { residentBytes } from './support/proc.ts';
import { startProgram } from './support/programs.ts';
import { startServe, stopServe, temporaryHome } from './support/recorder.ts';
import { startServer } from './support/servers.ts';

const ROWS_PER_SECOND = 20_000;
const DISTINCT_FRAMES = 100_000;
const SECONDS = 60;
const SAMPLE_MS = 2000;

interface Sample {
  minutes: number;
  residentMb: number;
}

async function sendMinute(recorder: RecorderProcess, input: FrameFile, minute: number): Promise<PacedResult> {
  const options: PacedOptions = {
    socket: recorder.socket,
    framesPath: input.path,
    session: `minute-${minute}`,
    rowsPerSecond: ROWS_PER_SECOND,
    rows: ROWS_PER_SECOND * SECONDS,
    warmUpRows: ROWS_PER_SECOND,
  };
  const sender = await startProgram('paced-sender.ts', JSON.stringify(options));
  sender.go();
  const result = JSON.parse(await sender.line()) as PacedResult;
  await sender.end();
  return result;
}

/** Slope of the least-squares line, MB an hour. */
export function slopePerHour(samples: readonly Sample[]): number {
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [x, y] = [mean(samples.map((s) => s.minutes)), mean(samples.map((s) => s.residentMb))];
  const covariance = mean(samples.map((s) => (s.minutes - x) * (s.residentMb - y)));
  return (covariance / mean(samples.map((s) => (s.minutes - x) ** 2))) * 60;
}

function resultsOf(samples: readonly Sample[], minutes: readonly PacedResult[]): BenchResult[] {
  const end = samples.at(-1)!;
  const settled = samples.filter((sample) => sample.minutes > end.minutes / 5);
  const second = settled.filter((sample) => sample.minutes < (end.minutes * 2) / 5);
  const baseline = second.reduce((sum, { residentMb }) => sum + residentMb, 0) / second.length;
  const slope = slopePerHour(settled);
  const [p99, firstP99] = [minutes.at(-1)!, minutes[1] ?? minutes[0]!].map(
    ({ latency }) => latency.p99 / 1e6,
  );
  return [
    { name: 'soak/resident', value: end.residentMb, unit: 'MB', baseline, ratio: end.residentMb / baseline },
    {
      name: 'soak/resident-slope',
      value: slope,
      unit: 'MB/h',
      baseline: end.residentMb,
      ratio: slope / end.residentMb,
    },
    { name: 'soak/ack-p99', value: p99!, unit: 'ms', baseline: firstP99!, ratio: p99! / firstP99! },
  ];
}

export async function* soakSuite(...[options, wanted]: Parameters<BenchSuite>): ReturnType<BenchSuite> {
  if (!wanted('soak')) return;
  using home = temporaryHome();
  const input = await inputFile(home.path, 'all', DISTINCT_FRAMES);
  const server = (await startServer('embedded'))!;
  try {
    const port = new URL(server.url).port;
    const recorder = await startServe(home.path, {
      HFT_RECORDER_MODE: 'direct',
      HFT_CLICKHOUSE_HOST: '127.0.0.1',
      HFT_CLICKHOUSE_PORT: port,
    });
    const samples: Sample[] = [];
    const startMs = performance.now();
    const sampling = setInterval(() => {
      const minutes = (performance.now() - startMs) / 60_000;
      samples.push({ minutes, residentMb: residentBytes(recorder.pid).now / 1e6 });
    }, SAMPLE_MS);
    const minutes: PacedResult[] = [];
    for (let i = 0; i < options.minutes; i++) minutes.push(await sendMinute(recorder, input, i));
    clearInterval(sampling);
    await stopServe(recorder, options.minutes * ROWS_PER_SECOND * SECONDS);
    const places = ['--clickhouse-host', '127.0.0.1', '--clickhouse-port', port];
    const { json, errors } = await reconcile(recorder.walDir, ...places);
    if (!json.matches || json.lost !== 0 || json.duplicated !== 0) {
      throw new Error(`reconcile: ${JSON.stringify(json)} ${errors}`);
    }
    yield* resultsOf(samples, minutes);
  } finally {
    await server.stop();
  }
}
