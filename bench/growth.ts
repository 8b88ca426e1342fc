// growth/<dimension>/<size>: how the rate from the socket to the acknowledgement changes as one thing grows;
// held against the same at the smallest size, measured in the same run. Only on request: `bench -- growth`.
//
//   growth/connections/<n>       rows/s over n connections with a session each
//   growth/symbols/<n>           rows/s of ticks with n distinct symbols, 1 to 1,000,000
//   growth/levels/<n>            MB/s of whole books with n levels on both sides
//   growth/frame-bytes/<n>       MB/s of frames of n bytes, 60 to 65,536
//   growth/recorders/<n>         see growth-recorders.ts
//   growth/backlog/<n>GB/…       see growth-backlog.ts

import { join } from 'node:path';
import type { RecorderProcess } from '../test/support/recorder-process.ts';
import { growthBacklog } from './growth-backlog.ts';
import { growthRecorders } from './growth-recorders.ts';
import type { BenchOptions, BenchResult, BenchSuite } from './suite.ts';
import { booksOfLevels, framesOfSize, ticksOfSymbols } from './support/grown-inputs.ts';
import { type FrameFile, inputFile, writeFrameFile } from './support/inputs.ts';
import { sendTogether } from './support/programs.ts';
import { startServe, stopServe, temporaryHome } from './support/recorder.ts';
import { median } from './support/statistics.ts';

const DISTINCT_FRAMES = 8192;
const MOST_FILE_BYTES = 256 * 1024 * 1024;

/** One size of a dimension: what is sent, over how many connections. */
interface Size {
  label: string;
  input(dir: string): Promise<FrameFile> | FrameFile;
  connections: number;
}

interface Dimension {
  name: string;
  unit: 'rows/s' | 'MB/s';
  sizes: readonly Size[];
}

const one = (label: number, frames: (count: number) => Uint8Array[], frameBytes = 200): Size => ({
  label: String(label),
  connections: 1,
  input: (dir) => {
    const count = Math.max(16, Math.min(DISTINCT_FRAMES, Math.floor(MOST_FILE_BYTES / 8 / frameBytes)));
    return writeFrameFile(join(dir, `${label}.frames`), frames(count), 'made');
  },
});

const DIMENSIONS: readonly Dimension[] = [
  {
    name: 'connections',
    unit: 'rows/s',
    sizes: [1, 4, 16, 64].map((connections) => ({
      label: String(connections),
      connections,
      input: (dir: string) => inputFile(dir, 'ticks', DISTINCT_FRAMES),
    })),
  },
  {
    name: 'symbols',
    unit: 'rows/s',
    sizes: [1, 10, 100, 10_000, 1_000_000].map((n) => one(n, (count) => ticksOfSymbols(n, count))),
  },
  {
    name: 'levels',
    unit: 'MB/s',
    sizes: [1, 5, 10, 20, 50].map((n) => one(n, (count) => booksOfLevels(n, count), 150 + 32 * n)),
  },
  {
    name: 'frame-bytes',
    unit: 'MB/s',
    sizes: [60, 256, 1024, 4096, 16_384, 65_536].map((n) => one(n, (count) => framesOfSize(n, count), n)),
  },
];

/** Rows of one burst: about as many bytes for every size, and a whole number for each connection. */
function rowsOf(input: FrameFile, connections: number, quick: boolean): number {
  const bytes = quick ? 100e6 : 400e6;
  const perConnection = Math.ceil((bytes * input.frames) / input.sizeBytes / connections);
  return perConnection * connections;
}

async function measureSize(size: Size, unit: Dimension['unit'], { quick }: BenchOptions): Promise<number> {
  using home = temporaryHome();
  const input = await size.input(home.path);
  const { connections } = size;
  const frames = rowsOf(input, connections, quick);
  const recorder: RecorderProcess = await startServe(home.path);
  const rates: number[] = [];
  const rounds = quick ? 1 : 3;
  for (let round = 0; round <= rounds; round++) {
    const sender = {
      socket: recorder.socket,
      framesPath: input.path,
      frames,
      session: `r${round}`,
      connections,
    };
    const { seconds } = await sendTogether([sender]);
    const amount = unit === 'rows/s' ? frames : (frames / input.frames) * (input.sizeBytes / 1e6);
    if (round > 0) rates.push(amount / seconds); // the first is for the compiler
  }
  await stopServe(recorder, frames * (rounds + 1));
  return median(rates);
}

async function* measureDimension(
  dimension: Dimension,
  wanted: (name: string) => boolean,
  options: BenchOptions,
): ReturnType<BenchSuite> {
  let baseline: number | null = null;
  const sizes = options.quick ? [dimension.sizes[0]!, dimension.sizes.at(-1)!] : dimension.sizes;
  for (const size of sizes) {
    const name = `growth/${dimension.name}/${size.label}`;
    if (!wanted(`growth/${dimension.name}`) && !wanted(name)) continue;
    const { unit } = dimension;
    const value = await measureSize(size, unit, options);
    baseline ??= value;
    yield { name, value, unit, baseline, ratio: value / baseline } satisfies BenchResult;
  }
}

export async function* growthSuite(...[options, wanted]: Parameters<BenchSuite>): ReturnType<BenchSuite> {
  for (const dimension of DIMENSIONS) yield* measureDimension(dimension, wanted, options);
  yield* growthRecorders(options, wanted);
  yield* growthBacklog(options, wanted);
}
