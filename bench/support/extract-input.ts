// Frames to extract by kind, in one chunk as a stream carries them, and how they are extracted.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Batch, commitRow, resetBatch } from '../../src/columns/batch.ts';
import type { FeedEvent } from '../../src/feed/event.ts';
import { createFeedReport } from '../../src/feed/feed-report.ts';
import { openLobster } from '../../src/feed/lobster.ts';
import { openSim } from '../../src/feed/sim/simulator.ts';
import { createFrameBuilder, type Row } from '../../src/schema/build-frame.ts';
import type { Extract } from '../../src/schema/extractor.ts';
import type { TopicModel } from '../../src/schema/model.ts';
import { topics } from '../../src/schema/registry.ts';
import { DATA_DIR, inputEvents } from './inputs.ts';
import { sampleRows } from './sample-rows.ts';

export const FRAMES = 2048;
const SNAPSHOT = 4;
const LEVELS = 10;

/** Size-prefixed frames in one buffer, and where each begins and ends. */
export interface Chunk {
  model: TopicModel;
  bytes: Uint8Array;
  view: DataView;
  starts: Int32Array;
  ends: Int32Array;
}

/** `market_data/<kind>` are recorded rows of one kind; a topic alone is rows of all its kinds. */
export const extractKinds: readonly string[] = [
  'market_data/ticks',
  'market_data/quotes',
  'market_data/depth-10',
  ...topics.map(({ topic }) => topic),
];

const isQuote = ({ row }: FeedEvent) => row['kind'] === 2;

async function snapshots(): Promise<Row[]> {
  const lobster = join(DATA_DIR, 'lobster');
  const report = createFeedReport(() => {});
  const recorded = existsSync(lobster) ? await openLobster([lobster], {}, report) : [];
  const rows: Row[] = [];
  for (const source of [...recorded, openSim({ seed: 1, rows: 100_000 })]) {
    for await (const events of source.batches()) {
      for (const { topic, row } of events) {
        const levels = (row['bid_prices'] as unknown[] | undefined)?.length;
        if (topic === 'market_data' && row['kind'] === SNAPSHOT && levels === LEVELS) rows.push(row);
      }
      if (rows.length >= FRAMES) return rows.slice(0, FRAMES);
    }
    if (rows.length > 0) break;
  }
  return Array.from({ length: FRAMES }, (_, i) => rows[i % rows.length]!);
}

async function rowsOf(kind: string, model: TopicModel): Promise<Row[]> {
  if (kind === 'market_data/ticks') return (await inputEvents('ticks', FRAMES)).map(({ row }) => row);
  if (kind === 'market_data/quotes') {
    const events = await inputEvents('market', FRAMES * 4);
    return events
      .filter(isQuote)
      .slice(0, FRAMES)
      .map(({ row }) => row);
  }
  return kind === 'market_data/depth-10' ? await snapshots() : sampleRows(model, FRAMES);
}

/** The chunk of a kind. */
export async function chunkOf(kind: string): Promise<Chunk> {
  const model = topics.find(({ topic }) => topic === kind.split('/')[0])!;
  const builder = createFrameBuilder(model);
  const frames = (await rowsOf(kind, model)).map((row) => builder.buildSizePrefixed(row));
  if (frames.length !== FRAMES) throw new Error(`${kind}: ${frames.length} frames, not ${FRAMES}`);
  const bytes = new Uint8Array(Buffer.concat(frames));
  const starts = new Int32Array(FRAMES);
  const ends = new Int32Array(FRAMES);
  let position = 0;
  frames.forEach((frame, i) => {
    starts[i] = position + 4;
    position += frame.length;
    ends[i] = position;
  });
  return { model, bytes, view: new DataView(bytes.buffer), starts, ends };
}

/** Extracts the first frames of the chunk into the emptied batch. */
export function fill(
  extract: Extract,
  { bytes, view, starts, ends }: Chunk,
  batch: Batch,
  frames = FRAMES,
): void {
  resetBatch(batch);
  for (let i = 0; i < frames; i++) {
    const code = extract(view, bytes, starts[i]!, ends[i]!, batch);
    if (code !== 0) throw new Error(`frame ${i} was refused with code ${code}`);
    commitRow(batch, 1, i + 1, 0, 0, 0);
  }
}
