// One UDP feed: datagrams of its lines in, frames out in the order of arrival, each message once. Pure: no
// IO, no timers, time comes in as an argument.
//
// Sessions of a feed come and go; each has its own stream and its own gap tracker, shared by the feed's
// lines.

import { MIN_FRAME_BYTES } from './frame-reader.ts';
import { type FrameSink, FramingFault, NO_STREAM } from './frame-sink.ts';
import { GapTracker } from './gap-tracker.ts';
import {
  BLOCK_PREFIX_BYTES,
  HEADER_BYTES,
  hasSession,
  type MoldHeader,
  readMoldHeader,
  readMoldSession,
  SESSION_BYTES,
} from './mold-udp64.ts';
import type { Stream, StreamTable } from './session.ts';

/** Sessions followed at the same time; the one that was silent longest gives way. */
export const MAX_SESSIONS = 256;
const TWO_32 = 0x1_0000_0000;

export interface FeedStats {
  packets: number;
  bytes: number;
  heartbeats: number;
  /** Handed to the sink as frames */
  frames: number;
  /** Messages dropped because a copy had come before */
  duplicates: number;
  malformed: number;
  /** Sequence numbers given up, and how many of those came after all */
  missing: number;
  filledLate: number;
}

interface Session {
  /** The field as it stands in datagrams, 10 bytes */
  field: Uint8Array;
  stream: Stream;
  tracker: GapTracker;
}

export class FeedSequencer {
  readonly name: string;
  readonly stats: FeedStats = {
    packets: 0,
    bytes: 0,
    heartbeats: 0,
    frames: 0,
    duplicates: 0,
    malformed: 0,
    missing: 0,
    filledLate: 0,
  };
  readonly #streams: StreamTable;
  readonly #sink: FrameSink;
  readonly #maxFrameBytes: number;
  readonly #header: MoldHeader = { seq: 0, count: 0, endOfSession: false };
  /** By id; in the order of last use, save that the current one may stand anywhere. */
  readonly #sessions = new Map<string, Session>();
  #current: Session | null = null;

  constructor(name: string, streams: StreamTable, sink: FrameSink, maxFrameBytes: number) {
    this.name = name;
    this.#streams = streams;
    this.#sink = sink;
    this.#maxFrameBytes = maxFrameBytes;
    streams.reserveSource(name);
    // What an earlier process has found missing is reported also where its session goes on no more.
    for (const id of streams.unreportedSessions(name)) this.#sessions.set(id, this.#openSession(id));
  }

  /** Takes the datagram bytes[start, end) that came on `line` at `nowMs`: one chunk of the sink. */
  packet(bytes: Uint8Array, view: DataView, start: number, end: number, line: string, nowMs: number): void {
    this.stats.packets++;
    this.stats.bytes += end - start;
    this.#sink.chunkStart(line);
    const fault = readMoldHeader(view, start, end, this.#header);
    if (fault !== null) {
      this.#malformed(NO_STREAM, 0, fault, bytes, start, end, end - start, line);
    } else {
      const session = this.#sessionOf(bytes, start);
      const { seq, count } = this.#header;
      if (count === 0) {
        this.stats.heartbeats++;
        session.tracker.reveal(seq, line, nowMs);
      } else this.#messages(session, seq, count, bytes, view, start + HEADER_BYTES, end, line, nowMs);
      session.stream.receivedSeq = session.tracker.next - 1;
      this.#streams.touch(session.stream);
    }
    this.#sink.chunkEnd();
  }

  /** Reports the gaps that have waited for `timeoutMs` and what was filled late; 0 reports every open gap. */
  tick(nowMs: number, timeoutMs: number): void {
    for (const session of this.#sessions.values()) {
      if (session.tracker.isWaiting) this.#tickSession(session, nowMs, timeoutMs);
    }
  }

  /** Takes the message blocks at bytes[first, end). */
  #messages(
    session: Session,
    firstSeq: number,
    count: number,
    bytes: Uint8Array,
    view: DataView,
    first: number,
    end: number,
    line: string,
    nowMs: number,
  ): void {
    const { tracker, stream } = session;
    const { stats } = this;
    let position = first;
    for (let i = 0; i < count; i++) {
      const start = position + BLOCK_PREFIX_BYTES;
      const blockEnd = start <= end ? start + view.getUint16(position) : end + 1;
      const seq = firstSeq + i;
      if (blockEnd > end) {
        // What the count claims and the datagram does not hold is a gap, unless the other line brings it.
        this.#malformed(stream.id, seq, FramingFault.badCount, bytes, position, end, end - position, line);
        return;
      }
      position = blockEnd;
      if (!tracker.accept(seq, line, nowMs)) {
        stats.duplicates++;
        continue;
      }
      // Before the frame: it may begin a segment, whose header names the position.
      stream.receivedSeq = tracker.next - 1;
      const size = blockEnd - start;
      if (size >= MIN_FRAME_BYTES && size <= this.#maxFrameBytes) {
        stats.frames++;
        this.#sink.frame(stream.id, seq >>> 0, Math.floor(seq / TWO_32), bytes, view, start, blockEnd);
      } else {
        const reason = size < MIN_FRAME_BYTES ? FramingFault.tooShort : FramingFault.tooLarge;
        this.#malformed(stream.id, seq, reason, bytes, start, blockEnd, size, line);
      }
    }
    if (position < end) {
      const rest = end - position;
      this.#malformed(
        stream.id,
        firstSeq + count,
        FramingFault.trailingBytes,
        bytes,
        position,
        end,
        rest,
        line,
      );
    }
  }

  /** The session of the datagram that begins at `start`. */
  #sessionOf(bytes: Uint8Array, start: number): Session {
    if (this.#current !== null && hasSession(bytes, start, this.#current.field)) return this.#current;
    const field = bytes.slice(start, start + SESSION_BYTES);
    const id = readMoldSession(field);
    let session = this.#sessions.get(id);
    if (session === undefined) session = this.#openSession(id);
    // Filled up with NULs instead of spaces it is the same session: the field follows what was seen last.
    session.field = field;
    this.#sessions.delete(id);
    this.#sessions.set(id, session);
    this.#current = session;
    return session;
  }

  #openSession(id: string): Session {
    if (this.#sessions.size >= MAX_SESSIONS) this.#closeOldest();
    const stream = this.#streams.open(this.name, id, true);
    const tracker = new GapTracker(stream.receivedSeq + 1, stream.holes, stream.unreported);
    stream.openGaps = () => tracker.unreportedGaps();
    stream.isDatagram = true;
    // From here the tracker knows what is missing.
    stream.holes = [];
    return { field: new Uint8Array(SESSION_BYTES), stream, tracker };
  }

  #closeOldest(): void {
    for (const [id, session] of this.#sessions) {
      this.#tickSession(session, 0, Number.NEGATIVE_INFINITY);
      this.#sessions.delete(id);
      session.stream.openGaps = null;
      session.stream.unreported = [];
      this.#streams.release(session.stream);
      if (this.#current === session) this.#current = null;
      return;
    }
  }

  #tickSession(session: Session, nowMs: number, timeoutMs: number): void {
    const { id: streamId, source, session: sessionId } = session.stream;
    session.tracker.tick(nowMs, timeoutMs, (state, firstSeq, lastSeq, line) => {
      const count = lastSeq - firstSeq + 1;
      if (state === 'missing') this.stats.missing += count;
      else this.stats.filledLate += count;
      // The gap's row refers to the stream: it must not be forgotten before that row is durable.
      this.#streams.touch(session.stream);
      this.#sink.gap({ streamId, source, session: sessionId, firstSeq, lastSeq, line, state });
    });
  }

  #malformed(
    streamId: number,
    seq: number,
    reason: FramingFault,
    bytes: Uint8Array,
    start: number,
    end: number,
    claimedSizeBytes: number,
    origin: string,
  ): void {
    this.stats.malformed++;
    this.#sink.malformed({ streamId, seq, reason, bytes, start, end, claimedSizeBytes, origin });
  }
}
