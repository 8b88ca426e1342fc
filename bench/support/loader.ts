// `recorder load --once` as a process of its own.

import type { InsertFormat } from '../../src/sink/group-encoder.ts';
import { cleanEnvironment, recorderCommand } from '../../test/support/recorder-process.ts';
import { DATABASE } from './flush-scene.ts';
import { forgetDelivery } from './prepared-wal.ts';
import { residentBytes } from './proc.ts';

/** How `recorder load --once` did. */
export interface LoadRun {
  seconds: number;
  residentBytes: number;
}

/** Delivers a WAL with the loader. */
export async function runLoader(
  walDir: string,
  url: string,
  format: InsertFormat,
  groupRows: number,
): Promise<LoadRun> {
  forgetDelivery(walDir);
  const places = ['--wal-dir', walDir, '--clickhouse-host', '127.0.0.1'];
  const server = ['--clickhouse-port', new URL(url).port, '--clickhouse-database', DATABASE];
  const how = ['--clickhouse-format', format, '--flush-rows', String(groupRows), '--once', '--json'];
  const child = Bun.spawn([...recorderCommand, 'load', ...places, ...server, ...how], {
    env: cleanEnvironment(),
    stderr: 'pipe',
  });
  let peakBytes = 0;
  // Not the exit's rusage: it begins with what this process had when it forked.
  const watch = setInterval(() => {
    peakBytes = Math.max(peakBytes, residentBytes(child.pid).peak);
  }, 50);
  const [output, errors] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  clearInterval(watch);
  if ((await child.exited) !== 0) throw new Error(`load ended with code ${child.exitCode}: ${errors}`);
  const { seconds } = JSON.parse(output.trimEnd().split('\n').at(-1)!) as { seconds: number };
  return { seconds, residentBytes: peakBytes };
}
