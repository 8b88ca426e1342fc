import { describe, expect, test } from 'bun:test';
import { FeedSequencer, MAX_SESSIONS } from '../../src/net/feed-sequencer.ts';
import type { GapEvent } from '../../src/net/frame-sink.ts';
import {
  END_OF_SESSION,
  HEADER_BYTES,
  moldSessionField,
  writeMoldBlock,
  writeMoldHeader,
} from '../../src/net/mold-udp64.ts';
import { StreamTable } from '../../src/net/session.ts';
import { type SeededRandom, seededRandom } from '../support/random.ts';
import { takeDatagram } from '../support/take-datagram.ts';
import { RecordingSink, testFrame } from './recording-sink.ts';

const TIMEOUT_MS = 100;

function datagram(
  seq: number,
  messages: Uint8Array[],
  session = 'S',
  claimedCount = messages.length,
): Uint8Array {
  const packet = new Uint8Array(HEADER_BYTES + messages.reduce((sum, { length }) => sum + 2 + length, 0));
  writeMoldHeader(packet, moldSessionField(session), seq, claimedCount);
  let position = HEADER_BYTES;
  for (const message of messages) position = writeMoldBlock(packet, position, message);
  return packet;
}

/** A datagram with frames seq … seq + count - 1. */
function numbered(seq: number, count: number, session = 'S'): Uint8Array {
  return datagram(
    seq,
    Array.from({ length: count }, (_, i) => testFrame(seq + i)),
    session,
  );
}

function setUp(streams = new StreamTable()) {
  const sink = new RecordingSink();
  const feed = new FeedSequencer('f', streams, sink, 1024);
  return { sink, feed, streams };
}

const gapTexts = (gaps: GapEvent[]): string[] =>
  gaps.map(({ state, firstSeq, lastSeq, line }) => `${state} ${firstSeq}-${lastSeq} ${line}`);

describe('FeedSequencer', () => {
  test('hands on frames in order, with the feed as source and the session of the datagram', () => {
    const { sink, feed, streams } = setUp();
    takeDatagram(feed, numbered(1, 3), 'A', 0);
    takeDatagram(feed, numbered(4, 2), 'A', 1);
    expect(sink.seqs()).toEqual([1, 2, 3, 4, 5]);
    expect(sink.frames[2]!.bytes).toEqual(testFrame(3));
    const stream = streams.get(sink.frames[0]!.streamId)!;
    expect([stream.source, stream.session, stream.receivedSeq, stream.isDatagram]).toEqual([
      'f',
      'S',
      5,
      true,
    ]);
    feed.tick(10_000, TIMEOUT_MS);
    expect(sink.gaps).toEqual([]);
  });

  test('an unknown session that begins late has a gap from 1', () => {
    const { sink, feed } = setUp();
    takeDatagram(feed, numbered(11, 1), 'A', 0);
    feed.tick(TIMEOUT_MS - 1, TIMEOUT_MS);
    expect(sink.gaps).toEqual([]);
    feed.tick(TIMEOUT_MS, TIMEOUT_MS);
    expect(gapTexts(sink.gaps)).toEqual(['missing 1-10 A']);
    feed.tick(10 * TIMEOUT_MS, TIMEOUT_MS);
    expect(sink.gaps).toHaveLength(1);
  });

  test('a session that was restored goes on where it was, known holes included', () => {
    const streams = new StreamTable();
    streams.restore([{ source: 'f', session: 'S', lastSeq: 10, holes: [{ first: 3, last: 4 }] }]);
    const { sink, feed } = setUp(streams);
    takeDatagram(feed, numbered(9, 4), 'A', 0);
    takeDatagram(feed, numbered(3, 1), 'A', 0);
    expect(sink.seqs()).toEqual([11, 12, 3]);
    feed.tick(1000, TIMEOUT_MS);
    expect(gapTexts(sink.gaps)).toEqual(['filled_late 3-3 A']);
  });

  test('the other line fills a gap in time: nothing is reported', () => {
    const { sink, feed } = setUp();
    takeDatagram(feed, numbered(1, 2), 'A', 0);
    takeDatagram(feed, numbered(5, 2), 'A', 1);
    takeDatagram(feed, numbered(1, 2), 'B', 2);
    takeDatagram(feed, numbered(3, 2), 'B', 3);
    takeDatagram(feed, numbered(5, 2), 'B', 4);
    expect(sink.seqs()).toEqual([1, 2, 5, 6, 3, 4]);
    feed.tick(1000, TIMEOUT_MS);
    expect(sink.gaps).toEqual([]);
    expect(feed.stats.duplicates).toBe(4);
  });

  test('a gap that is filled in part is reported in what remains', () => {
    const { sink, feed } = setUp();
    takeDatagram(feed, numbered(1, 1), 'A', 0);
    takeDatagram(feed, numbered(10, 1), 'A', 0);
    takeDatagram(feed, numbered(4, 2), 'B', 10);
    feed.tick(TIMEOUT_MS, TIMEOUT_MS);
    expect(gapTexts(sink.gaps)).toEqual(['missing 2-3 A', 'missing 6-9 A']);
  });

  test('what comes after it was given up is delivered and said once, as a range', () => {
    const { sink, feed } = setUp();
    takeDatagram(feed, numbered(6, 1), 'A', 0);
    feed.tick(TIMEOUT_MS, TIMEOUT_MS);
    takeDatagram(feed, numbered(2, 2), 'B', 200);
    takeDatagram(feed, numbered(4, 1), 'B', 200);
    takeDatagram(feed, numbered(2, 2), 'A', 200);
    feed.tick(201, TIMEOUT_MS);
    expect(gapTexts(sink.gaps)).toEqual(['missing 1-5 A', 'filled_late 2-4 B']);
    expect(sink.seqs()).toEqual([6, 2, 3, 4]);
    expect(feed.stats).toMatchObject({ missing: 5, filledLate: 3, duplicates: 2 });
  });

  test.each([
    ['heartbeat', 0],
    ['end of session', END_OF_SESSION],
  ])('a %s shows frames lost at the tail', (_name, count) => {
    const { sink, feed } = setUp();
    takeDatagram(feed, numbered(1, 3), 'A', 0);
    takeDatagram(feed, datagram(4, [], 'S', count), 'A', 1);
    feed.tick(1000, TIMEOUT_MS);
    expect(sink.gaps).toEqual([]);
    takeDatagram(feed, datagram(9, [], 'S', count), 'A', 1001);
    feed.tick(2000, TIMEOUT_MS);
    expect(gapTexts(sink.gaps)).toEqual(['missing 4-8 A']);
    expect(feed.stats.heartbeats).toBe(2);
  });

  test('a count above the messages delivers those, and the rest is a gap the other line can fill', () => {
    const { sink, feed } = setUp();
    takeDatagram(feed, datagram(1, [testFrame(1), testFrame(2)], 'S', 5), 'A', 0);
    expect(sink.seqs()).toEqual([1, 2]);
    expect(sink.refused.map(({ reason, seq }) => [reason, seq])).toEqual([['bad_count', 3]]);
    takeDatagram(feed, numbered(3, 3), 'B', 1);
    expect(sink.seqs()).toEqual([1, 2, 3, 4, 5]);
    feed.tick(1000, TIMEOUT_MS);
    expect(sink.gaps).toEqual([]);
  });

  test('a count below the messages delivers as many and refuses the rest', () => {
    const { sink, feed } = setUp();
    takeDatagram(feed, datagram(1, [testFrame(1), testFrame(2), testFrame(3)], 'S', 2), 'A', 0);
    expect(sink.seqs()).toEqual([1, 2]);
    expect(sink.refused).toHaveLength(1);
    expect(sink.refused[0]).toMatchObject({ reason: 'trailing_bytes', claimedSizeBytes: 26 });
    takeDatagram(feed, numbered(3, 1), 'A', 1);
    expect(sink.seqs()).toEqual([1, 2, 3]);
  });

  test('messages too short or too long are refused alone and keep their numbers', () => {
    const { sink, feed } = setUp();
    const messages = [testFrame(1), new Uint8Array(0), testFrame(3), new Uint8Array(1025), testFrame(5)];
    takeDatagram(feed, datagram(1, messages), 'A', 0);
    expect(sink.seqs()).toEqual([1, 3, 5]);
    expect(sink.refused.map(({ reason, seq }) => [reason, seq])).toEqual([
      ['too_short', 2],
      ['too_large', 4],
    ]);
    feed.tick(1000, TIMEOUT_MS);
    expect(sink.gaps).toEqual([]);
  });

  test('datagrams cut anywhere deliver what is whole and never read beyond their end', () => {
    const whole = numbered(1, 4);
    for (let length = 0; length < whole.length; length++) {
      const { sink, feed } = setUp();
      // Garbage behind the datagram's end would be read by a reader that believes the lengths.
      const buffer = new Uint8Array(whole.length + 50).fill(0xaa);
      buffer.set(whole.subarray(0, length), 5);
      takeDatagram(feed, buffer.subarray(5, 5 + length), 'A', 0);
      const wholeFrames = Math.max(0, Math.floor((length - HEADER_BYTES) / 26));
      expect(sink.seqs()).toEqual(Array.from({ length: wholeFrames }, (_, i) => i + 1));
      expect(sink.refused).toHaveLength(1);
      for (const frame of sink.frames) expect(frame.bytes).toEqual(testFrame(frame.seq));
    }
  });

  test('random bytes and random mutations are counted, and a good datagram after them is delivered', () => {
    const random = seededRandom('feed-sequencer-mutations');
    const { sink, feed } = setUp();
    for (let round = 0; round < 20_000; round++) {
      const packet = round % 2 === 0 ? random.bytes(random.int(0, 100)) : numbered(round + 1, 3);
      for (let i = 0; i < 3 && packet.length > 0; i++)
        packet[random.int(0, packet.length - 1)] = random.int(0, 255);
      takeDatagram(feed, packet, random.pick(['A', 'B']), round);
      if (round % 50 === 0) feed.tick(round, TIMEOUT_MS);
    }
    const framesBefore = sink.frames.length;
    takeDatagram(feed, numbered(1, 2, 'GOOD'), 'A', 1e6);
    expect(sink.frames.length).toBe(framesBefore + 2);
    expect(feed.stats.packets).toBe(20_001);
  });

  test('sessions are followed apart, and only so many', () => {
    const { sink, feed, streams } = setUp();
    for (let round = 1; round <= 3; round++) {
      takeDatagram(feed, numbered(round, 1, 'ONE'), 'A', 0);
      takeDatagram(feed, numbered(round, 1, 'TWO'), 'A', 0);
    }
    expect(sink.seqs()).toEqual([1, 1, 2, 2, 3, 3]);
    takeDatagram(feed, numbered(5, 1, 'ONE'), 'A', 0);
    for (let i = 0; i < MAX_SESSIONS; i++) takeDatagram(feed, numbered(1, 1, `N${i}`), 'A', 0);
    // TWO and then ONE were silent longest; the gap of ONE is reported before it is forgotten.
    expect(gapTexts(sink.gaps)).toEqual(['missing 4-4 A']);
    takeDatagram(feed, numbered(6, 1, 'ONE'), 'A', 0);
    expect(sink.frames.at(-1)!.seq).toBe(6);
    expect(streams.size).toBeGreaterThan(MAX_SESSIONS);
  });

  test('a stream whose gap was reported is remembered until the gap is durable', () => {
    const streams = new StreamTable(1);
    const { sink, feed } = setUp(streams);
    takeDatagram(feed, numbered(1, 1, 'ONE'), 'A', 0);
    takeDatagram(feed, numbered(3, 1, 'ONE'), 'A', 0);
    for (let i = 0; i < MAX_SESSIONS - 1; i++) takeDatagram(feed, numbered(1, 1, `N${i}`), 'A', 0);
    streams.markDurable(streams.capture());
    takeDatagram(feed, numbered(1, 1, 'LAST'), 'A', 0);
    expect(gapTexts(sink.gaps)).toEqual(['missing 2-2 A']);
    const { streamId } = sink.gaps[0]!;
    expect(streams.get(streamId)).toBeDefined();
    const capture = streams.capture();
    expect(streams.get(streamId)).toBeDefined();
    streams.markDurable(capture);
    expect(streams.get(streamId)).toBeUndefined();
  });

  test('a far jump forward costs a gap, not the frames that follow in order', () => {
    const { sink, feed } = setUp();
    takeDatagram(feed, numbered(1, 2), 'A', 0);
    takeDatagram(feed, datagram(2 ** 50, [testFrame(7)]), 'A', 1);
    feed.tick(1000, TIMEOUT_MS);
    for (let seq = 3; seq < 100; seq += 3) takeDatagram(feed, numbered(seq, 3), 'A', 1000);
    expect(sink.frames).toHaveLength(2 + 1 + 99);
    feed.tick(1001, TIMEOUT_MS);
    expect(gapTexts(sink.gaps)).toEqual([`missing 3-${2 ** 50 - 1} A`, 'filled_late 3-101 A']);
  });
});

/** What two lines bring, with drops, repeats and delays. */
function randomArrivals(
  random: SeededRandom,
  total: number,
): { packet: Uint8Array; seqs: number[]; line: string }[] {
  const arrivals: { at: number; packet: Uint8Array; seqs: number[]; line: string }[] = [];
  for (const line of ['A', 'B']) {
    let seq = 1;
    while (seq <= total) {
      const count = Math.min(random.int(1, 6), total - seq + 1);
      const seqs = Array.from({ length: count }, (_, i) => seq + i);
      const copies = random.next() < 0.25 ? 0 : random.next() < 0.05 ? 2 : 1;
      for (let copy = 0; copy < copies; copy++) {
        const late = random.next() < 0.1 ? random.int(1, 60) : 0;
        arrivals.push({ at: seq + late + (line === 'B' ? 3 : 0), packet: numbered(seq, count), seqs, line });
      }
      seq += count;
    }
  }
  return arrivals.sort((a, b) => a.at - b.at);
}

test('two lines with random drops, repeats and delays equal a model that remembers every number', () => {
  const random = seededRandom('feed-sequencer-model');
  for (let round = 0; round < 40; round++) {
    const total = random.int(20, 400);
    const { sink, feed } = setUp();
    // The model: every number's first arrival, and when it became known that the number exists.
    const delivered: number[] = [];
    const seen = new Set<number>();
    const knownAt = new Map<number, number>();
    const reported = new Set<number>();
    const filledLate = new Set<number>();
    let highest = 0;
    const know = (seq: number, now: number): void => {
      while (highest < seq) knownAt.set(++highest, now);
    };
    const timeout = random.int(5, 60);
    let now = 0;
    for (const { packet, seqs, line } of randomArrivals(random, total)) {
      now += random.int(0, 2);
      takeDatagram(feed, packet, line, now);
      for (const seq of seqs) {
        know(seq, now);
        if (seen.has(seq)) continue;
        seen.add(seq);
        delivered.push(seq);
        if (reported.has(seq)) filledLate.add(seq);
      }
      if (random.int(0, 4) === 0) {
        feed.tick(now, timeout);
        for (const [seq, at] of knownAt) if (!seen.has(seq) && now - at >= timeout) reported.add(seq);
      }
    }
    takeDatagram(feed, datagram(total + 1, [], 'S', END_OF_SESSION), 'A', now);
    know(total, now);
    feed.tick(now + timeout, timeout);
    for (const seq of knownAt.keys()) if (!seen.has(seq)) reported.add(seq);

    expect(sink.seqs()).toEqual(delivered);
    for (const { seq, bytes } of sink.frames) expect(bytes).toEqual(testFrame(seq));
    const numbersIn = (state: GapEvent['state']): number[] =>
      sink.gaps
        .filter((gap) => gap.state === state)
        .flatMap(({ firstSeq, lastSeq }) =>
          Array.from({ length: lastSeq - firstSeq + 1 }, (_, i) => firstSeq + i),
        )
        .sort((a, b) => a - b);
    expect(numbersIn('missing')).toEqual([...reported].sort((a, b) => a - b));
    expect(numbersIn('filled_late')).toEqual([...filledLate].sort((a, b) => a - b));
    expect(feed.stats.missing - feed.stats.filledLate).toBe(total - seen.size);
  }
});
