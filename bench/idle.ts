// start/<program>: ms from the start of `recorder serve` with an empty WAL to the first connection that its
// socket takes, median of several; against the target of 50 ms. `binary` is what `bun run build` makes.
//
// idle/cpu: CPU time of a recorder that nobody sends to, % of one core; against the target of 0.5 %. It
// has stood for a minute by then: compilers and collector are busy with what the start has left for as long.

import { join } from 'node:path';
import { recorderCommand } from '../test/support/recorder-process.ts';
import type { BenchOptions, BenchResult, BenchSuite } from './suite.ts';
import { threadsNs } from './support/proc.ts';
import { startServe, stopServe, temporaryHome } from './support/recorder.ts';
import { timeToListen } from './support/start-time.ts';
import { median } from './support/statistics.ts';

const START_TARGET_MS = 50;
const IDLE_TARGET_PERCENT = 0.5;
const ROOT = join(import.meta.dir, '..');

/** The binary, built as `bun run build` does it but into `dir`. */
async function buildBinary(dir: string): Promise<string> {
  const manifest = (await Bun.file(join(ROOT, 'package.json')).json()) as { scripts: { build: string } };
  const target = join(dir, 'recorder');
  const [, ...args] = manifest.scripts.build.replace('dist/recorder', target).split(' ');
  const build = Bun.spawn([process.execPath, ...args], { cwd: ROOT, stdout: 'ignore', stderr: 'pipe' });
  const errors = await new Response(build.stderr).text();
  if ((await build.exited) !== 0) throw new Error(`the binary was not built: ${errors}`);
  return target;
}

async function measureStart(
  program: string,
  command: readonly string[],
  times: number,
): Promise<BenchResult> {
  const measured: number[] = [];
  for (let i = 0; i <= times; i++) {
    using home = temporaryHome();
    const ms = await timeToListen(command, home.path);
    // The first start reads the program from the disk.
    if (i > 0) measured.push(ms);
  }
  const [value, baseline] = [median(measured), START_TARGET_MS];
  return { name: `start/${program}`, value, unit: 'ms', baseline, ratio: value / baseline };
}

async function measureIdle({ quick }: BenchOptions): Promise<BenchResult> {
  using home = temporaryHome();
  const recorder = await startServe(home.path);
  await Bun.sleep(quick ? 1000 : 60_000);
  const [beforeNs, startNs] = [threadsNs(recorder.pid), Bun.nanoseconds()];
  await Bun.sleep(quick ? 2000 : 20_000);
  const value = ((threadsNs(recorder.pid) - beforeNs) / (Bun.nanoseconds() - startNs)) * 100;
  await stopServe(recorder, 0);
  const baseline = IDLE_TARGET_PERCENT;
  return { name: 'idle/cpu', value, unit: '%', baseline, ratio: value / baseline };
}

export async function* idleSuite(...[options, wanted]: Parameters<BenchSuite>): ReturnType<BenchSuite> {
  const times = options.quick ? 3 : 15;
  if (wanted('start/sources')) yield await measureStart('sources', recorderCommand, times);
  if (wanted('start/binary')) {
    using home = temporaryHome();
    yield await measureStart('binary', [await buildBinary(home.path)], times);
  }
  if (wanted('idle/cpu')) yield await measureIdle(options);
}
