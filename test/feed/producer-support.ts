import { StreamTable } from '../../src/net/session.ts';
import { createStreamListener, type StreamListener } from '../../src/net/stream-listener.ts';
import { RecordingSink } from '../net/recording-sink.ts';

/**
 * A recorder as a producer sees it: a listener whose frames become durable when sync() says so, or every
 * few ms.
 */
export class FakeRecorder {
  readonly sink = new RecordingSink();
  readonly streams: StreamTable;
  readonly listener: StreamListener;
  #timer: ReturnType<typeof setInterval> | undefined;

  private constructor(streams: StreamTable, listener: StreamListener, sink: RecordingSink) {
    this.streams = streams;
    this.listener = listener;
    this.sink = sink;
  }

  static async start(path: string, streams = new StreamTable(), maxConnections = 100): Promise<FakeRecorder> {
    const sink = new RecordingSink();
    const listener = await createStreamListener({ path, streams, sink, maxConnections });
    return new FakeRecorder(streams, listener, sink);
  }

  sync(): void {
    this.streams.markDurable(this.streams.capture());
    this.listener.sendAcks();
  }

  syncEvery(ms: number): this {
    this.#timer = setInterval(() => this.sync(), ms);
    return this;
  }

  stop(): void {
    clearInterval(this.#timer);
    this.listener.close();
  }
}
