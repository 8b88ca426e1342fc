// Where a feed's frames go: a recorder's Unix socket, or UDP.

import { connectProducer } from './producer.ts';
import { connectUdpProducer, type UdpProducerOptions } from './udp-producer.ts';

/** What became of the frames. */
export interface SendResult {
  sent: number;
  /** Frames that the recorder says lie on disk; null where it says nothing (UDP, plain stream). */
  acked: number | null;
  /** Frames not sent again, because they were durable before; counted in sent and acked. */
  skipped: number;
  /** Sequence numbers dropped on purpose (UDP). */
  dropped: readonly { first: number; last: number }[];
  bytes: number;
}

export interface FrameSender {
  /** Takes a copy of the frame. False: await ready() first. */
  send(frame: Uint8Array): boolean;
  ready(): Promise<void>;
  /** Waits until all is acknowledged (where there are acknowledgements), and closes. */
  close(): Promise<void>;
  result(): SendResult;
}

export interface SocketTarget {
  path: string;
  /** null: plain stream without acknowledgements. */
  session: { source: string; session: string } | null;
  connectTimeoutMs: number;
  /** How long close() waits for the last acknowledgement. */
  ackTimeoutMs: number;
}

/** Connects to a recorder's Unix socket. Rejects with a RecorderError. */
export async function openSocketSender(target: SocketTarget): Promise<FrameSender> {
  const { path, session, connectTimeoutMs, ackTimeoutMs } = target;
  const producer = await connectProducer({
    path,
    connectTimeoutMs,
    ...(session === null ? {} : { session }),
  });
  return {
    send: (frame) => producer.send(frame),
    ready: () => producer.ready(),
    close: () => producer.close(ackTimeoutMs),
    result: () => ({
      sent: producer.stats.sent,
      acked: session === null ? null : producer.stats.acked,
      skipped: producer.stats.skipped,
      dropped: [],
      bytes: producer.stats.bytesWritten,
    }),
  };
}

/** Opens a sender of MoldUDP64 datagrams. Rejects with the system's error. */
export async function openUdpSender(options: UdpProducerOptions): Promise<FrameSender> {
  const producer = await connectUdpProducer(options);
  return {
    send: (frame) => producer.send(frame),
    ready: () => producer.ready(),
    close: () => producer.close(),
    result: () => ({
      sent: producer.stats.sent,
      acked: null,
      skipped: 0,
      dropped: producer.lostRanges,
      bytes: producer.stats.bytes,
    }),
  };
}
