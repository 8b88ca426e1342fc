// One connection of the stream listener: its framing, its session, what is still to be written to it.

import {
  type ControlFault,
  type ControlMessage,
  decodeControl,
  encodeAck,
  encodeGoodbye,
  encodeWelcome,
  type Hello,
  isHello,
} from './control-messages.ts';
import { type FrameHandler, FrameReader } from './frame-reader.ts';
import { FramingFault, NO_STREAM } from './frame-sink.ts';
import { acceptSequence, ackableSeq, dropHolesBelow, type Stream } from './session.ts';
import type { StreamShared } from './stream-shared.ts';
import type { UnixConnection } from './unix-socket.ts';
import { WriteQueue } from './write-queue.ts';

const TWO_32 = 0x1_0000_0000;
/** How long a peer may take to read a Goodbye before its connection is cut. */
const GOODBYE_GRACE_MS = 1000;

export class StreamConnection implements FrameHandler {
  readonly socket: UnixConnection<StreamConnection | undefined>;
  readonly #shared: StreamShared;
  readonly #reader: FrameReader;
  readonly #number: number;
  readonly #output: WriteQueue;
  #stream: Stream | null = null;
  #hasSession = false;
  #nextSeq = 1;
  #ackedSeq = 0;
  #ackDue = false;
  #peerEnded = false;
  /** Nothing is read any more: Goodbye was said, or the connection is gone. */
  #done = false;

  constructor(shared: StreamShared, socket: UnixConnection<StreamConnection | undefined>, number: number) {
    this.#shared = shared;
    this.socket = socket;
    this.#number = number;
    this.#reader = new FrameReader(this, shared.maxFrameBytes);
    this.#output = new WriteQueue(socket);
  }

  /** It has brought a frame, or opened a session. */
  get hasStream(): boolean {
    return this.#stream !== null;
  }

  /** Reads what came; whether more may be read at once. */
  chunk(bytes: Uint8Array): boolean {
    if (this.#done) return false;
    const { stats, sink } = this.#shared;
    stats.chunks++;
    stats.bytes += bytes.byteLength;
    sink.chunkStart(this.#shared.path);
    const intact = this.#reader.push(bytes);
    if (sink.chunkEnd()) this.#shared.hold(this);
    if (this.#stream !== null) this.#shared.streams.touch(this.#stream);
    if (!intact && !this.#done) {
      stats.brokenStreams++;
      this.goodbye('the length prefix of a frame is broken');
    }
    return !this.#done && this.#shared.isRead(this);
  }

  /** FrameHandler: a frame that is whole. */
  frame(bytes: Uint8Array, view: DataView, start: number, end: number): void {
    if (isHello(view, start)) {
      this.#hello(bytes, view, start, end);
      return;
    }
    const stream = this.#stream ?? this.#openPlain();
    const seq = this.#nextSeq++;
    if (!acceptSequence(stream, seq)) {
      this.#shared.stats.duplicates++;
      return;
    }
    this.#shared.stats.frames++;
    const seqHigh = seq < TWO_32 ? 0 : Math.floor(seq / TWO_32);
    this.#shared.sink.frame(stream.id, seq >>> 0, seqHigh, bytes, view, start, end);
  }

  /** FrameHandler: frames that are all new, because nothing of the stream is missing, are taken together. */
  run(bytes: Uint8Array, view: DataView, start: number, end: number): number {
    const stream = this.#stream;
    const { sink, stats, maxFrameBytes } = this.#shared;
    const first = this.#nextSeq;
    if (stream === null || sink.run === undefined) return start;
    if (stream.holes.length > 0 || first !== stream.receivedSeq + 1) return start;
    const [low, high] = [first >>> 0, Math.floor(first / TWO_32)];
    const run = sink.run(stream.id, low, high, bytes, view, start, end, maxFrameBytes);
    this.#nextSeq += run.count;
    stream.receivedSeq += run.count;
    stats.frames += run.count;
    return run.end;
  }

  /** FrameHandler: bytes that are no frame. Those of known extent take a sequence number. */
  malformed(reason: FramingFault, bytes: Uint8Array, start: number, end: number, claimed: number): void {
    const stream = this.#stream ?? this.#openPlain();
    if (reason === FramingFault.badLength) {
      this.#report(stream.id, this.#nextSeq, reason, bytes, start, end, claimed);
      return;
    }
    const seq = this.#nextSeq++;
    if (acceptSequence(stream, seq)) this.#report(stream.id, seq, reason, bytes, start, end, claimed);
    else this.#shared.stats.duplicates++;
  }

  /** The peer sends nothing more. A session is kept open until its last frame is acknowledged. */
  peerEnded(): void {
    this.#peerEnded = true;
    this.#reportTruncated();
    if (this.#stream === null || !this.#hasSession || this.#isAcked(this.#stream)) this.socket.end();
  }

  /** The connection is gone. */
  closed(): void {
    if (!this.#peerEnded) this.#reportTruncated();
    this.#leaveStream();
    this.#done = true;
    this.#output.clear();
  }

  /** Writes an Ack where the session's durable position has moved since the last one. */
  sendAck(): void {
    const stream = this.#stream;
    if (stream === null || !this.#hasSession || this.#done) return;
    if (stream.durableSeq > this.#ackedSeq) {
      if (!this.#output.isEmpty) this.#ackDue = true;
      else {
        this.#ackedSeq = stream.durableSeq;
        this.#output.write(encodeAck(stream.durableSeq));
      }
    }
    if (this.#peerEnded && this.#isAcked(stream) && this.#output.isEmpty) this.socket.end();
  }

  /** Writes what a short write has left. */
  flush(): void {
    this.#output.flush();
    if (!this.#ackDue || !this.#output.isEmpty) return;
    this.#ackDue = false;
    this.sendAck();
  }

  /** Says why, and closes: at once for this side, when it has read it for the peer. */
  goodbye(reason: string): void {
    if (this.#done) return;
    this.#output.write(encodeGoodbye(reason));
    this.#done = true;
    this.#reader.stop();
    this.#leaveStream();
    this.socket.end();
    setTimeout(() => this.socket.terminate(), GOODBYE_GRACE_MS).unref();
  }

  #hello(bytes: Uint8Array, view: DataView, start: number, end: number): void {
    if (this.#stream !== null && !this.#hasSession) {
      this.malformed(FramingFault.badControl, bytes, start, end, end - start);
      return;
    }
    const hello = decodeControl(bytes, view, start, end);
    const refusal = this.#refusal(hello);
    if (refusal !== null) {
      this.#report(NO_STREAM, 0, FramingFault.badControl, bytes, start, end, end - start);
      this.goodbye(refusal);
      return;
    }
    const { source, session, nextSeq } = hello as Hello;
    const stream = this.#stream ?? this.#joinSession(source, session);
    dropHolesBelow(stream, nextSeq);
    if (nextSeq > stream.receivedSeq + 1) {
      const firstSeq = stream.receivedSeq + 1;
      const lastSeq = nextSeq - 1;
      const line = this.#shared.path;
      this.#shared.sink.gap({
        streamId: stream.id,
        source,
        session,
        firstSeq,
        lastSeq,
        line,
        state: 'missing',
      });
      stream.receivedSeq = lastSeq;
    }
    this.#nextSeq = nextSeq;
    this.#ackedSeq = stream.durableSeq;
    this.#output.write(encodeWelcome(stream.durableSeq, this.#shared.maxFrameBytes));
  }

  /** Why a Hello cannot be taken, or null. */
  #refusal(hello: ControlMessage | ControlFault): string | null {
    if (hello.kind === 'fault') return `Hello refused: ${hello.reason}`;
    if (hello.kind !== 'hello') return 'Hello refused: not a Hello';
    const stream = this.#stream;
    if (stream !== null && (stream.source !== hello.source || stream.session !== hello.session)) {
      return 'Hello refused: a connection has one session';
    }
    if (this.#shared.streams.isReserved(hello.source, hello.session)) {
      const name = `source "${hello.source}", session "${hello.session}"`;
      return `Hello refused: ${name} is kept for the recorder's own use`;
    }
    return null;
  }

  #joinSession(source: string, session: string): Stream {
    const stream = this.#shared.streams.open(source, session, true);
    const previous = this.#shared.sessions.get(stream);
    if (previous !== undefined) {
      this.#shared.notice(`session ${source}/${session}: a new connection takes over from an older one`);
      previous.goodbye('a new connection has taken over this session');
    }
    this.#shared.sessions.set(stream, this);
    this.#stream = stream;
    this.#hasSession = true;
    return stream;
  }

  #openPlain(): Stream {
    const { streams, sourceName, plainPrefix } = this.#shared;
    this.#stream = streams.open(sourceName, `${plainPrefix}-${this.#number}`, false);
    return this.#stream;
  }

  #leaveStream(): void {
    const stream = this.#stream;
    if (stream === null) return;
    this.#shared.streams.touch(stream);
    if (this.#shared.sessions.get(stream) === this) this.#shared.sessions.delete(stream);
    this.#shared.streams.release(stream);
    this.#stream = null;
  }

  #isAcked(stream: Stream): boolean {
    return stream.durableSeq >= ackableSeq(stream);
  }

  /** A plain connection's cut frame is lost: it is reported. A session's will be sent again: it is noted. */
  #reportTruncated(): void {
    const partialBytes = this.#reader.partialBytes;
    if (partialBytes === 0 || this.#done) return;
    if (this.#hasSession) {
      const where = `${partialBytes} bytes into frame ${this.#nextSeq} of its session`;
      this.#shared.notice(`a connection ended ${where}`);
      return;
    }
    const stream = this.#stream ?? this.#openPlain();
    const partial = this.#reader.partial();
    const { truncated } = FramingFault;
    this.#shared.sink.chunkStart(this.#shared.path);
    this.#report(stream.id, this.#nextSeq, truncated, partial, 0, partial.byteLength, partialBytes);
    this.#shared.sink.chunkEnd();
  }

  #report(
    streamId: number,
    seq: number,
    reason: FramingFault,
    bytes: Uint8Array,
    start: number,
    end: number,
    claimedSizeBytes: number,
  ): void {
    const { stats, sink, path: origin } = this.#shared;
    stats.malformed++;
    sink.malformed({ streamId, seq, reason, bytes, start, end, claimedSizeBytes, origin });
  }
}
