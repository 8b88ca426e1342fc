// The datagram listener: UDP sockets, MoldUDP64 and A/B merging, down to calls of a FrameSink.
//
//   const listener = await createDatagramListener({ feeds: parseUdpEndpoints(text), streams, sink });
//   … await listener.drain(500);
//   listener.close();                             // reports the gaps that were still waiting: seal after it
//
// Invariants
// - The source of a feed's rows is its name, the session is the datagrams' session id.
// - Nothing is held back: rows are handed on as they come, each sequence number once.
// - A missing number is reported when gapTimeoutMs have passed and no line has brought it, and only then.

import { FeedSequencer, type FeedStats } from './feed-sequencer.ts';
import { DEFAULT_MAX_FRAME_BYTES } from './frame-reader.ts';
import type { FrameSink } from './frame-sink.ts';
import type { StreamTable } from './session.ts';
import type { UdpFeed } from './udp-endpoint.ts';
import { DEFAULT_RECEIVE_BUFFER_BYTES, openUdpReceiver, type UdpReceiver } from './udp-socket.ts';

/** How long the other line, or a late datagram, has to fill a gap. */
export const DEFAULT_GAP_TIMEOUT_MS = 200;

export interface DatagramListenerOptions {
  feeds: readonly UdpFeed[];
  streams: StreamTable;
  sink: FrameSink;
  /** Asked of the kernel for each line, default 32 MiB */
  receiveBufferBytes?: number;
  gapTimeoutMs?: number;
  maxFrameBytes?: number;
}

export interface DatagramLine {
  feed: string;
  /** host:port as it appears in gaps and in the quarantine */
  address: string;
  port: number;
  /** Receive buffer that was granted, null: unknown */
  receiveBufferBytes: number | null;
  /** Datagrams dropped by the kernel since the start, a count that wraps at 2^32; null: unknown */
  kernelDrops(): number | null;
}

export interface DatagramListener {
  readonly lines: readonly DatagramLine[];
  /** Counters by feed. */
  readonly stats: ReadonlyMap<string, Readonly<FeedStats>>;
  /** Resolves when no datagram has come for a moment, or after `deadlineMs`. */
  drain(deadlineMs: number): Promise<void>;
  /** Closes the sockets, then reports every gap that is still open. */
  close(): void;
}

const QUIET_MS = 50;
const POLL_MS = 10;
const MIN_TICK_MS = 5;

/** Opens all lines of all feeds, or none: errors as openUdpReceiver. */
export async function createDatagramListener(options: DatagramListenerOptions): Promise<DatagramListener> {
  const gapTimeoutMs = options.gapTimeoutMs ?? DEFAULT_GAP_TIMEOUT_MS;
  const maxFrameBytes = options.maxFrameBytes ?? DEFAULT_MAX_FRAME_BYTES;
  const bufferBytes = options.receiveBufferBytes ?? DEFAULT_RECEIVE_BUFFER_BYTES;
  const receivers: UdpReceiver[] = [];
  const sequencers: FeedSequencer[] = [];
  const lines: DatagramLine[] = [];
  const closeSockets = (): void => {
    for (const receiver of receivers) receiver.close();
  };
  try {
    for (const feed of options.feeds) {
      const sequencer = new FeedSequencer(feed.name, options.streams, options.sink, maxFrameBytes);
      sequencers.push(sequencer);
      for (const line of feed.lines) {
        let address = '';
        const receiver = await openUdpReceiver(line, bufferBytes, (bytes, view, start, end) =>
          sequencer.packet(bytes, view, start, end, address, performance.now()),
        );
        address = receiver.address;
        receivers.push(receiver);
        const { port, receiveBufferBytes } = receiver;
        const drops = () => receiver.kernelDrops();
        lines.push({ feed: feed.name, address, port, receiveBufferBytes, kernelDrops: drops });
      }
    }
  } catch (error) {
    closeSockets();
    throw error;
  }
  const tickMs = Math.max(MIN_TICK_MS, Math.floor(gapTimeoutMs / 4));
  const timer = setInterval(() => {
    const nowMs = performance.now();
    for (const sequencer of sequencers) sequencer.tick(nowMs, gapTimeoutMs);
  }, tickMs);
  let closed = false;
  const packetsSeen = (): number => sequencers.reduce((sum, { stats }) => sum + stats.packets, 0);
  return {
    lines,
    stats: new Map(sequencers.map(({ name, stats }) => [name, stats])),
    async drain(deadlineMs) {
      const deadline = performance.now() + deadlineMs;
      let quietSince = performance.now();
      let seen = packetsSeen();
      while (performance.now() < deadline && performance.now() - quietSince < QUIET_MS) {
        await Bun.sleep(POLL_MS);
        if (packetsSeen() !== seen) quietSince = performance.now();
        seen = packetsSeen();
      }
    },
    close() {
      if (closed) return;
      closed = true;
      clearInterval(timer);
      closeSockets();
      for (const sequencer of sequencers) sequencer.tick(performance.now(), 0);
    },
  };
}
