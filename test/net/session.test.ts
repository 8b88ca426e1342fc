import { describe, expect, test } from 'bun:test';
import {
  addRange,
  addSequence,
  missingBetween,
  removeRange,
  type SequenceRange,
} from '../../src/net/sequence-ranges.ts';
import { acceptSequence, ackableSeq, dropHolesBelow, StreamTable } from '../../src/net/session.ts';
import { seededRandom } from '../support/random.ts';

describe('StreamTable', () => {
  test('gives each (source, session) one stream, and never an id twice', () => {
    const streams = new StreamTable();
    const a = streams.open('ab', 'c', true);
    expect(streams.open('ab', 'c', true)).toBe(a);
    expect(streams.open('a', 'bc', true)).not.toBe(a);
    expect(new TextDecoder().decode(a.sourceBytes)).toBe('ab');
    const plain = streams.open('unix', 'plain-1', false);
    streams.release(plain);
    expect(streams.get(plain.id)).toBeUndefined();
    expect(streams.open('unix', 'plain-1', false).id).not.toBe(plain.id);
  });

  test('acknowledges what was captured, not what came later', () => {
    const streams = new StreamTable();
    const stream = streams.open('a', 's', true);
    for (let seq = 1; seq <= 10; seq++) acceptSequence(stream, seq);
    streams.touch(stream);
    const capture = streams.capture();
    acceptSequence(stream, 11);
    streams.touch(stream);
    expect(stream.durableSeq).toBe(0);
    streams.markDurable(capture);
    expect(stream.durableSeq).toBe(10);
    expect(streams.capture()).toEqual([{ stream, seq: 11 }]);
    expect(streams.capture()).toEqual([]);
  });

  test('a capture whose sync failed is covered by the next', () => {
    const streams = new StreamTable();
    const stream = streams.open('a', 's', true);
    acceptSequence(stream, 1);
    streams.touch(stream);
    streams.giveBack(streams.capture());
    streams.markDurable(streams.capture());
    expect(stream.durableSeq).toBe(1);
  });

  test('a plain stream is forgotten when it is closed and durable, not before', () => {
    const streams = new StreamTable();
    const stream = streams.open('unix', 'plain-x', false);
    acceptSequence(stream, 1);
    streams.touch(stream);
    streams.release(stream);
    expect(streams.get(stream.id)).toBe(stream);
    const capture = streams.capture();
    expect(streams.get(stream.id)).toBe(stream);
    streams.markDurable(capture);
    expect(streams.get(stream.id)).toBeUndefined();
  });

  test('resumable streams are remembered up to the limit, the least recently used goes first', () => {
    const streams = new StreamTable(3);
    for (const session of ['a', 'b', 'c', 'd', 'e']) {
      const stream = streams.open('s', session, true);
      acceptSequence(stream, 5);
      streams.touch(stream);
      streams.markDurable(streams.capture());
      if (session !== 'b') streams.release(stream);
    }
    expect(streams.snapshot('capture').map(({ session }) => session)).toEqual(['b', 'd', 'e']);
  });

  test('resumes from restored positions, accepts holes once and drops the rest', () => {
    const streams = new StreamTable();
    streams.restore([
      { source: 'a', session: 's', lastSeq: 10, holes: [{ first: 4, last: 5 }] },
      { source: 'unix', session: 'plain-old', lastSeq: 3 },
    ]);
    expect(streams.size).toBe(1);
    const stream = streams.open('a', 's', true);
    expect(stream.durableSeq).toBe(3);
    const accepted = Array.from({ length: 12 }, (_, i) => i + 1).filter((seq) => acceptSequence(stream, seq));
    expect(accepted).toEqual([4, 5, 11, 12]);
    expect(ackableSeq(stream)).toBe(12);
    expect(acceptSequence(stream, 4)).toBe(false);
  });

  test('an acknowledgement never passes a hole', () => {
    const streams = new StreamTable();
    streams.restore([
      {
        source: 'a',
        session: 's',
        lastSeq: 10,
        holes: [
          { first: 4, last: 4 },
          { first: 8, last: 9 },
        ],
      },
    ]);
    const stream = streams.open('a', 's', true);
    acceptSequence(stream, 4);
    streams.touch(stream);
    streams.markDurable(streams.capture());
    expect(stream.durableSeq).toBe(7);
    dropHolesBelow(stream, 9);
    expect(ackableSeq(stream)).toBe(8);
    dropHolesBelow(stream, 10);
    expect(ackableSeq(stream)).toBe(10);
  });

  test('a datagram stream stands at its highest number, whatever is missing below it', () => {
    const streams = new StreamTable();
    const holes = [{ first: 3, last: 4 }];
    const unreported = [{ first: 7, last: 7 }];
    const position = { source: 'f', session: 's', lastSeq: 10 };
    streams.restore([{ ...position, holes, unreported, isDatagram: true }]);
    for (const at of ['capture', 'now'] as const) {
      expect(streams.snapshot(at)).toEqual([{ ...position, unreported }]);
    }
    expect(streams.unreportedSessions('f')).toEqual(['s']);
  });

  test('a snapshot restores to the same positions', () => {
    const streams = new StreamTable();
    const stream = streams.open('é', 's', true);
    acceptSequence(stream, 77);
    streams.touch(stream);
    expect(streams.snapshot('capture')).toEqual([]);
    streams.markDurable(streams.capture());
    const restored = new StreamTable();
    restored.restore(JSON.parse(JSON.stringify(streams.snapshot('capture'))));
    expect(restored.open('é', 's', true).durableSeq).toBe(77);
  });

  test('accepting in any order with crashes equals a set of numbers', () => {
    const random = seededRandom('session');
    for (let round = 0; round < 50; round++) {
      // What a crash left in the WAL: a random subset.
      const survived = new Set<number>();
      const ranges: SequenceRange[] = [];
      for (let i = 0; i < 40; i++) {
        const seq = random.int(1, 60);
        survived.add(seq);
        addSequence(ranges, seq);
      }
      const lastSeq = Math.max(...survived);
      const holes = missingBetween(ranges, 0);
      const streams = new StreamTable();
      streams.restore([{ source: 'a', session: 's', lastSeq, holes }]);
      const stream = streams.open('a', 's', true);
      let prefix = 0;
      while (survived.has(prefix + 1)) prefix++;
      expect(stream.durableSeq).toBe(prefix);
      for (let seq = stream.durableSeq + 1; seq <= 80; seq++) {
        expect(acceptSequence(stream, seq)).toBe(!survived.has(seq));
      }
      expect(ackableSeq(stream)).toBe(80);
    }
  });
});

test('addSequence keeps sorted, joined ranges for any order', () => {
  const random = seededRandom('sequence-ranges');
  for (let round = 0; round < 100; round++) {
    const set = new Set<number>();
    const ranges: SequenceRange[] = [];
    for (let i = 0; i < random.int(1, 60); i++) {
      const seq = random.int(1, 50);
      set.add(seq);
      addSequence(ranges, seq);
    }
    const expected: SequenceRange[] = [];
    for (const seq of [...set].sort((a, b) => a - b)) {
      const previous = expected.at(-1);
      if (previous !== undefined && previous.last + 1 === seq) previous.last = seq;
      else expected.push({ first: seq, last: seq });
    }
    expect(ranges).toEqual(expected);
    const missing = missingBetween(ranges, 0).flatMap(({ first, last }) =>
      Array.from({ length: last - first + 1 }, (_, i) => first + i),
    );
    const max = Math.max(...set);
    expect(missing).toEqual(Array.from({ length: max }, (_, i) => i + 1).filter((seq) => !set.has(seq)));
  }
});

test('addRange and removeRange equal a set of numbers', () => {
  const random = seededRandom('sequence-ranges-2');
  for (let round = 0; round < 200; round++) {
    const set = new Set<number>();
    const ranges: SequenceRange[] = [];
    for (let i = 0; i < random.int(1, 20); i++) {
      const first = random.int(1, 50);
      const last = first + random.int(0, 10);
      const isAdded = random.int(0, 2) > 0;
      if (isAdded) addRange(ranges, first, last);
      else removeRange(ranges, first, last);
      for (let seq = first; seq <= last; seq++) {
        if (isAdded) set.add(seq);
        else set.delete(seq);
      }
      const expected: SequenceRange[] = [];
      for (const seq of [...set].sort((a, b) => a - b)) addSequence(expected, seq);
      expect(ranges).toEqual(expected);
    }
  }
});
