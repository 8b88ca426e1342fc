// Where each stream stood when the last recorder ended: the positions in the last segment's header, moved on by the
// blocks after it. Groups are whole or not there, so a stream's highest number in the WAL has nothing missing before
// it but frames that were refused.

import { openBlock } from '../columns/block-codec.ts';
import type { StreamPosition } from '../net/session.ts';
import { readTopicModel, type TopicModel } from '../schema/model.ts';
import type { RecordHeader } from '../wal/format.ts';
import type { StreamPosition as WalStreamPosition, WalTopic } from '../wal/segment-meta.ts';

const TWO_32 = 0x1_0000_0000;
const decoder = new TextDecoder();

export class StreamRecovery {
  readonly #positions = new Map<string, StreamPosition>();
  readonly #models = new Map<bigint, TopicModel>();

  /** Takes the positions of a segment header. */
  streams(positions: readonly WalStreamPosition[]): void {
    for (const { source, session, lastSeq } of positions) this.#advance(source, session, Number(lastSeq));
  }

  /** Takes the rows of a block after that header; throws BlockFormatError. */
  block(header: RecordHeader, payload: Uint8Array, topic: WalTopic): void {
    const { streams, streamIndex, seqWords } = openBlock(this.#modelOf(topic), payload, header.rowCount);
    const highest = new Float64Array(streams.length);
    for (let row = 0; row < header.rowCount; row++) {
      const seq = seqWords[row * 2 + 1]! * TWO_32 + seqWords[row * 2]!;
      const index = streamIndex[row]!;
      if (seq > highest[index]!) highest[index] = seq;
    }
    for (const [index, { source, session }] of streams.entries())
      this.#advance(source, session, highest[index]!);
  }

  /** What was found, for StreamTable.restore. */
  positions(): StreamPosition[] {
    return [...this.#positions.values()];
  }

  #advance(sourceBytes: Uint8Array, sessionBytes: Uint8Array, seq: number): void {
    const source = decoder.decode(sourceBytes);
    const session = decoder.decode(sessionBytes);
    const key = JSON.stringify([source, session]);
    const known = this.#positions.get(key);
    if (known === undefined) this.#positions.set(key, { source, session, lastSeq: seq });
    else if (seq > known.lastSeq) known.lastSeq = seq;
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
