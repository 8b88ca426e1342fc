// What is left of a WAL is counted from the headers of its segments, and is what a look at every row says.

import { expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FileHandle, FileSystem } from '../../src/io/file-system.ts';
import { realFileSystem } from '../../src/io/real-file-system.ts';
import { topicByName } from '../../src/schema/registry.ts';
import { measureBacklog } from '../../src/sink/backlog.ts';
import { createCursor } from '../../src/wal/cursor.ts';
import { segmentsAmong } from '../../src/wal/format.ts';
import { seededRandom } from '../support/random.ts';
import { randomRow, writeWal } from './wal-fixture.ts';

const random = seededRandom('backlog');
const used = [topicByName('orders')!, topicByName('latency_spans')!, topicByName('gaps')!];

interface Placed {
  topic: string;
  lsn: bigint;
  rowCount: number;
}

/** All blocks of the log, in their order. */
function blocksOf(dir: string, endLsn: bigint): Placed[] {
  const placed: Placed[] = [];
  const reading = { fileSystem: realFileSystem, dir, durableLsn: () => endLsn };
  const cursor = createCursor({ ...reading, fromLsn: 0n, topic: null });
  for (let block = cursor.next(); block !== null; block = cursor.next()) {
    const { lsn, rowCount } = block.header;
    placed.push({ topic: block.topic.topic, lsn, rowCount });
  }
  cursor.close();
  return placed;
}

/** Rows by topic from an LSN of each on, row by row. */
function oracle(blocks: readonly Placed[], from: ReadonlyMap<string, bigint>): Map<string, bigint> {
  const counts = new Map<string, bigint>();
  for (const { topic, lsn, rowCount } of blocks) {
    const least = from.get(topic);
    for (let row = 0; row < rowCount; row++) {
      if (least === undefined || lsn + BigInt(row) < least) continue;
      counts.set(topic, (counts.get(topic) ?? 0n) + 1n);
    }
  }
  return counts;
}

test('the count is that of all rows wherever topics stand; most segments are not read', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'recorder-backlog-'));
  try {
    const blocks = Array.from({ length: 160 }, () => {
      const topic = random.pick(used);
      const rows = Array.from({ length: random.int(1, 120) }, () => randomRow(topic, random));
      return { topic, rows, ingestTs: () => 1_700_000_000_000_000_000n };
    });
    const { nextLsn } = await writeWal(dir, used, blocks);
    const segments = segmentsAmong(realFileSystem.list(dir));
    expect(segments.length).toBeGreaterThan(3);
    const placed = blocksOf(dir, nextLsn);
    let reads = 0;
    const counting: FileSystem = Object.create(realFileSystem, {
      open: {
        value: (...args: Parameters<FileSystem['open']>): FileHandle => {
          const file = realFileSystem.open(...args);
          return {
            read: (target: Uint8Array, offset: number) => {
              reads++;
              return file.read(target, offset);
            },
            sizeBytes: () => file.sizeBytes(),
            close: () => file.close(),
          } as FileHandle;
        },
      },
    });
    const ends = [0n, nextLsn, ...segments.map(({ baseLsn }) => baseLsn)];
    for (let round = 0; round < 60; round++) {
      const anywhere = () => BigInt(random.int(0, Number(nextLsn)));
      const lsn = () => (random.int(0, 1) === 0 ? random.pick(ends) : anywhere());
      const from = new Map(used.slice(0, random.int(1, 3)).map(({ topic }) => [topic, lsn()]));
      const fromLsn = (topic: string) => from.get(topic) ?? null;
      const found = measureBacklog(realFileSystem, dir, fromLsn, 0n, nextLsn);
      const rows = new Map([...found].map(([topic, backlog]) => [topic, backlog.rows]));
      expect(new Map([...rows].toSorted())).toEqual(new Map([...oracle(placed, from)].toSorted()));
    }
    measureBacklog(counting, dir, () => 0n, 0n, nextLsn);
    // A header is two reads, looked at twice; only the last segment's records are read.
    const recordsOfLast = reads - segments.length * 4;
    expect(recordsOfLast).toBeLessThan(blocks.length / 2);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}, 60_000);
