// Streams: the (source, session) pairs within which sequence numbers count. Pure: no IO, no timers.
//
// Invariants
// - A stream's id is never used twice in a process.
// - receivedSeq is the highest sequence number handed to the sink (or reported malformed); durableSeq <=
//   receivedSeq.
// - holes lie below receivedSeq: numbers that a crash took although later ones survived, because the blocks
//   of several topics are written one after another. A number in a hole is accepted once, any other number
//   up to receivedSeq is a duplicate.
// - What is acknowledged is a prefix without holes: ackableSeq.
//
// Life cycle: restore() at start from what recovery found, open() at a Hello, a plain connection's first
// frame or a new UDP session, capture() when every accepted frame has been appended to the WAL,
// markDurable() after the sync that covers it, release() when nobody sends on it; a released stream is
// forgotten at once when it can not be resumed, otherwise when too many have gathered.
//
// Sequence numbers are JS numbers up to 2^53 - 1: at 10 million frames a second they last 28 years.

import { indexOfSequence, removeSequenceAt, type SequenceRange } from './sequence-ranges.ts';

export const MAX_SEQUENCE = Number.MAX_SAFE_INTEGER;
/** Released streams that are remembered so that their sessions can be resumed. */
export const DEFAULT_MAX_STREAMS = 1024;
/** Sessions of plain connections begin so; no Hello may name one, and recovery need not remember them. */
export const PLAIN_SESSION_PREFIX = 'plain-';

export interface Stream {
  readonly id: number;
  readonly source: string;
  readonly session: string;
  /** UTF-8 of source and session, as they stand in a block's stream table */
  readonly sourceBytes: Uint8Array;
  readonly sessionBytes: Uint8Array;
  /** False for plain connections: their session id is never seen again */
  readonly resumable: boolean;
  /** Datagrams bring it: their sender cannot be held back */
  isDatagram: boolean;
  /** It has brought rows of a topic that goes last when there is no room for all */
  isVital: boolean;
  receivedSeq: number;
  /** Highest number that the last capture covered */
  capturedSeq: number;
  durableSeq: number;
  holes: SequenceRange[];
  /** Missing numbers of datagrams that no gap's row names, as the last capture saw them. */
  unreported: readonly SequenceRange[];
  /** The same as it is now; null while nothing receives the stream. */
  openGaps: (() => SequenceRange[]) | null;
  /** Connections and sequencers that send on it now */
  holders: number;
}

/** What outlives the process: kept in segment headers, found by recovery. */
export interface StreamPosition {
  source: string;
  session: string;
  /** Highest sequence number in the WAL */
  lastSeq: number;
  /** Missing numbers below lastSeq, sorted and disjoint */
  holes?: SequenceRange[];
  isDatagram?: boolean;
  /** Missing numbers of datagrams that no gap's row names yet; none of them is in `holes`. */
  unreported?: readonly SequenceRange[];
}

/** Positions up to which all frames had been appended when capture() was called. */
export type StreamCapture = readonly { stream: Stream; seq: number }[];

/** Highest number up to which nothing is missing; of datagrams, which nobody sends again, the highest. */
export function ackableSeq(stream: Stream): number {
  const hole = stream.isDatagram ? undefined : stream.holes[0];
  return hole === undefined ? stream.receivedSeq : hole.first - 1;
}

/** True where `seq` is new: moves the stream on. False: a duplicate, to be dropped and counted. */
export function acceptSequence(stream: Stream, seq: number): boolean {
  if (seq > stream.receivedSeq) {
    stream.receivedSeq = seq;
    return true;
  }
  const index = indexOfSequence(stream.holes, seq);
  if (index < 0) return false;
  removeSequenceAt(stream.holes, index, seq);
  return true;
}

/** Forgets holes below `seq`: their sender has said that it will not send them again. */
export function dropHolesBelow(stream: Stream, seq: number): void {
  const kept = stream.holes.filter((hole) => hole.last >= seq);
  const first = kept[0];
  if (first !== undefined && first.first < seq) first.first = seq;
  stream.holes = kept;
}

export class StreamTable {
  readonly #maxStreams: number;
  readonly #byId = new Map<number, Stream>();
  /** By source and session; in the order of their last release, so that the oldest is forgotten first. */
  readonly #byName = new Map<string, Stream>();
  readonly #dirty = new Set<Stream>();
  readonly #releasedPlain = new Set<Stream>();
  readonly #reserved = new Set<string>();
  #nextId = 0;

  constructor(maxStreams: number = DEFAULT_MAX_STREAMS) {
    this.#maxStreams = maxStreams;
  }

  /** Number of streams known. */
  get size(): number {
    return this.#byId.size;
  }

  /** The stream with this id, undefined once it is forgotten. */
  get(id: number): Stream | undefined {
    return this.#byId.get(id);
  }

  /** The stream of (source, session), made where it is new; the caller holds it until release(). */
  open(source: string, session: string, resumable: boolean): Stream {
    const known = this.#byName.get(nameKey(source, session));
    const stream = known ?? this.#add(source, session, resumable);
    stream.holders++;
    return stream;
  }

  /** Keeps `source` for a listener's own streams: a Hello that names it is refused. */
  reserveSource(source: string): void {
    this.#reserved.add(source);
  }

  /** True where a Hello may not name this stream. */
  isReserved(source: string, session: string): boolean {
    return this.#reserved.has(source) || session.startsWith(PLAIN_SESSION_PREFIX);
  }

  /** Ends a holder's use of the stream. */
  release(stream: Stream): void {
    stream.holders--;
    if (stream.holders > 0) return;
    if (!stream.resumable) this.#releasedPlain.add(stream);
    const key = nameKey(stream.source, stream.session);
    this.#byName.delete(key);
    this.#byName.set(key, stream);
    // Others beyond the limit go with the next sync: looking for them at each release would let a flood of
    // short sessions cost the square of their number.
    if (!stream.resumable && this.#isSettled(stream)) this.#forget(stream);
  }

  /** Notes that frames of the stream were accepted since the last capture: once a chunk, not once a frame. */
  touch(stream: Stream): void {
    this.#dirty.add(stream);
  }

  /**
   * Positions that a sync makes durable. To be called when every frame handed to the sink so far has been
   * appended to the WAL: a topic whose batch is still open would otherwise be acknowledged without being on
   * disk.
   */
  capture(): StreamCapture {
    const positions = Array.from(this.#dirty, (stream) => ({ stream, seq: ackableSeq(stream) }));
    for (const { stream, seq } of positions) {
      stream.capturedSeq = seq;
      if (stream.openGaps !== null) stream.unreported = stream.openGaps();
    }
    this.#dirty.clear();
    return positions;
  }

  /** Says that the sync which covers `capture` has succeeded. */
  markDurable(capture: StreamCapture): void {
    for (const { stream, seq } of capture) if (seq > stream.durableSeq) stream.durableSeq = seq;
    this.#forgetSome();
  }

  /** Gives back a capture whose sync has failed, so that a later one covers it again. */
  giveBack(capture: StreamCapture): void {
    for (const { stream } of capture) this.#dirty.add(stream);
  }

  /** Sets the positions that recovery found; streams made here can be resumed. */
  restore(positions: Iterable<StreamPosition>): void {
    for (const { source, session, lastSeq, holes, isDatagram = false, unreported = [] } of positions) {
      if (session.startsWith(PLAIN_SESSION_PREFIX)) continue;
      const stream = this.#byName.get(nameKey(source, session)) ?? this.#add(source, session, true);
      stream.receivedSeq = lastSeq;
      stream.holes = (holes ?? []).map((hole) => ({ ...hole }));
      stream.isDatagram = isDatagram;
      stream.unreported = unreported;
      stream.capturedSeq = ackableSeq(stream);
      stream.durableSeq = stream.capturedSeq;
    }
    this.#forgetSome();
  }

  /**
   * Positions of the streams that may be resumed, most recently used last: what a WAL segment says of the
   * rows before it, which are appended but need not be durable yet.
   * @param at 'capture': as the last capture saw them; 'now': as the next one will, at the least
   */
  snapshot(at: 'capture' | 'now'): StreamPosition[] {
    const positions: StreamPosition[] = [];
    for (const stream of this.#byName.values()) {
      const { source, session, openGaps } = stream;
      const lastSeq = at === 'now' ? ackableSeq(stream) : stream.capturedSeq;
      const unreported = at === 'now' && openGaps !== null ? openGaps() : stream.unreported;
      if (!stream.resumable || lastSeq === 0) continue;
      positions.push({ source, session, lastSeq, ...(unreported.length > 0 ? { unreported } : {}) });
    }
    return positions;
  }

  /** Sessions of a source with missing numbers that are still to be reported. */
  unreportedSessions(source: string): string[] {
    const streams = [...this.#byName.values()];
    return streams.filter((of) => of.source === source && of.unreported.length > 0).map((of) => of.session);
  }

  #add(source: string, session: string, resumable: boolean): Stream {
    const encoder = new TextEncoder();
    const stream: Stream = {
      id: this.#nextId++,
      source,
      session,
      sourceBytes: encoder.encode(source),
      sessionBytes: encoder.encode(session),
      resumable,
      isDatagram: false,
      isVital: false,
      receivedSeq: 0,
      capturedSeq: 0,
      durableSeq: 0,
      holes: [],
      unreported: [],
      openGaps: null,
      holders: 0,
    };
    this.#byId.set(stream.id, stream);
    this.#byName.set(nameKey(source, session), stream);
    return stream;
  }

  /**
   * Forgets streams that nobody holds and whose frames are all durable: plain ones always, others beyond
   * the limit.
   */
  #forgetSome(): void {
    for (const stream of this.#releasedPlain) if (this.#isSettled(stream)) this.#forget(stream);
    if (this.#byId.size <= this.#maxStreams) return;
    for (const stream of this.#byName.values()) {
      if (stream.holders === 0 && this.#isSettled(stream)) this.#forget(stream);
      if (this.#byId.size <= this.#maxStreams) return;
    }
  }

  #isSettled(stream: Stream): boolean {
    return stream.durableSeq >= ackableSeq(stream) && !this.#dirty.has(stream);
  }

  #forget(stream: Stream): void {
    this.#releasedPlain.delete(stream);
    this.#byName.delete(nameKey(stream.source, stream.session));
    this.#byId.delete(stream.id);
  }
}

/** One key for the pair; the length keeps ('ab', 'c') and ('a', 'bc') apart. */
const nameKey = (source: string, session: string): string => `${source.length}:${source}${session}`;
