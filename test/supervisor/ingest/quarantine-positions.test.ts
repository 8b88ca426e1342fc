import { expect, test } from 'bun:test';
import type { QuarantineEntry } from '../../../src/supervisor/ingest/quarantine.ts';
import { advanceOverRefused } from '../../../src/supervisor/ingest/quarantine-positions.ts';

function entry(session: string, seq: number, reason = 'bad_table', source = 'e'): QuarantineEntry {
  return { time: '', reason, source, session, seq, origin: '', offset: 0, length: 0, claimed: 0 };
}

test('positions move over the refused frames that follow them, and over nothing else', () => {
  const positions = [
    { source: 'e', session: 'a', lastSeq: 10 },
    { source: 'e', session: 'b', lastSeq: 10 },
    { source: 'e', session: 'c', lastSeq: 10 },
  ];
  const entries = [
    entry('a', 9),
    entry('a', 11),
    entry('b', 12),
    entry('a', 12),
    entry('c', 11, 'bad_length'),
    entry('c', 11, 'truncated'),
    entry('c', 11, 'trailing_bytes'),
    entry('c', 11, 'bad_count'),
    entry('', 1, 'short_packet', ''),
    entry('d', 1),
    entry('d', 2, 'too_short'),
    entry('x', 2),
  ];
  const found = advanceOverRefused(positions, entries, []);
  expect(Object.fromEntries(found.map(({ session, lastSeq }) => [session, lastSeq]))).toEqual({
    a: 12,
    b: 10,
    c: 10,
    d: 2,
  });
  expect(positions[0]!.lastSeq).toBe(10);
});
