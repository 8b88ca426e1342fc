// The player: sources → frames → sender.
//
// Invariants
// - Events of one source are sent in their order; at a speed other than max, all sources are merged by
// event time.
// - No more than `rows` frames are sent.
// - When it is told to stop, what was sent stays sent and is waited for; nothing is cut in the middle.

import { createFrameBuilder, type FrameBuilder } from '../schema/build-frame.ts';
import type { TopicModel } from '../schema/model.ts';
import type { EventSource, FeedEvent, FeedTopic } from './event.ts';
import type { FrameSender } from './frame-sender.ts';
import { mergedByTime, oneAfterAnother } from './merge.ts';
import { createPacer, type Pacer, type Speed } from './pacer.ts';

export interface PlayOptions {
  speed: Speed;
  /** Most frames to send; null: all. */
  rows: number | null;
  topics: readonly TopicModel[];
  signal: AbortSignal;
}

/** How far it is; one object, updated as it goes. */
export interface PlayProgress {
  rows: number;
  rowsByTopic: Partial<Record<FeedTopic, number>>;
}

/** Longest wait at a time, so that a stop is noticed. */
const LONGEST_SLEEP_MS = 200;
/** Timers, signals and the socket get their turn at least this often. */
const TURN_MS = 20;

/** Plays the sources into the sender until they end; `progress` counts what was handed over. */
export async function play(
  sources: readonly EventSource[],
  sender: FrameSender,
  options: PlayOptions,
  progress: PlayProgress,
): Promise<void> {
  const builders = new Map<string, FrameBuilder>(
    options.topics.map((model) => [model.topic, createFrameBuilder(model)]),
  );
  const pacer = options.speed === 'max' ? null : createPacer(options.speed);
  const limit = options.rows ?? Number.POSITIVE_INFINITY;
  const batches = pacer === null ? oneAfterAnother(sources) : mergedByTime(sources);
  let turnMs = performance.now();
  for await (const batch of batches) {
    for (const event of batch) {
      if (progress.rows >= limit || options.signal.aborted) return;
      if (pacer !== null) await waitUntilDue(pacer, event, options.signal);
      if (!sender.send(frameOf(builders, event))) await sender.ready();
      progress.rows++;
      progress.rowsByTopic[event.topic] = (progress.rowsByTopic[event.topic] ?? 0) + 1;
    }
    if (performance.now() - turnMs < TURN_MS) continue;
    await new Promise<void>((resolve) => setImmediate(resolve));
    turnMs = performance.now();
  }
}

function frameOf(builders: Map<string, FrameBuilder>, event: FeedEvent): Uint8Array {
  const builder = builders.get(event.topic);
  if (builder === undefined) throw new Error(`no schema for topic ${event.topic}`);
  return builder.build(event.row);
}

async function waitUntilDue(pacer: Pacer, event: FeedEvent, signal: AbortSignal): Promise<void> {
  // Below a millisecond a timer is less exact than not waiting.
  for (let waitMs = pacer(event.eventTimeNs); waitMs >= 1; waitMs = pacer(event.eventTimeNs)) {
    if (signal.aborted) return;
    await Bun.sleep(Math.min(waitMs, LONGEST_SLEEP_MS));
  }
}
