// The producer client: sends frames to a recorder's Unix socket, and with a session makes sure that they
// lie on disk.
//
//   const producer = await connectProducer({ path, session: { source: 'engine', session: runId } });
//   for (const frame of frames) if (!producer.send(frame)) await producer.ready();
//   await producer.drained();          // every frame is durable
//   await producer.close();
//
// Invariants
// - With a session each frame is kept until its Ack. After a lost connection the client connects again
//   (backoff with jitter) and sends again from the last Ack; the recorder drops what it had already.
// - Without a session ("plain") a frame is done when it is written; after a lost connection the first frame
//   that was not written whole is the next.
// - Memory is bounded: at maxBufferedBytes send() says so, and what happens then is the policy.
//
// Life cycle: connecting → open → (connection lost → connecting …) → closed. A refusal, or no connection for
// connectTimeoutMs, ends it: every wait rejects with the reason.

import { RecorderError } from '../errors.ts';
import { type Ack, encodeHello, type Welcome } from '../net/control-messages.ts';
import { RecorderLink } from './recorder-link.ts';
import { SendBuffer } from './send-buffer.ts';
import { Waiters } from './waiters.ts';

export interface ProducerOptions {
  /** Path of the recorder's Unix socket */
  path: string;
  /** Absent: a plain connection, without acknowledgements */
  session?: { source: string; session: string };
  /**
   * Sequence number of the first frame that will be sent, default 1; numbers that are durable already are
   * skipped
   */
  firstSeq?: number;
  /** Frames kept for the Ack, or not yet written, default 32 MiB */
  maxBufferedBytes?: number;
  /**
   * At the bound: `block` send() returns false and waits are up to the caller, `drop` the frame, throw an
   * `error`
   */
  whenFull?: 'block' | 'drop' | 'error';
  /** How long to try before giving up, at the start and after a lost connection, default 30 s */
  connectTimeoutMs?: number;
}

export interface ProducerStats {
  /** Frames taken by send() */
  sent: number;
  /** Frames that the recorder has acknowledged, skipped ones included */
  acked: number;
  /** Frames not sent because the recorder had said at the start that they are durable */
  skipped: number;
  /** Frames dropped at the memory bound */
  dropped: number;
  connections: number;
  bytesWritten: number;
}

const DEFAULT_MAX_BUFFERED_BYTES = 32 * 1024 * 1024;
const DEFAULT_CONNECT_TIMEOUT_MS = 30_000;
/**
 * Gap between the bound and where ready() resolves, so that sender and waiter do not alternate frame by
 * frame.
 */
const RESUME_SHARE = 0.5;

/**
 * Connects; resolves when frames can be sent (with a session: after its Welcome). Rejects with a
 * RecorderError.
 */
export async function connectProducer(options: ProducerOptions): Promise<Producer> {
  const producer = new Producer(options);
  await producer.opened();
  return producer;
}

export class Producer {
  readonly stats: ProducerStats = {
    sent: 0,
    acked: 0,
    skipped: 0,
    dropped: 0,
    connections: 0,
    bytesWritten: 0,
  };
  readonly #options: ProducerOptions;
  readonly #maxBufferedBytes: number;
  readonly #buffer: SendBuffer;
  readonly #link: RecorderLink;
  readonly #waiters = new Waiters();
  /** Frames may be written: connected, and welcomed where there is a session. */
  #isOpen = false;
  #isClosing = false;
  #error: RecorderError | null = null;
  #ackedSeq: number;
  #helloSeq = 0;
  #flushIsDue = false;

  /** Starts to connect at once; connectProducer also waits for it. */
  constructor(options: ProducerOptions) {
    this.#options = options;
    this.#maxBufferedBytes = options.maxBufferedBytes ?? DEFAULT_MAX_BUFFERED_BYTES;
    this.#buffer = new SendBuffer(options.firstSeq ?? 1);
    this.#ackedSeq = this.#buffer.nextSeq - 1;
    const timeoutMs = options.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
    this.#link = new RecorderLink(options.path, timeoutMs, {
      connected: () => this.#connected(),
      message: (message) => this.#message(message),
      drain: () => this.#write(),
      lost: () => {
        this.#isOpen = false;
      },
      failed: (error) => this.#fail(error),
    });
    this.#link.start();
  }

  /** Sequence number that the next frame gets. */
  get nextSeq(): number {
    return this.#buffer.nextSeq;
  }

  /** Last sequence number that is acknowledged. */
  get ackedSeq(): number {
    return this.#ackedSeq;
  }

  /**
   * Takes a copy of `frame` (one FlatBuffer without size prefix). False: the memory bound is reached, await
   * ready() before the next one. Throws a RecorderError after a refusal or close(), and at the bound with
   * policy `error`.
   */
  send(frame: Uint8Array): boolean {
    if (this.#error !== null) throw this.#error;
    if (this.#isClosing) throw new RecorderError('producer_closed', 'the producer is closed');
    const buffer = this.#buffer;
    const policy = this.#options.whenFull ?? 'block';
    if (policy !== 'block' && buffer.sizeBytes + frame.byteLength > this.#maxBufferedBytes) {
      if (policy === 'error') {
        throw new RecorderError('producer_full', `${buffer.sizeBytes} bytes wait for the recorder`);
      }
      this.stats.dropped++;
      return false;
    }
    this.stats.sent++;
    if (buffer.nextSeq <= this.#ackedSeq) {
      buffer.nextSeq++;
      this.stats.skipped++;
      this.stats.acked++;
      return true;
    }
    buffer.append(frame);
    if (buffer.hasFullChunk) this.#write();
    else if (!this.#flushIsDue) {
      this.#flushIsDue = true;
      queueMicrotask(() => {
        this.#flushIsDue = false;
        this.#write();
      });
    }
    return buffer.sizeBytes < this.#maxBufferedBytes;
  }

  /** Resolves when the connection is open. */
  opened(): Promise<void> {
    return this.#waiters.when(() => this.#isOpen);
  }

  /** Resolves when there is room again, well below the bound. */
  ready(): Promise<void> {
    return this.#waiters.when(() => this.#buffer.sizeBytes <= this.#maxBufferedBytes * RESUME_SHARE);
  }

  /** Resolves when every frame is handed to the kernel. */
  flushed(): Promise<void> {
    return this.#waiters.when(() => this.#buffer.isWritten);
  }

  /**
   * Resolves when every frame is durable; without a session: handed to the kernel. Rejects after
   * `timeoutMs`.
   */
  async drained(timeoutMs = Number.POSITIVE_INFINITY): Promise<void> {
    const isMet = () => (this.#options.session === undefined ? this.#buffer.isWritten : this.#isAllAcked());
    const done = this.#waiters.when(isMet);
    if (timeoutMs === Number.POSITIVE_INFINITY) return done;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(this.#lateError(timeoutMs)), timeoutMs);
    });
    try {
      await Promise.race([done, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Waits until all frames are durable (plain: written), then closes. Rejects as drained(), but closes all
   * the same.
   */
  async close(timeoutMs = 60_000): Promise<void> {
    try {
      await this.drained(timeoutMs);
    } finally {
      this.#isClosing = true;
      this.#isOpen = false;
      this.#link.end();
    }
  }

  /** Closes at once; frames that are not acknowledged are left to fate. */
  abort(): void {
    this.#isClosing = true;
    this.#link.terminate();
    this.#fail(new RecorderError('producer_closed', 'the producer is closed'));
  }

  #isAllAcked(): boolean {
    return this.#ackedSeq >= this.#buffer.nextSeq - 1;
  }

  #lateError(timeoutMs: number): RecorderError {
    const waiting = this.#buffer.nextSeq - 1 - this.#ackedSeq;
    return new RecorderError(
      'producer_timeout',
      `${waiting} frames are not acknowledged after ${timeoutMs} ms`,
    );
  }

  #connected(): void {
    this.stats.connections++;
    const { session } = this.#options;
    if (session === undefined) this.#open(this.#buffer.cursorSeq());
    else {
      this.#helloSeq = this.#ackedSeq + 1;
      this.#link.writeWhole(encodeHello(session.source, session.session, this.#helloSeq));
    }
  }

  /** Frames may flow: frame `seq` is the first. */
  #open(seq: number): void {
    this.#buffer.rewind(seq);
    this.#isOpen = true;
    this.#waiters.wake();
    this.#write();
  }

  #message(message: Welcome | Ack): void {
    if (message.kind === 'ack') this.#acked(message.durableSeq);
    else if (!this.#isOpen) this.#welcome(message.durableSeq);
  }

  #welcome(durableSeq: number): void {
    this.#acked(durableSeq);
    const { session } = this.#options;
    const next = this.#ackedSeq + 1;
    // More is durable than we knew: say from where we really go on.
    if (session !== undefined && next > this.#helloSeq) {
      this.#link.writeWhole(encodeHello(session.source, session.session, next));
    }
    this.#open(next);
  }

  #acked(seq: number): void {
    if (seq <= this.#ackedSeq) return;
    const nextSeq = this.#buffer.nextSeq;
    this.stats.acked += Math.max(0, Math.min(seq, nextSeq - 1) - this.#ackedSeq);
    this.#ackedSeq = seq;
    this.#buffer.release(seq);
    this.#waiters.wake();
  }

  #write(): void {
    if (!this.#isOpen) return;
    const buffer = this.#buffer;
    for (let bytes = buffer.pending(); bytes.byteLength > 0; bytes = buffer.pending()) {
      const written = this.#link.write(bytes);
      if (written === 0) break;
      this.stats.bytesWritten += written;
      buffer.written(written);
      if (written < bytes.byteLength) break;
    }
    if (this.#options.session === undefined) buffer.releaseWritten();
    this.#waiters.wake();
  }

  #fail(error: RecorderError): void {
    this.#error ??= error;
    this.#isOpen = false;
    this.#waiters.fail(error);
  }
}
