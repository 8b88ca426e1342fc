// Frames that a recorder must not choke on, each with what must become of it, and a good frame after each.

import type { Row } from '../../src/schema/build-frame.ts';
import { createFrameBuilder } from '../../src/schema/build-frame.ts';
import type { TopicModel } from '../../src/schema/model.ts';
import { topicByName, topics } from '../../src/schema/registry.ts';
import { randomRow } from '../support/frames.ts';
import type { SeededRandom } from '../support/random.ts';
import { prefixed } from '../support/raw-connection.ts';

/** `row`: stored; `either`: stored, or refused and kept; else: refused for this reason. */
export type Fate = 'row' | 'either' | string;

/** A frame without its prefix; `bytes` is what goes over a stream for it. */
export interface HostileFrame {
  frame: Uint8Array;
  bytes: Uint8Array;
  fate: Fate;
  /** Size that the prefix claims, where not the frame's */
  claimed?: number;
}

const model = (name: string) => topicByName(name)!;
const spans = createFrameBuilder(model('latency_spans'));
export const PRODUCER_TOPICS = topics.filter(({ topic }) => topic !== 'gaps');
export const MAX_FRAME_BYTES = 1024 * 1024;
const SAMPLE_BYTES = 4096;

/** A good frame that carries its number. */
export function neighbour(number: number): Uint8Array {
  return spans.build({ trace_id: 'neighbour', stage: 'after', latency_ns: number });
}

const stored = (frame: Uint8Array): HostileFrame => ({ frame, bytes: prefixed(frame), fate: 'row' });
const refused = (frame: Uint8Array, fate: Fate): HostileFrame => ({ frame, bytes: prefixed(frame), fate });

/** A frame of the topic with every kind of field, of 100 to 600 bytes. */
export function sampleFrame(topic: TopicModel, random: SeededRandom): Uint8Array {
  const builder = createFrameBuilder(topic);
  for (;;) {
    const frame = builder.build(randomRow(topic, random));
    if (frame.length > 100 && frame.length < 600) return frame;
  }
}

/** Every truncation, and each byte changed in three ways. The identifier is left alone: see foreignFrames. */
export function damagedFrames(topic: TopicModel, random: SeededRandom): HostileFrame[] {
  const frame = sampleFrame(topic, random);
  const damaged = [stored(frame)];
  for (let length = 0; length < frame.length; length++) {
    damaged.push(refused(frame.slice(0, length), length < 8 ? 'too_short' : 'either'));
  }
  for (let at = 0; at < frame.length; at++) {
    if (at >= 4 && at < 8) continue;
    for (const mask of [0xff, 0x01, 1 << random.int(1, 7)]) {
      const copy = frame.slice();
      copy[at]! ^= mask;
      damaged.push(refused(copy, 'either'));
    }
  }
  return damaged;
}

/** Random bytes, some behind a topic's identifier: never a crash, and nearly never a row. */
export function garbageFrames(count: number, random: SeededRandom): HostileFrame[] {
  return Array.from({ length: count }, () => {
    const frame = random.bytes(random.int(8, 300));
    if (random.int(0, 2) > 0) frame.set(Buffer.from(random.pick(PRODUCER_TOPICS).identifier), 4);
    // The first bytes lead to a table somewhere in the frame.
    if (random.int(0, 1) === 1) frame.set([random.int(0, frame.length - 1), 0, 0, 0], 0);
    return refused(frame, 'either');
  });
}

/** Empty, foreign and oversized frames, and control messages where none may be. */
export function foreignFrames(random: SeededRandom): HostileFrame[] {
  const foreign = (identifier: string) => {
    const frame = neighbour(0);
    frame.set(Buffer.from(identifier, 'latin1'), 4);
    return refused(frame, 'unknown_identifier');
  };
  const large = (size: number): HostileFrame => {
    const body = Buffer.alloc(size, 0x5a);
    return { frame: body.subarray(0, SAMPLE_BYTES), bytes: prefixed(body), fate: 'too_large', claimed: size };
  };
  return [
    refused(new Uint8Array(0), 'too_short'),
    refused(Buffer.from('abc'), 'too_short'),
    refused(new Uint8Array(7), 'too_short'),
    refused(new Uint8Array(8), 'unknown_identifier'),
    refused(Buffer.from('GET / HTTP/1.1\r\n\r\n'), 'unknown_identifier'),
    ...['XXXX', 'mktd', 'GAPS', 'ACKN', 'WLCM', '\0\0\0\0', '\xff\xff\xff\xff'].map(foreign),
    refused(random.bytes(50_000), 'unknown_identifier'),
    large(MAX_FRAME_BYTES + 1),
    large(3 * MAX_FRAME_BYTES + 7),
  ];
}

/** Values that look bad and are good: they must be stored exactly. */
export interface OddRow {
  topic: TopicModel;
  row: Row;
}

export function oddRows(random: SeededRandom): OddRow[] {
  const allBytes = Uint8Array.from({ length: 256 }, (_, i) => i);
  const texts = [
    allBytes,
    Buffer.from([0xff, 0xfe, 0xc3, 0x28]),
    Buffer.from([0xed, 0xa0, 0x80]),
    Buffer.alloc(1),
  ];
  const levels = () =>
    Array.from({ length: 10_000 }, () => BigInt.asIntN(64, BigInt(random.u32()) * BigInt(random.u32())));
  return [
    ...texts.map((text) => ({
      topic: model('orders'),
      row: { order_id: text, symbol: text, strategy_id: text, reason: text, exch_ts: 1n },
    })),
    {
      topic: model('market_data'),
      row: {
        symbol: Buffer.from([0x80, 0x81]),
        kind: 200,
        bid_prices: levels(),
        bid_sizes: levels(),
        ask_prices: levels(),
        ask_sizes: levels(),
      },
    },
  ];
}

/** The frame of an odd row. */
export function oddFrame({ topic, row }: OddRow): HostileFrame {
  return stored(createFrameBuilder(topic).build(row));
}

/** All of it for a stream: each frame is followed by a good one with the number of its place. */
export function hostileStream(random: SeededRandom, odd: readonly OddRow[]): HostileFrame[] {
  const frames = [
    ...foreignFrames(random),
    ...odd.map(oddFrame),
    ...PRODUCER_TOPICS.flatMap((topic) => damagedFrames(topic, random)),
    ...garbageFrames(1000, random),
  ];
  return frames.flatMap((frame, i) => [frame, stored(neighbour(2 * i + 2))]);
}
