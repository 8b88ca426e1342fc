import { describe, expect, test } from 'bun:test';
import { blockSizeBytes, encodeBlock } from '../../src/columns/block-codec.ts';
import { topicByName } from '../../src/schema/registry.ts';
import {
  addToGroup,
  deduplicationToken,
  type GroupLimits,
  type InsertGroup,
  isUsedUp,
  needsTimes,
  openForGroups,
  partitionBounds,
  rowsOf,
  slicesAfter,
  startGroup,
} from '../../src/sink/insert-group.ts';
import type { WalBlock } from '../../src/wal/cursor.ts';
import type { RecordHeader } from '../../src/wal/format.ts';
import { seededRandom } from '../support/random.ts';
import { batchOf, randomRow, streamsOf } from './wal-fixture.ts';

const spans = topicByName('latency_spans')!;
const random = seededRandom('insert groups');
const DAY_NS = 86_400_000_000_000n;
const NOON = 20_000n * DAY_NS + DAY_NS / 2n;

const isInOrder = (times: readonly bigint[]) =>
  times.every((time, row) => row === 0 || times[row - 1]! <= time);

/** A block as the cursor gives it; `inTimeOrder` may only be true where it is. */
function walBlock(
  lsn: bigint,
  times: readonly bigint[],
  recorder = 'r',
  inTimeOrder = isInOrder(times),
): WalBlock {
  const rows = times.map(() => randomRow(spans, random));
  const batch = batchOf(spans, rows, (row) => times[row]!);
  const payload = new Uint8Array(blockSizeBytes(batch, streamsOf(batch)));
  encodeBlock(batch, streamsOf(batch), payload);
  const payloadSizeBytes = payload.length;
  const payloadChecksum = Bun.hash.xxHash3(payload);
  const header = {
    lsn,
    rowCount: times.length,
    payloadSizeBytes,
    payloadChecksum,
    firstIngestTs: times[0]!,
    lastIngestTs: times.at(-1)!,
    inTimeOrder,
  } as RecordHeader;
  // As the cursor gives it to a group reader.
  const read = needsTimes(header) ? payload : new Uint8Array(0);
  return { header, payload: read, walId: 9n, meta: { recorder } } as unknown as WalBlock;
}

/** Cuts blocks into groups as the group reader does. */
function groupsOf(blocks: readonly WalBlock[], limits: GroupLimits): InsertGroup[] {
  const groups: InsertGroup[] = [];
  let group: InsertGroup | null = null;
  for (const block of blocks) {
    const open = openForGroups(block, spans, 0n, null);
    while (!isUsedUp(open)) {
      group ??= startGroup(open);
      if (addToGroup(group, open, limits)) continue;
      groups.push(group);
      group = null;
    }
  }
  if (group !== null) groups.push(group);
  return groups;
}

const lsnsOf = (group: InsertGroup): bigint[] =>
  group.slices.flatMap(({ lsn, fromRow, toRow }) =>
    Array.from({ length: toRow - fromRow }, (_, index) => lsn + BigInt(fromRow + index)),
  );

describe('insert groups', () => {
  test('every row is in exactly one group, in order, within limits and one partition', () => {
    for (let round = 0; round < 50; round++) {
      let lsn = BigInt(random.int(0, 1000));
      let time = NOON;
      const timeOf = new Map<bigint, bigint>();
      const blocks = Array.from({ length: random.int(1, 8) }, () => {
        lsn += BigInt(random.int(0, 5)); // rows of other topics
        const times = Array.from({ length: random.int(1, 40) }, () => {
          // The clock may also step back.
          time += BigInt(random.int(-1, 4)) * (DAY_NS / 16n);
          return time;
        });
        for (const [row, ts] of times.entries()) timeOf.set(lsn + BigInt(row), ts);
        const block = walBlock(lsn, times);
        lsn += BigInt(times.length);
        return block;
      });
      const limits = { rows: random.int(1, 60), bytes: random.int(500, 20_000) };
      const groups = groupsOf(blocks, limits);
      expect(groups.flatMap(lsnsOf)).toEqual([...timeOf.keys()]);
      for (const group of groups) {
        const lsns = lsnsOf(group);
        expect(group.rowCount).toBe(lsns.length);
        expect([group.firstLsn, group.lastLsn]).toEqual([lsns[0]!, lsns.at(-1)!]);
        expect(group.rowCount).toBeLessThanOrEqual(limits.rows);
        if (group.slices.length > 1) expect(group.payloadBytes).toBeLessThanOrEqual(limits.bytes);
        const days = new Set(lsns.map((each) => timeOf.get(each)! / DAY_NS));
        expect(days.size).toBe(1);
      }
      const tokens = groups.map(deduplicationToken);
      expect(new Set(tokens).size).toBe(groups.length);
      expect(groupsOf(blocks, limits).map(deduplicationToken)).toEqual(tokens);
    }
  });

  test('a plan from headers is the one from all times, and asks for the times it needs', () => {
    let read = 0;
    for (let round = 0; round < 50; round++) {
      let time = NOON;
      const timesOf = Array.from({ length: random.int(1, 8) }, () =>
        Array.from({ length: random.int(1, 40) }, () => {
          if (random.int(0, 30) === 0) time += BigInt(random.int(-1, 1)) * (DAY_NS / 2n);
          time += BigInt(random.int(0, 1));
          return time;
        }),
      );
      const limits = { rows: random.int(1, 60), bytes: random.int(500, 20_000) };
      const blocks = timesOf.map((times, index) => walBlock(BigInt(index * 100), times));
      const unordered = blocks.map((block, index) => {
        const header = { ...block.header, inTimeOrder: false };
        const { payload } = walBlock(header.lsn, timesOf[index]!, 'r', false);
        return { ...block, header, payload };
      });
      read += blocks.filter(({ payload }) => payload.length > 0).length;
      const plan = groupsOf(blocks, limits);
      expect(plan.map(deduplicationToken)).toEqual(groupsOf(unordered, limits).map(deduplicationToken));
      const partitions = (groups: InsertGroup[]) => groups.map((group) => group.partitionStartNs);
      expect(partitions(plan)).toEqual(partitions(groupsOf(unordered, limits)));
    }
    expect(read).toBeGreaterThan(10);
    const day = NOON - DAY_NS / 2n;
    const asks = (times: bigint[], inTimeOrder = true) =>
      needsTimes(walBlock(0n, times, 'r', inTimeOrder).header);
    expect(asks([day, day + DAY_NS - 1n])).toBe(false);
    expect(asks([day, day + DAY_NS])).toBe(true);
    expect(asks([day - 1n, day])).toBe(true);
    // First and last of the same day, another between them: the clock went there and back.
    expect(asks([NOON, NOON + DAY_NS, NOON + 1n], false)).toBe(true);
  });

  test('another recorder starts another group', () => {
    const blocks = [walBlock(0n, [NOON], 'a'), walBlock(1n, [NOON], 'b')];
    expect(groupsOf(blocks, { rows: 10, bytes: 1e6 }).map(({ recorder }) => recorder)).toEqual(['a', 'b']);
  });

  test('the same rows with other content have another token', () => {
    const [a] = groupsOf([walBlock(0n, [NOON, NOON])], { rows: 10, bytes: 1e6 });
    const [b] = groupsOf([walBlock(0n, [NOON, NOON])], { rows: 10, bytes: 1e6 });
    expect([a!.firstLsn, a!.lastLsn]).toEqual([b!.firstLsn, b!.lastLsn]);
    expect(deduplicationToken(a!)).not.toBe(deduplicationToken(b!));
  });

  test('rows outside the wanted range are left out of a block', () => {
    const block = walBlock(10n, [NOON, NOON, NOON, NOON]);
    const open = openForGroups(block, spans, 11n, 13n);
    expect([open.nextRow, open.endRow]).toEqual([1, 3]);
    expect(isUsedUp(openForGroups(block, spans, 14n, null))).toBe(true);
    expect(isUsedUp(openForGroups(block, spans, 0n, 10n))).toBe(true);
  });

  test('slicesAfter keeps exactly the rows behind an LSN', () => {
    const [group] = groupsOf([walBlock(5n, [NOON, NOON, NOON]), walBlock(20n, [NOON, NOON])], {
      rows: 10,
      bytes: 1e6,
    });
    for (const after of [0n, 4n, 5n, 6n, 7n, 12n, 19n, 20n, 21n, 30n]) {
      const rest = slicesAfter(group!.slices, after);
      const expected = lsnsOf(group!).filter((lsn) => lsn > after);
      expect(lsnsOf({ ...group!, slices: rest })).toEqual(expected);
      expect(rowsOf(rest)).toBe(expected.length);
    }
  });

  test('partitions are UTC days and months, also before 1970', () => {
    const ns = (iso: string) => BigInt(Date.parse(iso)) * 1_000_000n;
    const cases: [string, 'day' | 'month', string, string][] = [
      ['2024-02-29T23:59:59.999Z', 'day', '2024-02-29T00:00:00Z', '2024-03-01T00:00:00Z'],
      ['2024-02-29T23:59:59.999Z', 'month', '2024-02-01T00:00:00Z', '2024-03-01T00:00:00Z'],
      ['2023-12-31T12:00:00Z', 'month', '2023-12-01T00:00:00Z', '2024-01-01T00:00:00Z'],
      ['1969-12-31T23:59:59.999Z', 'day', '1969-12-31T00:00:00Z', '1970-01-01T00:00:00Z'],
    ];
    for (const [time, by, start, end] of cases) {
      expect(partitionBounds(ns(time) + 999_999n, by)).toEqual({ start: ns(start), end: ns(end) });
    }
    expect(partitionBounds(-1n, 'day')).toEqual({ start: -DAY_NS, end: 0n });
    expect(partitionBounds(0n, 'day')).toEqual({ start: 0n, end: DAY_NS });
  });
});
