// A simulated engine inside a test: sends a seeded session as fast as it is taken.

import { connectProducer, type Producer } from '../../src/feed/producer.ts';
import { simulate } from '../../src/feed/sim/simulator.ts';
import { createFrameBuilder, type FrameBuilder } from '../../src/schema/build-frame.ts';
import { topics } from '../../src/schema/registry.ts';
import type { ExpectedSession } from '../support/stored-rows.ts';

export interface SimProducer {
  readonly sent: number;
  readonly acked: number;
  /** Resolves when all rows are acknowledged and the connection is closed. */
  readonly done: Promise<void>;
  /** What it has sent, for compareStored. */
  expected(): ExpectedSession;
  abort(): void;
}

export interface SimProducerOptions {
  socket: string;
  source: string;
  seed: number;
  rows: number;
}

const SESSION = 'one';
const CONNECT_TIMEOUT_MS = 120_000;
/** Small, so that it is held back soon when nothing is acknowledged, and commits are small. */
const MAX_BUFFERED_BYTES = 256 << 10;

/** Connects and begins to send. Rejects with the producer's RecorderError. */
export async function startSimProducer(options: SimProducerOptions): Promise<SimProducer> {
  const { source, seed, rows } = options;
  const producer = await connectProducer({
    path: options.socket,
    session: { source, session: SESSION },
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    maxBufferedBytes: MAX_BUFFERED_BYTES,
  });
  const done = sendAll(producer, options);
  done.catch(() => undefined);
  return {
    get sent() {
      return producer.nextSeq - 1;
    },
    get acked() {
      return producer.ackedSeq;
    },
    done,
    expected: () => ({
      source,
      session: SESSION,
      rows,
      acked: producer.ackedSeq,
      events: simulate({ seed, rows }),
    }),
    abort: () => producer.abort(),
  };
}

async function sendAll(producer: Producer, { seed, rows }: SimProducerOptions): Promise<void> {
  const builders = new Map<string, FrameBuilder>(
    topics.map((model) => [model.topic, createFrameBuilder(model)]),
  );
  for (const batch of simulate({ seed, rows })) {
    for (const { topic, row } of batch) {
      if (!producer.send(builders.get(topic)!.build(row))) await producer.ready();
    }
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  await producer.close(CONNECT_TIMEOUT_MS);
}
