// growth/recorders/<n>: rows a second, from the sockets to visibility, of n recorders with a socket and a log
// each that deliver into one table of one embedded ClickHouse; held against one recorder. SQL must find every
// row of every recorder once.

import { join } from 'node:path';
import { type RecorderProcess, sqlValue } from '../test/support/recorder-process.ts';
import type { BenchOptions, BenchSuite } from './suite.ts';
import { waitForRows } from './support/delivery.ts';
import { type FrameFile, inputFile } from './support/inputs.ts';
import { sendTogether } from './support/programs.ts';
import { startServe, stopServe, temporaryHome } from './support/recorder.ts';
import { startServer } from './support/servers.ts';

const DISTINCT_FRAMES = 50_000;
const TABLE = 'hft.market_data';
const COUNTS = [1, 2];

interface Scene {
  recorders: readonly RecorderProcess[];
  input: FrameFile;
  url: string;
}

/** Sends `rows` rows, shared out evenly; seconds from the first byte until `total` rows are visible. */
async function sendAndSee(scene: Scene, rows: number, total: number, session: string): Promise<number> {
  const { recorders, input, url } = scene;
  const frames = rows / recorders.length;
  const senders = recorders.map(({ socket }) => ({ socket, framesPath: input.path, frames, session }));
  const { startNs } = await sendTogether(senders);
  return ((await waitForRows(url, TABLE, total)) - startNs) / 1e9;
}

async function measure(count: number, { quick }: BenchOptions): Promise<number> {
  using home = temporaryHome();
  const [warmUp, rows] = quick ? [200_000, 400_000] : [400_000, 2_000_000];
  const input = await inputFile(home.path, 'market', DISTINCT_FRAMES);
  const server = (await startServer('embedded'))!;
  const recorders: RecorderProcess[] = [];
  try {
    for (let i = 0; i < count; i++) {
      recorders.push(
        await startServe(join(home.path, `r${i}`), {
          HFT_RECORDER_ID: `recorder-${i}`,
          HFT_RECORDER_MODE: 'direct',
          HFT_CLICKHOUSE_HOST: '127.0.0.1',
          HFT_CLICKHOUSE_PORT: new URL(server.url).port,
        }),
      );
    }
    const scene = { recorders, input, url: server.url };
    await sendAndSee(scene, warmUp, warmUp, 'warm-up');
    const seconds = await sendAndSee(scene, rows, warmUp + rows, 'measured');
    const distinct = `SELECT uniqExact(recorder, wal_id, wal_lsn) FROM ${TABLE}`;
    const found = Number(await sqlValue(server.url, distinct));
    if (found !== warmUp + rows) throw new Error(`${warmUp + rows} rows were sent, ${found} are distinct`);
    for (const recorder of recorders) await stopServe(recorder, (warmUp + rows) / count);
    return rows / seconds;
  } finally {
    for (const recorder of recorders) if (recorder.alive()) await recorder.end('SIGKILL');
    await server.stop();
  }
}

export async function* growthRecorders(...[options, wanted]: Parameters<BenchSuite>): ReturnType<BenchSuite> {
  let baseline: number | null = null;
  if (!wanted('growth/recorders')) return;
  for (const count of COUNTS) {
    const value = await measure(count, options);
    baseline ??= value;
    yield { name: `growth/recorders/${count}`, value, unit: 'rows/s', baseline, ratio: value / baseline };
  }
}
