// flush/<format>/<server>: rows a second from the WAL into ClickHouse by the recorder's flusher in its
// Worker. Limit: curl posts the same groups, encoded beforehand, with the same settings, to the same server.
// Ratio: share of the limit. The two take turns, each into a fresh table; medians.
//
//   …/cpu    user and system time of the flusher's process, ns a row; against curl's own, which only copies

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { limits } from '../src/limits.ts';
import type { TopicModel } from '../src/schema/model.ts';
import { topics } from '../src/schema/registry.ts';
import { connectClickHouse, type SinkClient } from '../src/sink/clickhouse-client.ts';
import { createWorkerFlusher } from '../src/sink/flusher-client.ts';
import type { FlusherConfig, FlusherEvent } from '../src/sink/flusher-types.ts';
import type { InsertFormat } from '../src/sink/group-encoder.ts';
import type { BenchOptions, BenchResult, BenchSuite } from './suite.ts';
import { inputFile } from './support/inputs.ts';
import { planFor, postWithCurl, writeInsertBodies } from './support/insert-bodies.ts';
import { forgetDelivery, prepareWal } from './support/prepared-wal.ts';
import { temporaryHome } from './support/recorder.ts';
import { type BenchServer, SERVERS, startServer } from './support/servers.ts';
import { interleave, median } from './support/statistics.ts';

const FORMATS: readonly InsertFormat[] = ['RowBinary', 'Native'];
const DISTINCT_FRAMES = 50_000;
const TIMEOUT_MS = 60_000;
const DATABASE = 'bench';

interface Run {
  seconds: number;
  cpuNs: number;
}

/** What all runs against one server share. */
interface Scene {
  home: string;
  walDir: string;
  rows: number;
  server: BenchServer;
  client: SinkClient;
  model: TopicModel;
}

const nameOf = (format: InsertFormat, server: string) => `flush/${format}/${server}`;

/** An empty table. Merges of earlier parts would be work of the server that no run has asked for. */
async function freshTable({ client, model }: Scene): Promise<void> {
  await client.command(`DROP DATABASE IF EXISTS ${DATABASE}`);
  await planFor(client, model, DATABASE);
  await client.command(`SYSTEM STOP MERGES ${DATABASE}.${model.table}`);
}

/** Throws unless every row is there once. */
async function checkTable({ client, model, rows }: Scene): Promise<void> {
  const counts = 'toString(count()) AS n, toString(uniqExact(wal_lsn)) AS u';
  const sql = `SELECT ${counts} FROM ${DATABASE}.${model.table}`;
  const [found] = await client.query<{ n: string; u: string }>(sql);
  if (Number(found?.n) !== rows || Number(found?.u) !== rows) {
    throw new Error(`${rows} rows were delivered, the table has ${JSON.stringify(found)}`);
  }
}

/** Delivers the whole WAL; timed from the answer of the server to the last group. */
async function runFlusher(scene: Scene, format: InsertFormat): Promise<Run> {
  await freshTable(scene);
  forgetDelivery(scene.walDir);
  const config: FlusherConfig = {
    walDir: scene.walDir,
    clickhouse: { urls: [scene.server.url], user: 'default', password: '', timeoutMs: TIMEOUT_MS },
    database: DATABASE,
    format,
    flushRows: limits.flushRows,
    flushBytes: limits.flushBytes,
    flushIntervalMs: 500,
    maxRetries: 0,
    retryBaseMs: 100,
    retryMaxMs: 1000,
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
  const { home, walDir, rows, server, client, model } = scene;
  await freshTable(scene);
  const bodies = writeInsertBodies(home, walDir, await planFor(client, model, DATABASE), format);
  const byCurl = async () => {
    await freshTable(scene);
    const run = await postWithCurl(server.url, bodies);
    await checkTable(scene);
    return run;
  };
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

async function* measureServer(
  server: BenchServer,
  home: string,
  walDir: string,
  formats: readonly InsertFormat[],
  { quick }: BenchOptions,
): ReturnType<BenchSuite> {
  const client = connectClickHouse({
    urls: [server.url],
    user: 'default',
    password: '',
    timeoutMs: TIMEOUT_MS,
  });
  const model = topics.find(({ topic }) => topic === 'market_data')!;
  const dir = join(home, server.name);
  mkdirSync(dir);
  const scene = { home: dir, walDir, rows: rowsOf(quick), server, client, model };
  for (const format of formats) yield* await measure(scene, format, quick ? 1 : 3);
  await client.close();
}

const rowsOf = (quick: boolean) => (quick ? 300_000 : 2_000_000);

export async function* flushSuite(...[options, wanted]: Parameters<BenchSuite>): ReturnType<BenchSuite> {
  const formatsOf = (server: string) => FORMATS.filter((format) => wanted(nameOf(format, server)));
  const servers = SERVERS.filter((server) => formatsOf(server).length > 0);
  if (servers.length === 0) return;
  using home = temporaryHome();
  const input = await inputFile(home.path, 'market', DISTINCT_FRAMES);
  const walDir = await prepareWal(home.path, input, rowsOf(options.quick));
  for (const name of servers) {
    const server = await startServer(name);
    if (server === null) continue;
    try {
      yield* measureServer(server, home.path, walDir, formatsOf(name), options);
    } finally {
      await server.stop();
    }
  }
}
