// flush/<format>/<server>: rows a second from the WAL into ClickHouse by the recorder's flusher in its
// Worker. Limit: curl posts the same groups, encoded beforehand, with the same settings, to the same server.
// Ratio: share of the limit. The two take turns, each into a fresh table; medians.
//
//   …/cpu    user and system time of the flusher's process, ns a row; against curl's own, which only copies

import { limits } from '../src/limits.ts';
import { createWorkerFlusher } from '../src/sink/flusher-client.ts';
import type { FlusherConfig, FlusherEvent } from '../src/sink/flusher-types.ts';
import type { InsertFormat } from '../src/sink/group-encoder.ts';
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
  TIMEOUT_MS,
} from './support/flush-scene.ts';
import { forgetDelivery } from './support/prepared-wal.ts';
import { temporaryHome } from './support/recorder.ts';
import { SERVERS, startServer } from './support/servers.ts';
import { interleave, median } from './support/statistics.ts';

interface Run {
  seconds: number;
  cpuNs: number;
}

const nameOf = (format: InsertFormat, server: string) => `flush/${format}/${server}`;

/** Delivers the whole WAL; timed from the answer of the server to the last group. */
async function runFlusher(scene: Scene, format: InsertFormat): Promise<Run> {
  await freshTable(scene);
  forgetDelivery(scene.walDir);
  const config: FlusherConfig = {
    walDir: scene.walDir,
    clickhouse: { urls: [scene.server.url], user: 'default', password: '', timeoutMs: TIMEOUT_MS },
    database: DATABASE,
    format,
    flushRows: scene.groupRows,
    flushBytes: limits.flushBytes,
    flushIntervalMs: 500,
    maxRetries: 0,
    retryBaseMs: 100,
    retryMaxMs: 1000,
    settleMs: 0,
  };
  let startNs = 0;
  let endNs = 0;
  const report = (event: FlusherEvent) => {
    if (event.kind === 'connected') startNs = Bun.nanoseconds();
    else if (event.kind === 'inserted') endNs = Bun.nanoseconds();
    else throw new Error(`the flusher said ${JSON.stringify(event, (_, value) => String(value))}`);
  };
  const cpuBefore = process.cpuUsage();
  const flusher = createWorkerFlusher({ config, topics: [scene.model], report });
  flusher.start();
  const { complete } = await flusher.drain(TIMEOUT_MS);
  const { user, system } = process.cpuUsage(cpuBefore);
  if (!complete) throw new Error('the flusher did not deliver everything');
  await checkTable(scene);
  return { seconds: (endNs - startNs) / 1e9, cpuNs: (user + system) * 1000 };
}

async function measure(scene: Scene, format: InsertFormat, rounds: number): Promise<BenchResult[]> {
  const { rows, server } = scene;
  const byCurl = await prepareCurl(scene, format);
  await byCurl(); // a server's first insert takes longer
  const { a, b } = await interleave(rounds, () => runFlusher(scene, format), byCurl);
  const rate = (runs: readonly Run[]) => median(runs.map(({ seconds }) => rows / seconds));
  const cpu = (runs: readonly Run[]) => median(runs.map(({ cpuNs }) => cpuNs / rows));
  const name = nameOf(format, server.name);
  return [
    { name, value: rate(a), unit: 'rows/s', baseline: rate(b), ratio: rate(a) / rate(b) },
    { name: `${name}/cpu`, value: cpu(a), unit: 'ns/row', baseline: cpu(b), ratio: cpu(a) / cpu(b) },
  ];
}

export async function* flushSuite(...[options, wanted]: Parameters<BenchSuite>): ReturnType<BenchSuite> {
  const formatsOf = (server: string) => FORMATS.filter((format) => wanted(nameOf(format, server)));
  const servers = SERVERS.filter((server) => formatsOf(server).length > 0);
  if (servers.length === 0) return;
  using home = temporaryHome();
  const backlog = await makeBacklog(home.path, options.quick);
  for (const name of servers) {
    const server = await startServer(name);
    if (server === null) continue;
    const scene = openScene(home.path, backlog, server);
    try {
      for (const format of formatsOf(name)) yield* await measure(scene, format, options.quick ? 1 : 3);
    } finally {
      await scene.client.close();
      await server.stop();
    }
  }
}
