// The newest rows of a topic, read back from the WAL.

import { expect, test } from 'bun:test';
import { blockSizeBytes, encodeBlock } from '../../../src/columns/block-codec.ts';
import { topicByName, topics } from '../../../src/schema/registry.ts';
import { NewestRows } from '../../../src/supervisor/watch/newest-rows.ts';
import { WalSyncError } from '../../../src/wal/errors.ts';
import { openWal } from '../../../src/wal/open.ts';
import type { Wal } from '../../../src/wal/writer.ts';
import { batchOf, randomRow, streamsOf } from '../../sink/wal-fixture.ts';
import { MemoryFileSystem } from '../../support/memory-file-system.ts';
import { seededRandom } from '../../support/random.ts';

const DIR = '/wal';
const NAMES = ['fills', 'orders', 'market_data'];
const random = seededRandom('newest rows');

function openTestWal(fileSystem: MemoryFileSystem): Promise<Wal> {
  return openWal({
    dir: DIR,
    recorder: 'r',
    topics,
    fileSystem,
    segmentSizeBytes: 1 << 16,
    retryIntervalMs: 1,
  });
}

/** Appends a block of random rows and tells of it; the LSN of its first row. */
function append(wal: Wal, newest: NewestRows, name: string, rowCount: number): bigint {
  const model = topicByName(name)!;
  const rows = Array.from({ length: rowCount }, () => randomRow(model, random));
  const batch = batchOf(model, rows, () => 1_700_000_000_000_000_000n);
  const streams = streamsOf(batch);
  const lsn = wal.append({
    topicIndex: topics.indexOf(model),
    rowCount,
    payloadSizeBytes: blockSizeBytes(batch, streams),
    firstSeq: 1n,
    lastSeq: BigInt(rowCount),
    firstStream: 0,
    lastStream: 0,
    streamCount: streams.length,
    firstIngestTs: 0n,
    lastIngestTs: 0n,
    encode: (target) => encodeBlock(batch, streams, target),
  });
  newest.appended(name, lsn, rowCount, wal.lastPlace);
  return lsn;
}

const lsnsOf = (newest: NewestRows, wal: Wal, name: string, limit: number) =>
  newest.read(topicByName(name)!, limit, wal.durableLsn).map((row) => Number(row['wal_lsn']));

test('are the last durable ones of their topic, newest first, over segments', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await openTestWal(fileSystem);
  const newest = new NewestRows(fileSystem, DIR);
  const expected = new Map<string, number[]>(NAMES.map((name) => [name, []]));
  for (let i = 0; i < 120; i++) {
    const name = random.pick(NAMES);
    const rowCount = random.int(1, 6);
    const lsn = Number(append(wal, newest, name, rowCount));
    for (let row = 0; row < rowCount; row++) expected.get(name)!.unshift(lsn + row);
    if (random.int(0, 4) > 0) continue;
    await wal.sync();
    for (const topic of NAMES)
      expect(lsnsOf(newest, wal, topic, 12)).toEqual(expected.get(topic)!.slice(0, 12));
  }
  await wal.sync();
  append(wal, newest, 'fills', 3);
  const open = fileSystem.openFiles;
  expect(lsnsOf(newest, wal, 'fills', 5)).toEqual(expected.get('fills')!.slice(0, 5));
  expect(fileSystem.openFiles).toBe(open);
  await wal.close();
});

test('a trimmed segment, and a topic without rows, give nothing', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await openTestWal(fileSystem);
  const newest = new NewestRows(fileSystem, DIR);
  append(wal, newest, 'fills', 4);
  while (wal.nextLsn < 400n) append(wal, newest, 'orders', 6);
  await wal.sync();
  expect(lsnsOf(newest, wal, 'fills', 5)).toEqual([3, 2, 1, 0]);
  expect(await wal.trim(wal.durableLsn)).not.toEqual([]);
  expect(lsnsOf(newest, wal, 'fills', 5)).toEqual([]);
  expect(lsnsOf(newest, wal, 'market_data', 5)).toEqual([]);
  expect(lsnsOf(newest, wal, 'orders', 5)).toHaveLength(5);
  await wal.close();
});

test('rows of a failed sync are not shown where they were', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await openTestWal(fileSystem);
  const newest = new NewestRows(fileSystem, DIR);
  append(wal, newest, 'fills', 2);
  await wal.sync();
  append(wal, newest, 'fills', 2);
  let failing = true;
  fileSystem.fault = (operation) => (failing && operation === 'sync' ? 'EIO' : null);
  expect(await wal.sync().catch((error: unknown) => error)).toBeInstanceOf(WalSyncError);
  failing = false;
  await wal.sync();
  append(wal, newest, 'fills', 1);
  await wal.sync();
  const shown = lsnsOf(newest, wal, 'fills', 10);
  expect(shown[0]).toBe(Number(wal.durableLsn) - 1);
  expect(new Set(shown).size).toBe(shown.length);
  expect(shown.slice(-2)).toEqual([1, 0]);
  await wal.close();
});

test('those of earlier runs are found again, over segments', async () => {
  const fileSystem = new MemoryFileSystem();
  const expected = new Map<string, number[]>(NAMES.map((name) => [name, []]));
  for (let run = 0; run < 4; run++) {
    const wal = await openTestWal(fileSystem);
    const newest = new NewestRows(fileSystem, DIR);
    newest.seed();
    // What lies further back than the last few segments is not looked for.
    const found = NAMES.map((name) => lsnsOf(newest, wal, name, 8));
    for (const [i, name] of NAMES.entries())
      expect(found[i]!).toEqual(expected.get(name)!.slice(0, found[i]!.length));
    if (run > 0) expect(found.flat().length).toBeGreaterThan(0);
    for (let i = 0; i < 40; i++) {
      const name = random.pick(NAMES);
      const rowCount = random.int(1, 6);
      const lsn = Number(append(wal, newest, name, rowCount));
      for (let row = 0; row < rowCount; row++) expected.get(name)!.unshift(lsn + row);
    }
    await wal.sync();
    for (const name of NAMES) expect(lsnsOf(newest, wal, name, 4)).toEqual(expected.get(name)!.slice(0, 4));
    await wal.close();
  }
  expect(fileSystem.openFiles).toBe(0);
});
