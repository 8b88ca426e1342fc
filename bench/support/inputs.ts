// What the benchmarks send: frames of recorded market data where ../shared/data is there, else of the
// simulator; the same ones in every run. A sender repeats them.

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { openBinance } from '../../src/feed/binance.ts';
import type { FeedEvent } from '../../src/feed/event.ts';
import { createFeedReport } from '../../src/feed/feed-report.ts';
import { openSim } from '../../src/feed/sim/simulator.ts';
import { createFrameBuilder } from '../../src/schema/build-frame.ts';
import { topics } from '../../src/schema/registry.ts';

export const DATA_DIR = resolve(import.meta.dir, '../../../shared/data');
const BINANCE_DIR = join(DATA_DIR, 'binance');
const SIM_SEED = 1;
const TICK = 1;
const QUOTE = 2;

/** Size-prefixed frames one after another, as a stream carries them. */
export interface FrameFile {
  path: string;
  frames: number;
  sizeBytes: number;
  /** Where they come from, for the report. */
  origin: string;
}

/** Which events become frames. */
export type InputName = 'ticks' | 'market' | 'all';

const choices: Record<InputName, (event: FeedEvent) => boolean> = {
  // Binance spot trades: 136 bytes each and a size prefix of 4.
  ticks: ({ topic, row }) =>
    topic === 'market_data' && row['kind'] === TICK && row['exchange'] !== 'BINANCE_USDM',
  market: ({ topic, row }) => topic === 'market_data' && (row['kind'] === TICK || row['kind'] === QUOTE),
  all: () => true,
};

async function* recordedOrSimulated(name: InputName): AsyncGenerator<FeedEvent[]> {
  if (originOf(name) === 'simulated') {
    yield* openSim({ seed: SIM_SEED, rows: 100_000 }).batches();
    return;
  }
  const report = createFeedReport(() => {});
  for (const source of await openBinance([BINANCE_DIR], {}, report)) yield* source.batches();
}

/** The first `count` events of an input. */
export async function inputEvents(name: InputName, count: number): Promise<FeedEvent[]> {
  const events: FeedEvent[] = [];
  for await (const batch of recordedOrSimulated(name)) {
    for (const event of batch) if (events.length < count && choices[name](event)) events.push(event);
    if (events.length >= count) break;
  }
  return events;
}

/** Frames of events, each with its size in front. */
export function framesOf(events: readonly FeedEvent[]): Uint8Array[] {
  const builders = new Map(topics.map((model) => [model.topic, createFrameBuilder(model)]));
  return events.map(({ topic, row }) => {
    const frame = builders.get(topic)!.build(row);
    const prefixed = new Uint8Array(4 + frame.length);
    new DataView(prefixed.buffer).setUint32(0, frame.length, true);
    prefixed.set(frame, 4);
    return prefixed;
  });
}

/** Writes frames for senders. */
export function writeFrameFile(path: string, frames: readonly Uint8Array[], origin: string): FrameFile {
  const bytes = Buffer.concat(frames);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, bytes);
  return { path, frames: frames.length, sizeBytes: bytes.length, origin };
}

/** Where the events of an input come from. */
export function originOf(name: InputName): string {
  return name !== 'all' && existsSync(BINANCE_DIR) ? 'recorded' : 'simulated';
}

/** A frame file of an input in a directory. */
export async function inputFile(dir: string, name: InputName, count: number): Promise<FrameFile> {
  const frames = framesOf(await inputEvents(name, count));
  return writeFrameFile(join(dir, `${name}.frames`), frames, originOf(name));
}
