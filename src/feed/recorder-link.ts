// A connection to a recorder's Unix socket that comes back: connect with backoff, read control messages,
// write bytes. What is sent, and what has to be sent again, is the producer's business.

import type { Socket } from 'bun';
import { RecorderError } from '../errors.ts';
import { type Ack, decodeControl, RetryableGoodbye, type Welcome } from '../net/control-messages.ts';
import { FrameReader } from '../net/frame-reader.ts';
import { socketHandlers } from '../net/socket-handlers.ts';

const FIRST_BACKOFF_MS = 20;
const MAX_BACKOFF_MS = 1000;

export interface LinkHandlers {
  /** A connection is there; nothing has been written to it. */
  connected(): void;
  /** The recorder has answered. */
  message(message: Welcome | Ack): void;
  /** There is room to write again after a short write. */
  drain(): void;
  /** The connection is gone; another is being tried. */
  lost(): void;
  /** It is over: refused, or no connection in time. Called once, nothing follows. */
  failed(error: RecorderError): void;
}

export class RecorderLink {
  readonly #path: string;
  readonly #connectTimeoutMs: number;
  readonly #handlers: LinkHandlers;
  #socket: Socket | null = null;
  #reader: FrameReader | null = null;
  #isStopped = false;
  #giveUpAt = 0;
  #openedAt = 0;
  /** The recorder has answered on this connection. */
  #isProven = false;
  #backoffMs = FIRST_BACKOFF_MS;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;

  /** Connects on start(); each search for a recorder ends after `connectTimeoutMs`. */
  constructor(path: string, connectTimeoutMs: number, handlers: LinkHandlers) {
    this.#path = path;
    this.#connectTimeoutMs = connectTimeoutMs;
    this.#handlers = handlers;
  }

  /** Begins to connect. */
  start(): void {
    this.#startSearch();
    void this.#connect();
  }

  /** Writes what the kernel takes; returns the bytes taken, 0 where there is no connection. */
  write(bytes: Uint8Array): number {
    return Math.max(0, this.#socket?.write(bytes) ?? 0);
  }

  /** Writes all of a short message or drops the connection: for a connection that has just begun. */
  writeWhole(bytes: Uint8Array): void {
    if (this.write(bytes) !== bytes.byteLength) this.#socket?.terminate();
  }

  /** Ends the connection, after what was written has been sent, and looks for no other. */
  end(): void {
    this.#stop();
    this.#socket?.end();
  }

  /** Cuts the connection and looks for no other. */
  terminate(): void {
    this.#stop();
    this.#socket?.terminate();
  }

  #startSearch(): void {
    this.#giveUpAt = performance.now() + this.#connectTimeoutMs;
    this.#backoffMs = FIRST_BACKOFF_MS;
  }

  #stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#retryTimer);
  }

  async #connect(): Promise<void> {
    try {
      await Bun.connect({
        unix: this.#path,
        socket: socketHandlers({
          binaryType: 'uint8array' as const,
          open: (socket: Socket) => this.#opened(socket),
          data: (socket: Socket, bytes: Uint8Array) => {
            if (socket === this.#socket) this.#reader?.push(bytes);
          },
          drain: (socket: Socket) => {
            if (socket === this.#socket) this.#handlers.drain();
          },
          close: (socket: Socket) => this.#closed(socket),
        }),
      });
    } catch (cause) {
      this.#retry(cause);
    }
  }

  #retry(cause: unknown): void {
    if (this.#isStopped) return;
    if (performance.now() > this.#giveUpAt) {
      const hint = 'is the recorder running, and is this its socket?';
      const message = `no recorder answers at ${this.#path}`;
      this.#fail(new RecorderError('producer_cannot_connect', message, { cause, hint }));
      return;
    }
    // Full jitter: producers that lost the same recorder do not come back in step.
    this.#retryTimer = setTimeout(() => void this.#connect(), Math.random() * this.#backoffMs);
    this.#backoffMs = Math.min(this.#backoffMs * 2, MAX_BACKOFF_MS);
  }

  #opened(socket: Socket): void {
    if (this.#isStopped) {
      socket.terminate();
      return;
    }
    this.#socket = socket;
    this.#openedAt = performance.now();
    this.#isProven = false;
    this.#reader = new FrameReader({
      frame: (bytes, view, start, end) => this.#frame(bytes, view, start, end),
      malformed: () => this.#fail(new RecorderError('producer_protocol', 'the recorder sent no valid frame')),
    });
    this.#handlers.connected();
  }

  #frame(bytes: Uint8Array, view: DataView, start: number, end: number): void {
    const message = decodeControl(bytes, view, start, end);
    if (message.kind === 'welcome' || message.kind === 'ack') {
      this.#isProven = true;
      this.#handlers.message(message);
    } else if (message.kind !== 'goodbye') {
      this.#fail(new RecorderError('producer_protocol', 'the recorder sent an unknown message'));
    } else if (!Object.values(RetryableGoodbye).some((reason) => reason === message.reason)) {
      this.#fail(
        new RecorderError('producer_refused', `the recorder closed the connection: ${message.reason}`),
      );
    }
  }

  #closed(socket: Socket): void {
    if (socket !== this.#socket) return;
    this.#socket = null;
    if (this.#isStopped) return;
    this.#handlers.lost();
    // A recorder that takes connections and drops them unanswered must not be asked without pause, nor for
    // ever.
    if (this.#isProven || performance.now() - this.#openedAt > MAX_BACKOFF_MS) this.#startSearch();
    this.#retry(new Error('the connection was closed'));
  }

  #fail(error: RecorderError): void {
    if (this.#isStopped) return;
    this.terminate();
    this.#handlers.failed(error);
  }
}
