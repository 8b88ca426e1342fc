// replay/<format>/embedded: rows a second of a backlog on disk into ClickHouse by `recorder load --once`, a
// process of its own, by its own clock. Limit: curl posting the same groups, as in flush.ts. Ratio: share of
// the limit. Medians of rounds that take turns.
//
//   …/resident    most resident memory of the loader, against the recorder's target

import type { InsertFormat } from '../src/sink/group-encoder.ts';
import { cleanEnvironment, recorderCommand } from '../test/support/recorder-process.ts';
import type { BenchResult, BenchSuite } from './suite.ts';
import {
  checkTable,
  DATABASE,
  FORMATS,
  freshTable,
  makeBacklog,
  openScene,
  prepareCurl,
  type Scene,
} from './support/flush-scene.ts';
import { forgetDelivery } from './support/prepared-wal.ts';
import { temporaryHome } from './support/recorder.ts';
import { startServer } from './support/servers.ts';
import { interleave, median } from './support/statistics.ts';

const RESIDENT_TARGET_MB = 150;

const nameOf = (format: InsertFormat) => `replay/${format}/embedded`;

/** How `recorder load --once` did. */
export interface LoadRun {
  seconds: number;
  residentBytes: number;
}

/** Delivers a WAL with the loader. */
export async function runLoader(walDir: string, url: string, format: InsertFormat): Promise<LoadRun> {
  forgetDelivery(walDir);
  const places = ['--wal-dir', walDir, '--clickhouse-host', '127.0.0.1'];
  const server = ['--clickhouse-port', new URL(url).port, '--clickhouse-database', DATABASE];
  const how = ['--clickhouse-format', format, '--once', '--json'];
  const child = Bun.spawn([...recorderCommand, 'load', ...places, ...server, ...how], {
    env: cleanEnvironment(),
    stderr: 'pipe',
  });
  const [output, errors] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  if ((await child.exited) !== 0) throw new Error(`load ended with code ${child.exitCode}: ${errors}`);
  const { seconds } = JSON.parse(output.trimEnd().split('\n').at(-1)!) as { seconds: number };
  return { seconds, residentBytes: child.resourceUsage()!.maxRSS };
}

async function measure(scene: Scene, format: InsertFormat, rounds: number): Promise<BenchResult[]> {
  const { rows, walDir, server } = scene;
  const byCurl = await prepareCurl(scene, format);
  const byLoader = async () => {
    await freshTable(scene);
    const loaded = await runLoader(walDir, server.url, format);
    await checkTable(scene);
    return loaded;
  };
  await byCurl(); // a server's first insert takes longer
  const { a, b } = await interleave(rounds, byLoader, byCurl);
  const rate = (runs: readonly { seconds: number }[]) => median(runs.map(({ seconds }) => rows / seconds));
  const resident = Math.max(...a.map(({ residentBytes }) => residentBytes)) / 1e6;
  const [name, baseline] = [nameOf(format), RESIDENT_TARGET_MB];
  return [
    { name, value: rate(a), unit: 'rows/s', baseline: rate(b), ratio: rate(a) / rate(b) },
    { name: `${name}/resident`, value: resident, unit: 'MB', baseline, ratio: resident / baseline },
  ];
}

export async function* replaySuite(...[options, wanted]: Parameters<BenchSuite>): ReturnType<BenchSuite> {
  const formats = FORMATS.filter((format) => wanted(nameOf(format)));
  if (formats.length === 0) return;
  using home = temporaryHome();
  const backlog = await makeBacklog(home.path, options.quick ? 300_000 : 2_000_000);
  const server = (await startServer('embedded'))!;
  const scene = openScene(home.path, backlog, server);
  try {
    for (const format of formats) yield* await measure(scene, format, options.quick ? 1 : 3);
  } finally {
    await scene.client.close();
    await server.stop();
  }
}
