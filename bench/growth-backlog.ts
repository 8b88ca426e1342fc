// growth/backlog/<n>GB: what a backlog on disk costs, by its size; held against the smallest size.
//
//   …/start       ms from the start of `recorder serve` on this log to the first connection that it takes
//   …/replay      rows a second of `recorder load --once` into an embedded ClickHouse, Native
//   …/resident    most resident memory of that loader, MB

import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { limits } from '../src/limits.ts';
import { recorderCommand, sqlValue } from '../test/support/recorder-process.ts';
import type { BenchResult, BenchSuite } from './suite.ts';
import { DATABASE } from './support/flush-scene.ts';
import { type FrameFile, inputFile } from './support/inputs.ts';
import { runLoader } from './support/loader.ts';
import { sendTogether } from './support/programs.ts';
import { checkWal, startServe, stopServe, temporaryHome } from './support/recorder.ts';
import { startServer } from './support/servers.ts';
import { timeToListen } from './support/start-time.ts';

const DISTINCT_FRAMES = 50_000;
const GB = 1e9;
const BURST_ROWS = 500_000;

interface Measured {
  start: number;
  replay: number;
  resident: number;
}

const UNITS: Record<keyof Measured, string> = { start: 'ms', replay: 'rows/s', resident: 'MB' };

/** Size of the segments that are finished or nearly so: the last two are allocated ahead. */
function bytesOf(walDir: string): number {
  const segments = readdirSync(walDir).filter((name) => name.endsWith('.wal'));
  return segments.reduce((sum, name) => sum + statSync(join(walDir, name)).size, 0) - 2 * limits.segmentBytes;
}

/** Records until the log has `gb` GB. Returns its rows. */
async function fillLog(
  home: string,
  input: FrameFile,
  gb: number,
): Promise<{ walDir: string; rows: number }> {
  const recorder = await startServe(home, { HFT_WAL_RETAIN_BYTES: '1000GiB' });
  let rows = 0;
  for (let burst = 0; bytesOf(recorder.walDir) < gb * GB; burst++) {
    const session = `burst-${burst}`;
    const sender = { socket: recorder.socket, framesPath: input.path, frames: BURST_ROWS, session };
    await sendTogether([sender]);
    rows += BURST_ROWS;
  }
  await stopServe(recorder, rows);
  return { walDir: recorder.walDir, rows };
}

async function measure(gb: number): Promise<Measured> {
  using home = temporaryHome();
  const input = await inputFile(home.path, 'market', DISTINCT_FRAMES);
  const { walDir, rows } = await fillLog(home.path, input, gb);
  const start = await timeToListen(recorderCommand, home.path);
  const server = (await startServer('embedded'))!;
  try {
    const { seconds, residentBytes } = await runLoader(walDir, server.url, 'Native', limits.flushRows);
    const count = Number(await sqlValue(server.url, `SELECT count() FROM ${DATABASE}.market_data`));
    if (count !== rows) throw new Error(`${rows} rows in the log, ${count} in the table`);
    if (gb <= 1) await checkWal(walDir, rows);
    return { start, replay: rows / seconds, resident: residentBytes / 1e6 };
  } finally {
    await server.stop();
  }
}

export async function* growthBacklog(...[options, wanted]: Parameters<BenchSuite>): ReturnType<BenchSuite> {
  let first: Measured | null = null;
  for (const gb of options.quick ? [0.05] : options.backlogGb) {
    const name = `growth/backlog/${gb}GB`;
    if (!wanted(name)) continue;
    const measured = await measure(gb);
    first ??= measured;
    for (const part of Object.keys(UNITS) as (keyof Measured)[]) {
      const [value, baseline] = [measured[part], first[part]];
      const result = { name: `${name}/${part}`, value, unit: UNITS[part], baseline, ratio: value / baseline };
      yield result satisfies BenchResult;
    }
  }
}
