// Which segments go, and that nothing goes that is needed: on a file system that forgets.

import { expect, test } from 'bun:test';
import { type FlushLog, openFlushLog, readFlushLog } from '../../../src/sink/flush-log.ts';
import { Retention, type RetentionOptions } from '../../../src/supervisor/guards/retention.ts';
import { acceptLosses } from '../../../src/wal/accepted-losses.ts';
import { segmentsAmong } from '../../../src/wal/format.ts';
import { readTrimmedLsn } from '../../../src/wal/retention.ts';
import { verifyWal } from '../../../src/wal/verify.ts';
import type { Wal } from '../../../src/wal/writer.ts';
import { MemoryFileSystem } from '../../support/memory-file-system.ts';
import { type SeededRandom, seededRandom } from '../../support/random.ts';
import { appendRandom, DIR, type KnownBlock, open, readAll, TOPICS } from '../../support/wal-fixture.ts';

const DAY_MS = 86_400_000;
const ARCHIVE = '/archive';

interface Scene {
  disk: MemoryFileSystem;
  wal: Wal;
  log: FlushLog;
  blocks: KnownBlock[];
  retention: Retention;
}

async function scene(random: SeededRandom, options: Partial<RetentionOptions> = {}): Promise<Scene> {
  const disk = new MemoryFileSystem();
  disk.mkdir(DIR);
  const wal = await open(disk);
  const blocks: KnownBlock[] = [];
  for (let count = 0; count < 120; count++) blocks.push(appendRandom(wal, random));
  await wal.sync();
  const log = openFlushLog(disk, DIR, wal.walId);
  const retention = new Retention({
    fileSystem: disk,
    dir: DIR,
    walId: wal.walId,
    retainMs: 0,
    retainBytes: 0,
    archiveDir: null,
    trim: (beforeLsn) => wal.trim(beforeLsn),
    now: Date.now,
    ...options,
  });
  return { disk, wal, log, blocks, retention };
}

const segmentsOf = (disk: MemoryFileSystem, dir = DIR) => segmentsAmong(disk.list(dir));
const endOf = ({ lsn, rowCount }: KnownBlock) => lsn + BigInt(rowCount);

/** Delivers the topic's blocks below `lsn`, as groups that are inserted or dead. */
async function deliver(log: FlushLog, blocks: readonly KnownBlock[], topic: string, lsn: bigint) {
  for (const block of blocks) {
    if (block.topic !== topic || endOf(block) > lsn || block.lsn < log.progressOf(topic).nextLsn) continue;
    const group = {
      topic,
      firstLsn: block.lsn,
      lastLsn: endOf(block) - 1n,
      rowCount: block.rowCount,
      contentHash: 0n,
      token: '',
      format: 'Native' as const,
    };
    await log.open(group);
    log.close(group, block.lsn % 3n === 0n ? 'dead' : 'inserted');
  }
}

async function deliverAll({ log, blocks }: Scene, lsn: bigint): Promise<void> {
  for (const { topic } of TOPICS) await deliver(log, blocks, topic, lsn);
}

test('a segment goes when all its rows are delivered or dead letters, and not before', async () => {
  for (let round = 0; round < 25; round++) {
    const random = seededRandom('retention');
    const s = await scene(random);
    const end = Number(s.wal.nextLsn);
    const reached = new Map<string, bigint>();
    for (const { topic } of TOPICS) {
      reached.set(topic, BigInt(random.int(0, 3) === 0 ? end : random.int(0, end)));
      await deliver(s.log, s.blocks, topic, reached.get(topic)!);
    }
    const undelivered = s.blocks.filter((block) => endOf(block) > reached.get(block.topic)!);
    await s.retention.run();
    const kept = segmentsOf(s.disk);
    const first = undelivered[0]?.lsn ?? s.wal.nextLsn;
    expect(kept[0]!.baseLsn <= first).toBe(true);
    // What is kept is needed: the first undelivered row lies in the oldest segment, or the last two are left.
    expect(kept.length === 2 || kept[1]!.baseLsn > first).toBe(true);
    expect(readAll(s.disk, { fromLsn: kept[0]!.baseLsn }).blocks).toEqual(
      s.blocks.filter(({ lsn }) => lsn >= kept[0]!.baseLsn),
    );
    await s.wal.close();
    expect(verifyWal(s.disk, DIR).damaged).toEqual([]);
  }
}, 30_000);

test('lesson 16: checkpoint first, unlink second, also when the power fails in between', async () => {
  const random = seededRandom('retention-power');
  for (let round = 0; round < 60; round++) {
    const s = await scene(random, { archiveDir: random.int(0, 1) === 0 ? null : ARCHIVE });
    await deliverAll(s, s.wal.nextLsn);
    let steps = random.int(0, 40);
    let after: MemoryFileSystem | null = null;
    const order: string[] = [];
    s.disk.fault = (operation, path) => {
      if (steps-- === 0) after = s.disk.afterPowerLoss(random);
      order.push(`${operation} ${path}`);
      return null;
    };
    await s.retention.run();
    after ??= s.disk.afterPowerLoss(random);
    const unlinked = order.findIndex((step) => step.startsWith('unlink') && step.endsWith('.wal'));
    const [synced, noted] = [`sync ${DIR}/flush.log`, `rename ${DIR}/trimmed.json.new`].map((step) =>
      order.indexOf(step),
    );
    expect(synced! >= 0 && synced! < noted! && noted! < unlinked).toBe(true);
    // Whatever went, the flush log that survives knows that it had been delivered.
    const oldest = segmentsOf(after)[0]!.baseLsn;
    const log = readFlushLog(after, DIR)!;
    for (const block of s.blocks.filter(({ lsn }) => lsn < oldest)) {
      expect(log.progress.get(block.topic)!.nextLsn >= endOf(block)).toBe(true);
    }
    if (after.exists(`${DIR}/lock`)) after.unlink(`${DIR}/lock`);
    const again = await open(after);
    expect(again.recovery.findings.filter((finding) => finding.case !== 'torn_tail')).toEqual([]);
    await again.close();
    const damages = verifyWal(after, DIR).damaged;
    expect(damages).toEqual([]);
  }
}, 30_000);

test('a flush log that cannot be synced, is another WAL`s, or is gone removes nothing', async () => {
  const random = seededRandom('retention-log');
  const s = await scene(random);
  await deliverAll(s, s.wal.nextLsn);
  const before = segmentsOf(s.disk);
  s.disk.fault = (operation, path) => (operation === 'sync' && path.endsWith('flush.log') ? 'EIO' : null);
  expect((await s.retention.run()).hold?.reason).toContain('cannot be synced');
  // The second sync would report success for pages that the first one lost (lesson 17).
  s.disk.fault = () => null;
  expect((await s.retention.run()).removed).toEqual([]);
  const foreign = new Retention({
    fileSystem: s.disk,
    dir: DIR,
    walId: s.wal.walId + 1n,
    retainMs: 0,
    retainBytes: 0,
    archiveDir: null,
    trim: (lsn) => s.wal.trim(lsn),
    now: Date.now,
  });
  expect(await foreign.run()).toEqual({ removed: [], hold: null });
  s.disk.unlink(`${DIR}/flush.log`);
  expect(await foreign.run()).toEqual({ removed: [], hold: null });
  expect(segmentsOf(s.disk)).toEqual(before);
  await s.wal.close();
}, 30_000);

test('what a failed sync of the flusher left in memory alone is not believed', async () => {
  for (let round = 0; round < 20; round++) {
    const random = seededRandom('retention after a failed sync');
    const s = await scene(random);
    const lsn = segmentsOf(s.disk)[2]!.baseLsn;
    await deliverAll(s, lsn);
    s.disk.fault = (operation, path) => (operation === 'sync' && path.endsWith('flush.log') ? 'EIO' : null);
    await s.log.end().catch(() => undefined);
    s.disk.fault = () => null;
    await s.retention.run();
    const after = s.disk.afterPowerLoss(random);
    const kept = segmentsOf(after)[0]!.baseLsn;
    const { progress } = readFlushLog(after, DIR)!;
    for (const { topic, lsn: first } of s.blocks) {
      if (first < kept) expect(progress.get(topic)!.nextLsn).toBeGreaterThan(first);
    }
    await s.wal.close();
  }
}, 60_000);

test('delivered segments stay for their time, unless bytes or room run out', async () => {
  const random = seededRandom('retention-time');
  let nowMs = Date.now();
  const s = await scene(random, { retainMs: DAY_MS, retainBytes: 2 ** 40, now: () => nowMs });
  await deliverAll(s, s.wal.nextLsn);
  const count = segmentsOf(s.disk).length;
  expect((await s.retention.run()).removed).toEqual([]);
  nowMs += DAY_MS + 60_000;
  expect((await s.retention.run()).removed.length).toBe(count - 2);
  await s.wal.close();

  const small = await scene(random, { retainMs: DAY_MS, retainBytes: 4 * 4096 });
  await deliverAll(small, small.wal.nextLsn);
  await small.retention.run();
  const sizes = segmentsOf(small.disk).map(({ name }) => small.disk.readFile(`${DIR}/${name}`).length);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  expect(total).toBeLessThanOrEqual(4 * 4096);
  expect(total).toBeGreaterThan(2 * 4096);
  await small.wal.close();

  // A disk that runs short wins over both, and takes nothing that is not delivered.
  const limits = { retainMs: DAY_MS, retainBytes: 2 ** 40, isShort: () => true };
  const short = await scene(random, limits);
  await deliverAll(short, short.wal.nextLsn / 2n);
  await short.retention.run();
  const oldest = segmentsOf(short.disk)[0]!.baseLsn;
  expect(oldest > 0n && oldest <= short.wal.nextLsn / 2n).toBe(true);
  await short.wal.close();
}, 30_000);

test('an archive has every byte of what went, and is a WAL that can be read', async () => {
  const random = seededRandom('retention-archive');
  const s = await scene(random, { archiveDir: ARCHIVE });
  const target = `${ARCHIVE}/${s.wal.walId.toString(16).padStart(16, '0')}`;
  const originals = new Map(
    segmentsOf(s.disk).map(({ name }) => [name, s.disk.readFile(`${DIR}/${name}`)] as const),
  );
  await deliverAll(s, s.wal.nextLsn / 2n);
  const first = await s.retention.run();
  await deliverAll(s, s.wal.nextLsn);
  const second = await s.retention.run();
  const removed = [...first.removed, ...second.removed];
  expect(first.removed.length * second.removed.length).toBeGreaterThan(0);
  expect(segmentsOf(s.disk, target).map(({ name }) => name)).toEqual(removed);
  for (const name of removed) expect(s.disk.readFile(`${target}/${name}`)).toEqual(originals.get(name)!);
  const { blocks, damages } = readAll(s.disk, { dir: target, durableLsn: readTrimmedLsn(s.disk, DIR) });
  expect(damages).toEqual([]);
  expect(blocks).toEqual(s.blocks.filter((block) => endOf(block) <= readTrimmedLsn(s.disk, DIR)));
  expect(verifyWal(s.disk, target).damaged).toEqual([]);
  await s.wal.close();
}, 30_000);

test('an archive that is full, or changes what it is given, keeps the segments here', async () => {
  const random = seededRandom('retention-archive-faults');
  const s = await scene(random, { archiveDir: ARCHIVE });
  await deliverAll(s, s.wal.nextLsn);
  const before = segmentsOf(s.disk);
  for (const failing of ['open', 'write', 'sync', 'rename', 'syncDirectory'] as const) {
    s.disk.fault = (operation, path) => (operation === failing && path.startsWith(ARCHIVE) ? 'ENOSPC' : null);
    await expect(s.retention.run()).rejects.toThrow('ENOSPC');
    expect(segmentsOf(s.disk)).toEqual(before);
  }
  // Another file under the same name is no copy.
  const target = `${ARCHIVE}/${s.wal.walId.toString(16).padStart(16, '0')}`;
  s.disk.fault = () => null;
  const copied = s.disk.readFile(`${DIR}/${before[0]!.name}`);
  copied[100]! ^= 1;
  s.disk.put(`${target}/${before[0]!.name}`, copied);
  await expect(s.retention.run()).rejects.toThrow('another segment');
  expect(segmentsOf(s.disk)).toEqual(before);
  s.disk.unlink(`${target}/${before[0]!.name}`);
  expect((await s.retention.run()).removed.length).toBe(before.length - 2);
  await s.wal.close();
}, 30_000);

test('a damaged segment stays until the loss is accepted', async () => {
  const random = seededRandom('retention-damage');
  const s = await scene(random);
  await deliverAll(s, s.wal.nextLsn);
  const before = segmentsOf(s.disk);
  const damaged = before[2]!;
  const bytes = s.disk.readFile(`${DIR}/${damaged.name}`);
  bytes[bytes.length - 10]! ^= 0x40;
  s.disk.put(`${DIR}/${damaged.name}`, bytes);
  const held = await s.retention.run();
  expect(held.removed).toEqual([before[0]!.name, before[1]!.name]);
  expect(held.hold).toMatchObject({ segment: damaged.name });
  const [damage] = verifyWal(s.disk, DIR).damaged;
  acceptLosses(s.disk, DIR, [{ ...damage!, acceptedAt: new Date().toISOString(), evidence: null }]);
  expect((await s.retention.run()).hold).toBeNull();
  expect(segmentsOf(s.disk).length).toBe(2);
  await s.wal.close();
}, 30_000);
