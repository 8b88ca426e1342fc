// Where each stream stood when the last recorder ended: the positions in the last segment's header, moved
// on by the blocks after it. Groups are whole or not there, so a stream's highest number in the WAL has
// nothing missing before it but frames that were refused.

import { type BlockView, openBlock } from '../../columns/block-codec.ts';
import {
  addRange,
  indexOfSequence,
  removeRange,
  removeSequenceAt,
  type SequenceRange,
} from '../../net/sequence-ranges.ts';
import type { StreamPosition } from '../../net/session.ts';
import { readTopicModel, type TopicModel } from '../../schema/model.ts';
import type { RecordHeader } from '../../wal/format.ts';
import type { StreamPosition as WalStreamPosition, WalTopic } from '../../wal/segment-meta.ts';
import { GAP_STATE, GAPS_TOPIC } from './gap-rows.ts';

const TWO_32 = 0x1_0000_0000;
const decoder = new TextDecoder();

export class StreamRecovery {
  readonly #positions = new Map<string, StreamPosition>();
  readonly #feeds = new Map<StreamPosition, FeedNumbers>();
  readonly #models = new Map<bigint, TopicModel>();
  readonly #datagramSources: ReadonlySet<string>;

  /** `datagramSources`: names of the UDP feeds. */
  constructor(datagramSources: ReadonlySet<string>) {
    this.#datagramSources = datagramSources;
  }

  /** Takes the positions of a segment header. */
  streams(positions: readonly WalStreamPosition[]): void {
    for (const { source, session, lastSeq, unreported = [] } of positions) {
      const feed = this.#feedOf(this.#advance(source, session, Number(lastSeq)));
      for (const [first, last] of unreported) {
        feed?.unreported.push({ first: Number(first), last: Number(last) });
      }
    }
  }

  /** Takes the rows of a block after that header; throws BlockFormatError. */
  block(header: RecordHeader, payload: Uint8Array, topic: WalTopic): void {
    const view = openBlock(this.#modelOf(topic), payload, header.rowCount);
    const { streams, streamIndex, seqWords } = view;
    const highest = new Float64Array(streams.length);
    const positions = streams.map(({ source, session }) => this.#advance(source, session, 0));
    // Before anything moves them on: what a feed has is counted from where the header says.
    const feeds = positions.map((position) => this.#feedOf(position));
    if (topic.topic === GAPS_TOPIC) {
      this.#gaps(view);
      return;
    }
    for (let row = 0; row < header.rowCount; row++) {
      const seq = seqWords[row * 2 + 1]! * TWO_32 + seqWords[row * 2]!;
      const index = streamIndex[row]!;
      if (seq > highest[index]!) highest[index] = seq;
      feeds[index]?.seen.push(seq);
    }
    for (const [index, position] of positions.entries()) {
      if (highest[index]! > position.lastSeq) position.lastSeq = highest[index]!;
    }
  }

  /**
   * A gap's row stands for all its numbers, not only for the first, which is its seq: a restart must not
   * find the rest of it again. Datagrams of a gap may still come late: its numbers are not duplicates.
   */
  #gaps({ rowCount, streams, streamIndex, columns }: BlockView): void {
    const valuesOf = (name: string) => columns.find(({ model }) => model.name === name)?.values;
    const [firsts, lasts, states] = [valuesOf('first_seq'), valuesOf('last_seq'), valuesOf('state')];
    if (!firsts || !lasts || !states) return;
    for (let row = 0; row < rowCount; row++) {
      const first = firsts[row * 2 + 1]! * TWO_32 + firsts[row * 2]!;
      const last = lasts[row * 2 + 1]! * TWO_32 + lasts[row * 2]!;
      const { source, session } = streams[streamIndex[row]!]!;
      const position = this.#advance(source, session, last);
      if (!this.#datagramSources.has(position.source)) continue;
      position.holes ??= [];
      if (states[row] === GAP_STATE.missing) {
        addRange(position.holes, first, last);
        this.#feedOf(position)?.reported.push({ first, last });
      } else removeRange(position.holes, first, last);
    }
  }

  /** What was found, for StreamTable.restore. */
  positions(): StreamPosition[] {
    return [...this.#positions.values()].map((position) => {
      const feed = this.#feeds.get(position);
      if (feed === undefined) return position;
      const unreported = unreportedOf(feed, position.lastSeq);
      // Some may have come late, and the row that says so may not have been written.
      for (const seq of position.holes === undefined ? [] : feed.seen) {
        const index = indexOfSequence(position.holes ?? [], seq);
        if (index >= 0) removeSequenceAt(position.holes ?? [], index, seq);
      }
      return { ...position, isDatagram: true, ...(unreported.length > 0 ? { unreported } : {}) };
    });
  }

  /** What is known of a datagram stream's numbers; null for another stream. */
  #feedOf(position: StreamPosition): FeedNumbers | null {
    if (!this.#datagramSources.has(position.source)) return null;
    let feed = this.#feeds.get(position);
    if (feed === undefined) {
      feed = { baseSeq: position.lastSeq, unreported: [], seen: [], reported: [] };
      this.#feeds.set(position, feed);
    }
    return feed;
  }

  #advance(sourceBytes: Uint8Array, sessionBytes: Uint8Array, seq: number): StreamPosition {
    const source = decoder.decode(sourceBytes);
    const session = decoder.decode(sessionBytes);
    const key = JSON.stringify([source, session]);
    const position = this.#positions.get(key) ?? { source, session, lastSeq: seq };
    this.#positions.set(key, position);
    if (seq > position.lastSeq) position.lastSeq = seq;
    return position;
  }

  #modelOf(topic: WalTopic): TopicModel {
    let model = this.#models.get(topic.fingerprint);
    if (model === undefined) {
      model = readTopicModel(topic.bfbs);
      this.#models.set(topic.fingerprint, model);
    }
    return model;
  }
}

/** Numbers of a datagram stream: up to `baseSeq` as a segment header says, from there on as the rows say. */
interface FeedNumbers {
  baseSeq: number;
  unreported: SequenceRange[];
  seen: number[];
  reported: SequenceRange[];
}

/** Numbers up to `lastSeq` that are missing and that no gap's row names: a crash came before it. */
function unreportedOf(
  { baseSeq, unreported, seen, reported }: FeedNumbers,
  lastSeq: number,
): SequenceRange[] {
  const missing = [...unreported];
  let next = baseSeq + 1;
  for (const seq of Float64Array.from(seen).sort()) {
    if (seq <= baseSeq) removeRange(missing, seq, seq);
    if (seq > next) missing.push({ first: next, last: seq - 1 });
    if (seq >= next) next = seq + 1;
  }
  if (next <= lastSeq) missing.push({ first: next, last: lastSeq });
  for (const { first, last } of reported) removeRange(missing, first, last);
  return missing;
}
