// A connection to a recorder's socket that writes whatever it is given, and reads the control messages.

import { connect } from 'node:net';
import { type ControlMessage, decodeControl } from '../../src/net/control-messages.ts';
import { until } from './recorder-process.ts';

export interface RawConnection {
  /** Resolves when the bytes have been handed to the kernel; a closed connection takes none. */
  write(bytes: Uint8Array): Promise<void>;
  /** Control messages that have come. */
  messages(): ControlMessage[];
  /** Waits for an Ack (or a Welcome) of at least this sequence number. */
  acked(seq: number): Promise<void>;
  isClosed(): boolean;
  /** Waits until the recorder has closed the connection. */
  closed(): Promise<void>;
  /** Closes the sending side. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

/** Connects to a Unix socket; rejects where nobody listens. */
export function connectRaw(path: string): Promise<RawConnection> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    let isClosed = false;
    const socket = connect({ path, allowHalfOpen: true });
    socket.setNoDelay();
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk as Uint8Array]);
    });
    socket.on('end', () => socket.end());
    socket.on('close', () => {
      isClosed = true;
    });
    const messages = () => controlMessages(received);
    const connection: RawConnection = {
      write: (bytes) =>
        new Promise((done) => {
          if (isClosed) done();
          else socket.write(bytes, () => done());
        }),
      messages,
      acked: async (seq) => {
        const durable = () =>
          Math.max(-1, ...messages().map((message) => ('durableSeq' in message ? message.durableSeq : -1)));
        await until(
          () => durable() >= seq,
          () => `acknowledgement of ${seq}, last was ${durable()}`,
        );
      },
      isClosed: () => isClosed,
      closed: async () => {
        await until(() => isClosed, 'the recorder does not close the connection');
      },
      end: () => socket.end(),
      destroy: () => socket.destroy(),
    };
    socket.once('connect', () => resolve(connection));
    socket.on('error', (error) => reject(error));
  });
}

function controlMessages(bytes: Buffer): ControlMessage[] {
  const messages: ControlMessage[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 4 <= bytes.length; ) {
    const end = at + 4 + bytes.readUInt32LE(at);
    if (end > bytes.length) break;
    const message = decodeControl(bytes, view, at + 4, end);
    if (message.kind !== 'fault') messages.push(message);
    at = end;
  }
  return messages;
}

/** Bytes with a size prefix in front; `size` where the prefix is to lie. */
export function prefixed(frame: Uint8Array, size = frame.length): Uint8Array {
  const bytes = Buffer.alloc(4 + frame.length);
  bytes.writeUInt32LE(size >>> 0, 0);
  bytes.set(frame, 4);
  return bytes;
}
