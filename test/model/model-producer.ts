// A producer with a session: it keeps what is not acknowledged and sends it again after each new connection.
// The recorder's side of the connection is the real one; between them is no socket, only calls.

import { decodeControl, encodeHello } from '../../src/net/control-messages.ts';
import type { FrameSink } from '../../src/net/frame-sink.ts';
import type { StreamTable } from '../../src/net/session.ts';
import { StreamConnection } from '../../src/net/stream-connection.ts';
import type { StreamShared } from '../../src/net/stream-shared.ts';
import type { UnixConnection } from '../../src/net/unix-socket.ts';
import type { TopicModel } from '../../src/schema/model.ts';
import type { SeededRandom } from '../support/random.ts';
import { frameOf, sentTopics } from './topics.ts';

/** What was sent as a frame: seq is its place in the list, from 1. */
export interface SentFrame {
  /** Null: a frame that no topic has. */
  model: TopicModel | null;
  id: bigint;
  text: string;
  bytes: Uint8Array;
}

/** A frame with an identifier that nobody knows. */
const FOREIGN = Uint8Array.of(8, 0, 0, 0, 4, 0, 0, 0, 0x58, 0x58, 0x58, 0x58);

/** A random frame. */
export function madeFrame(random: SeededRandom): SentFrame {
  const id = BigInt(random.u32());
  const text = 'x'.repeat(random.int(0, 40));
  const model = random.int(0, 40) === 0 ? null : random.pick(sentTopics);
  return { model, id, text, bytes: model === null ? FOREIGN : frameOf(model, id, text) };
}

/** What the connections of one recorder share. */
export function sharedOf(streams: StreamTable, sink: FrameSink): StreamShared {
  const stats = { connections: 0, held: 0, accepted: 0, refused: 0, chunks: 0, bytes: 0 };
  return {
    path: '/socket',
    sourceName: 'unix',
    maxFrameBytes: 4096,
    streams,
    sink,
    notice: () => {},
    stats: { ...stats, frames: 0, duplicates: 0, malformed: 0, brokenStreams: 0 },
    sessions: new Map(),
    plainPrefix: 'plain-model',
    hold: () => {},
    isRead: () => true,
  };
}

export class ModelProducer {
  readonly source: string;
  readonly session = 's';
  readonly frames: SentFrame[] = [];
  ackedSeq = 0;
  connection: StreamConnection | null = null;
  /** Acknowledgements may be taken back: not under the policy `group`. */
  mayForget = false;
  /** Those of refused frames may: the disk has failed, and took none of them. */
  mayForgetRefused = false;
  readonly #random: SeededRandom;
  /** Frames that this connection has been given. */
  #givenSeq = 0;
  #welcomed = false;
  /** End of the last chunk that is still on its way. */
  #tail = new Uint8Array(0);

  constructor(source: string, random: SeededRandom) {
    this.source = source;
    this.#random = random;
  }

  get isAcked(): boolean {
    return this.ackedSeq === this.frames.length;
  }

  make(count: number): void {
    for (let made = 0; made < count; made++) this.frames.push(madeFrame(this.#random));
  }

  /** Opens a connection; the recorder answers at once. */
  connect(shared: StreamShared): void {
    const socket = {
      write: (bytes: Uint8Array) => this.#receive(bytes),
      end: () => this.#lost(),
      terminate: () => this.#lost(),
    };
    this.#tail = new Uint8Array(0);
    this.#welcomed = false;
    this.connection = new StreamConnection(
      shared,
      socket as unknown as UnixConnection<StreamConnection | undefined>,
      0,
    );
    this.#hello();
    // The Welcome may say that more is durable: it is sent again all the same, or passed over.
    if (this.#random.int(0, 1) === 0) this.#hello();
  }

  #hello(): void {
    this.#givenSeq = this.ackedSeq;
    this.connection?.chunk(encodeHello(this.source, this.session, this.ackedSeq + 1));
  }

  /** Sends everything that is new on this connection; some bytes may stay on their way. */
  send(whole: boolean): void {
    if (this.connection === null || !this.#welcomed) return;
    const parts = [this.#tail, ...this.frames.slice(this.#givenSeq).map(({ bytes }) => bytes)];
    this.#givenSeq = this.frames.length;
    const bytes = new Uint8Array(Buffer.concat(parts));
    const cut = whole ? bytes.length : bytes.length - Math.min(bytes.length, this.#random.int(0, 30));
    this.#tail = bytes.slice(cut);
    if (cut > 0) this.connection.chunk(bytes.subarray(0, cut));
  }

  /** The connection ends; the recorder sees it where it lives. */
  disconnect(seen: boolean): void {
    const { connection } = this;
    this.#lost();
    if (seen) connection?.closed();
  }

  /** For messages. */
  toJSON() {
    const { source, ackedSeq, frames } = this;
    return { source, ackedSeq, frames: frames.length, isConnected: this.connection !== null };
  }

  #lost(): void {
    this.connection = null;
    this.#welcomed = false;
  }

  #receive(bytes: Uint8Array): number {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const message = decodeControl(bytes, view, 4, bytes.byteLength);
    if (message.kind === 'ack') this.#acknowledged(message.durableSeq);
    else if (message.kind === 'welcome') {
      this.#acknowledged(message.durableSeq);
      this.#welcomed = true;
    } else if (message.kind !== 'goodbye') throw new Error(`the producer got ${JSON.stringify(message)}`);
    return bytes.byteLength;
  }

  #acknowledged(seq: number): void {
    if (seq > this.frames.length) throw new Error(`${this.source}: frame ${seq} was never sent and is acked`);
    const isRefused = this.frames.slice(seq, this.ackedSeq).every(({ model }) => model === null);
    if (seq < this.ackedSeq && !this.mayForget && !(isRefused && this.mayForgetRefused)) {
      throw new Error(`${this.source}: ${this.ackedSeq} was acked, now ${seq}`);
    }
    this.ackedSeq = Math.max(seq, this.ackedSeq);
  }
}
