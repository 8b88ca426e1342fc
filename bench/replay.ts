// replay/<format>/embedded: rows a second of a backlog on disk into ClickHouse by `recorder load --once`, a
// process of its own, by its own clock. Limit: curl posting the same groups, as in flush.ts. Ratio: share of
// the limit. Medians of rounds that take turns.
//
//   …/resident    most resident memory of the loader, against the recorder's target

import type { InsertFormat } from '../src/sink/group-encoder.ts';
import type { BenchResult, BenchSuite } from './suite.ts';
import {
  checkTable,
  FORMATS,
  freshTable,
  makeBacklog,
  openScene,
  prepareCurl,
  type Scene,
} from './support/flush-scene.ts';
import { runLoader } from './support/loader.ts';
import { temporaryHome } from './support/recorder.ts';
import { startServer } from './support/servers.ts';
import { interleave, median } from './support/statistics.ts';

const RESIDENT_TARGET_MB = 150;

const nameOf = (format: InsertFormat) => `replay/${format}/embedded`;

async function measure(scene: Scene, format: InsertFormat, rounds: number): Promise<BenchResult[]> {
  const { rows, walDir, server, groupRows } = scene;
  const byCurl = await prepareCurl(scene, format);
  const byLoader = async () => {
    await freshTable(scene);
    const loaded = await runLoader(walDir, server.url, format, groupRows);
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
  const backlog = await makeBacklog(home.path, options.quick);
  const server = (await startServer('embedded'))!;
  const scene = openScene(home.path, backlog, server);
  try {
    for (const format of formats) yield* await measure(scene, format, options.quick ? 1 : 3);
  } finally {
    await scene.client.close();
    await server.stop();
  }
}
