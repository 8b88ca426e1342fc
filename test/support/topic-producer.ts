// A producer that sends rows of some topics again and again, at a pace, until it is told to stop.

import { connectProducer } from '../../src/feed/producer.ts';
import { createFrameBuilder } from '../../src/schema/build-frame.ts';
import { topicByName } from '../../src/schema/registry.ts';

export interface TopicProducer {
  readonly source: string;
  readonly sent: number;
  readonly acked: number;
  /** Rows for each tick of 10 ms; may be changed while it sends. */
  rowsPerTick: number;
  /** Sends nothing more; resolves when all is acknowledged and the connection is closed. */
  finish(timeoutMs: number): Promise<void>;
  abort(): void;
}

const TICK_MS = 10;
/** Small, so that it stops sending soon after nothing is acknowledged. */
const MAX_BUFFERED_BYTES = 256 << 10;

/** Connects a session of its own and begins to send rows of `topicNames` in turn. */
export async function startTopicProducer(
  socket: string,
  source: string,
  topicNames: readonly string[],
  rowsPerTick: number,
): Promise<TopicProducer> {
  const producer = await connectProducer({
    path: socket,
    session: { source, session: 'one' },
    maxBufferedBytes: MAX_BUFFERED_BYTES,
    connectTimeoutMs: 60_000,
  });
  const frames = topicNames.map((name) => createFrameBuilder(topicByName(name)!).build({ symbol: source }));
  let isEnding = false;
  const state = { rowsPerTick };
  const sending = (async () => {
    while (!isEnding) {
      for (let i = 0; i < state.rowsPerTick && !isEnding; i++)
        if (!producer.send(frames[producer.nextSeq % frames.length]!)) await producer.ready();
      await Bun.sleep(TICK_MS);
    }
  })();
  sending.catch(() => undefined);
  return {
    source,
    get sent() {
      return producer.nextSeq - 1;
    },
    get acked() {
      return producer.ackedSeq;
    },
    get rowsPerTick() {
      return state.rowsPerTick;
    },
    set rowsPerTick(rows) {
      state.rowsPerTick = rows;
    },
    async finish(timeoutMs) {
      isEnding = true;
      await sending;
      await producer.close(timeoutMs);
    },
    abort() {
      isEnding = true;
      producer.abort();
    },
  };
}
