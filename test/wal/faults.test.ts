import { expect, test } from 'bun:test';
import { WalClosedError, WalFullError, WalSyncError, WalWriteError } from '../../src/wal/errors.ts';
import { segmentName, segmentsAmong } from '../../src/wal/format.ts';
import { verifyWal } from '../../src/wal/verify.ts';
import { MemoryFileSystem } from '../support/memory-file-system.ts';
import { seededRandom } from '../support/random.ts';
import { appendRandom, DIR, type KnownBlock, open, readAll } from '../support/wal-fixture.ts';

const random = seededRandom('wal faults');

/** Appends until the WAL refuses; returns the refusal. */
function fill(wal: Awaited<ReturnType<typeof open>>, blocks: KnownBlock[]): unknown {
  for (let count = 0; count < 1000; count++) {
    try {
      blocks.push(appendRandom(wal, random));
    } catch (error) {
      return error;
    }
  }
  return null;
}

test('a full disk shows when a segment is made; appends use the room that is there, and resume', async () => {
  const fileSystem = new MemoryFileSystem();
  let changes = 0;
  const wal = await open(fileSystem, { onStateChange: () => changes++ });
  await Bun.sleep(5);
  fileSystem.fault = (operation, path) =>
    operation === 'allocate' && path.includes('next.') ? 'ENOSPC' : null;
  const blocks: KnownBlock[] = [];
  const error = fill(wal, blocks);
  expect(error).toBeInstanceOf(WalFullError);
  expect((error as WalFullError).cause).toMatchObject({ code: 'ENOSPC' });
  expect(wal.writable).toBe(false);
  expect(wal.allocationError).toMatchObject({ code: 'ENOSPC' });
  const names = segmentsAmong(fileSystem.list(DIR)).length;
  await wal.sync();
  expect(readAll(fileSystem).blocks).toEqual(blocks);
  fileSystem.fault = () => null;
  const seen = changes;
  for (let wait = 0; wait < 200 && !wal.writable; wait++) await Bun.sleep(2);
  expect(wal.writable).toBe(true);
  expect(wal.allocationError).toBeNull();
  expect(changes).toBeGreaterThan(seen);
  while (segmentsAmong(fileSystem.list(DIR)).length === names) blocks.push(appendRandom(wal, random));
  await wal.close();
  expect(readAll(fileSystem)).toEqual({ blocks, damages: [] });
  expect(verifyWal(fileSystem, DIR).damaged).toEqual([]);
  expect(fileSystem.openFiles).toBe(0);
}, 60_000);

test('a disk that is full at the start refuses to open, and gives lock and files back', async () => {
  const fileSystem = new MemoryFileSystem();
  fileSystem.fault = (operation, path) =>
    operation === 'allocate' && path.includes('next.') ? 'ENOSPC' : null;
  expect(open(fileSystem)).rejects.toBeInstanceOf(WalFullError);
  await Bun.sleep(1);
  expect(fileSystem.openFiles).toBe(0);
  fileSystem.fault = () => null;
  await (await open(fileSystem)).close();
}, 60_000);

test('a failed write leaves nothing of the block, and the next append goes to a new segment', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem);
  const blocks = [appendRandom(wal, random), appendRandom(wal, random)];
  fileSystem.fault = (operation) => (operation === 'write' ? 'EIO' : null);
  expect(() => appendRandom(wal, random)).toThrow(WalWriteError);
  fileSystem.fault = () => null;
  blocks.push(appendRandom(wal, random));
  expect(segmentsAmong(fileSystem.list(DIR)).length).toBe(2);
  await wal.sync();
  expect(readAll(fileSystem)).toEqual({ blocks, damages: [] });
  await wal.close();
  expect(verifyWal(fileSystem, DIR).damaged).toEqual([]);
}, 60_000);

test('a failed sync is told, is not repeated, and its rows are written again elsewhere', async () => {
  for (const failing of ['.wal', DIR]) {
    const fileSystem = new MemoryFileSystem();
    const failures: WalSyncError[] = [];
    const wal = await open(fileSystem, { onSyncFailure: (error) => failures.push(error) });
    const kept = [appendRandom(wal, random)];
    await wal.sync();
    const pending: KnownBlock[] = [];
    for (let count = 0; count < 60; count++) {
      pending.push(appendRandom(wal, random, { endsGroup: count % 4 === 3 }));
    }
    let attempts = 0;
    fileSystem.fault = (operation, path) => {
      if (!/^sync/.test(operation) || !path.endsWith(failing)) return null;
      attempts++;
      return 'EIO';
    };
    const [first, second] = await Promise.allSettled([wal.sync(), wal.sync()]);
    expect(first.status).toBe('rejected');
    expect(second).toMatchObject({ status: 'rejected', reason: failures[0]! });
    expect(attempts).toBe(1);
    expect(failures).toMatchObject([{ firstLsn: pending[0]!.lsn, lastLsn: wal.nextLsn - 1n }]);
    expect(failures[0]).toBeInstanceOf(WalSyncError);
    expect(wal.durableLsn).toBe(pending[0]!.lsn);
    fileSystem.fault = () => null;
    let lsn = wal.nextLsn;
    for (const block of pending) {
      kept.push({ ...block, lsn });
      lsn += BigInt(block.rowCount);
    }
    kept.push(appendRandom(wal, random));
    expect((await wal.sync()).durableLsn).toBe(wal.nextLsn);
    expect(readAll(fileSystem)).toEqual({ blocks: kept, damages: [] });
    await wal.close();
    expect(verifyWal(fileSystem, DIR)).toMatchObject({ damaged: [], blocks: kept.length });
    expect(fileSystem.openFiles).toBe(0);
    await (await open(fileSystem)).close();
    expect(readAll(fileSystem)).toEqual({ blocks: kept, damages: [] });
  }
}, 60_000);

test('rows of a failed sync that wait for room are the first to be written', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem);
  const lost = appendRandom(wal, random);
  fileSystem.fault = (operation, path) => {
    if (operation === 'sync' && path.endsWith('.wal')) return 'EIO';
    return operation === 'rename' ? 'ENOSPC' : null;
  };
  await wal.sync().catch(() => undefined);
  expect(() => appendRandom(wal, random)).toThrow(WalWriteError);
  await expect(wal.sync()).rejects.toBeInstanceOf(WalWriteError);
  fileSystem.fault = () => null;
  const first = { ...lost, lsn: wal.nextLsn };
  const second = appendRandom(wal, random);
  await wal.close();
  expect(readAll(fileSystem)).toEqual({ blocks: [first, second], damages: [] });
  expect(verifyWal(fileSystem, DIR).damaged).toEqual([]);
}, 60_000);

test('under the policy interval, no row counts as written that a failed sync has taken back', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem, { syncPolicy: 'interval', syncIntervalMs: 1e6 });
  const row = appendRandom(wal, random);
  fileSystem.fault = (operation) => (operation === 'sync' ? 'EIO' : null);
  await wal.syncNow().catch(() => undefined);
  const { durableLsn } = await wal.sync();
  const killed = fileSystem.afterKill();
  expect(readAll(killed, { durableLsn }).blocks).toEqual([{ ...row, lsn: row.lsn + BigInt(row.rowCount) }]);
  fileSystem.fault = () => null;
  await wal.close();
}, 60_000);

test('rows of a failed sync that cannot be read back close the WAL', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem);
  const kept = appendRandom(wal, random);
  await wal.sync();
  appendRandom(wal, random, { payloadSizeBytes: 8, encode: (target) => target.fill(5) });
  const path = `${DIR}/${segmentsAmong(fileSystem.list(DIR))[0]!.name}`;
  fileSystem.fault = (operation, name) => {
    if (operation !== 'sync' || !name.endsWith('.wal')) return null;
    const file = fileSystem.open(path, 'write');
    file.write(Uint8Array.of(6), fileSystem.readFile(path).lastIndexOf(5));
    file.close();
    return 'EIO';
  };
  await wal.sync().catch(() => undefined);
  fileSystem.fault = () => null;
  expect(() => appendRandom(wal, random)).toThrow(WalClosedError);
  await expect(wal.sync()).rejects.toBeInstanceOf(WalClosedError);
  expect(readAll(fileSystem)).toEqual({ blocks: [kept], damages: [] });
}, 60_000);

test('the end of a group that a failed sync took apart is written with its rows', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem);
  const before = appendRandom(wal, random, { endsGroup: false });
  fileSystem.fault = (operation, path) => (operation === 'sync' && path.endsWith('.wal') ? 'EIO' : null);
  await wal.syncNow().catch(() => undefined);
  fileSystem.fault = () => null;
  wal.endGroup();
  expect((await wal.sync()).durableLsn).toBe(wal.nextLsn);
  const rescued = { ...before, lsn: BigInt(before.rowCount), endsGroup: true };
  expect(readAll(fileSystem)).toEqual({ blocks: [rescued], damages: [] });
  await wal.close();
}, 60_000);

test('a WAL that a failed sync has closed writes nothing more, whoever asks', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem, { syncPolicy: 'interval', syncIntervalMs: 1e6 });
  appendRandom(wal, random);
  fileSystem.fault = (operation, path) =>
    ['sync', 'truncate'].includes(operation) && path.endsWith('.wal') ? 'EIO' : null;
  await wal.syncNow().catch(() => undefined);
  const before = fileSystem.list(DIR);
  fileSystem.fault = (operation, path) => (operation === 'write' && path.endsWith('.wal') ? 'EIO' : null);
  await expect(wal.syncNow()).rejects.toBeInstanceOf(WalClosedError);
  expect(() => wal.endGroup()).toThrow(WalClosedError);
  expect(() => appendRandom(wal, random)).toThrow(WalClosedError);
  expect(segmentsAmong(fileSystem.list(DIR))).toEqual(segmentsAmong(before));
}, 60_000);

test('the end of a group that cannot be written is mended before anything follows it', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem);
  const blocks = [appendRandom(wal, random, { endsGroup: false })];
  fileSystem.shortWrite = (sizeBytes) => sizeBytes - 20;
  fileSystem.fault = (operation, path) => (operation === 'write' && path.endsWith('.wal') ? 'EIO' : null);
  expect(() => wal.endGroup()).toThrow(WalWriteError);
  expect(() => appendRandom(wal, random)).toThrow(WalWriteError);
  fileSystem.fault = () => null;
  // The group is not ended before its owner says so: the positions of the streams belong to its end.
  blocks.push(appendRandom(wal, random, { endsGroup: false }));
  await wal.sync();
  expect(wal.durableLsn).toBe(0n);
  wal.endGroup();
  await wal.sync();
  blocks[1]!.endsGroup = true;
  expect(readAll(fileSystem)).toEqual({ blocks, damages: [] });
  await wal.close();
}, 60_000);

test('a segment that cannot be cut to its length ends with its last record all the same', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem);
  const blocks: KnownBlock[] = [];
  fileSystem.fault = (operation) => (operation === 'truncate' ? 'EIO' : null);
  while (segmentsAmong(fileSystem.list(DIR)).length < 4) blocks.push(appendRandom(wal, random));
  await wal.close();
  expect(readAll(fileSystem)).toEqual({ blocks, damages: [] });
  const after = await open(fileSystem.afterKill());
  expect(after.nextLsn).toBe(wal.nextLsn);
  await after.close();
}, 60_000);

test('a prepared segment that cannot be synced is not used, and gives back what it has', async () => {
  const fileSystem = new MemoryFileSystem();
  fileSystem.fault = (operation, path) =>
    operation === 'sync' && path.endsWith('next.prepared') ? 'EIO' : null;
  const wal = await open(fileSystem);
  await Bun.sleep(5);
  expect(wal.allocationError).toMatchObject({ code: 'EIO' });
  expect(fileSystem.exists(`${DIR}/next.prepared`)).toBe(false);
  fileSystem.fault = () => null;
  await wal.close();
  expect(fileSystem.openFiles).toBe(0);
}, 60_000);

test('what a failed sync has left in memory alone is written to the disk by the next start', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem);
  const block = appendRandom(wal, random);
  fileSystem.fault = (operation) => (operation === 'sync' ? 'EIO' : null);
  // The recorder is killed with its sync: nothing is taken back, and the pages count as written.
  const file = fileSystem.open(`${DIR}/${segmentsAmong(fileSystem.list(DIR))[0]!.name}`, 'write');
  expect(file.sync()).rejects.toMatchObject({ code: 'EIO' });
  await Bun.sleep(1);
  const killed = fileSystem.afterKill();
  killed.unlink(`${DIR}/lock`);
  const next = await open(killed);
  expect(readAll(killed).blocks).toEqual([block]);
  for (let round = 0; round < 20; round++) {
    const after = killed.afterPowerLoss(random);
    expect(readAll(after, { durableLsn: next.durableLsn }).blocks).toEqual([block]);
  }
  await next.close();
}, 60_000);

test('what a failed write leaves behind is never read as rows, or the log ends', async () => {
  for (const failing of [['truncate'], ['truncate', 'write']]) {
    const fileSystem = new MemoryFileSystem();
    const wal = await open(fileSystem);
    const blocks = [appendRandom(wal, random)];
    let writes = 0;
    fileSystem.shortWrite = (sizeBytes) => sizeBytes - 1;
    fileSystem.fault = (operation, path) => {
      if (!path.endsWith('.wal') || (operation !== 'write' && !failing.includes(operation))) return null;
      return operation === 'write' && writes++ > 0 && !failing.includes('write') ? null : 'EIO';
    };
    const refused = failing.includes('write') ? WalClosedError : WalWriteError;
    expect(() => appendRandom(wal, random)).toThrow(refused);
    fileSystem.fault = () => null;
    if (failing.includes('write')) expect(() => appendRandom(wal, random)).toThrow(WalClosedError);
    else blocks.push(appendRandom(wal, random));
    if (!failing.includes('write')) await wal.sync();
    const end = blocks.at(-1)!;
    const durableLsn = end.lsn + BigInt(end.rowCount);
    expect(readAll(fileSystem, { durableLsn })).toEqual({ blocks, damages: [] });
    await wal.close();
  }
}, 60_000);

test('a start that fails leaves a log that the next one takes, also where no row is left', async () => {
  for (let round = 0; round < 30; round++) {
    const before = new MemoryFileSystem();
    const wal = await open(before, { syncPolicy: 'none' });
    appendRandom(wal, random);
    await wal.sync();
    const after = before.afterPowerLoss(random);
    if (after.exists(`${DIR}/lock`)) after.unlink(`${DIR}/lock`);
    after.fault = (operation, path) => (operation === 'rename' && path.includes('next.') ? 'EIO' : null);
    await expect(open(after)).rejects.toBeInstanceOf(WalWriteError);
    after.fault = () => null;
    const again = await open(after);
    expect(again.nextLsn).toBeGreaterThanOrEqual(0n);
    await again.close();
    await wal.close();
  }
}, 60_000);

test('where a trimmed log begins is durable before the rest goes, whatever the sync policy', async () => {
  for (const syncPolicy of ['group', 'interval', 'none'] as const) {
    for (let round = 0; round < 20; round++) {
      const fileSystem = new MemoryFileSystem();
      const wal = await open(fileSystem, { syncPolicy, syncIntervalMs: 1e6 });
      while (segmentsAmong(fileSystem.list(DIR)).length < 4) appendRandom(wal, random);
      await wal.sync();
      if (syncPolicy === 'interval') {
        expect(await wal.trim(wal.nextLsn)).toEqual([]);
        await wal.syncNow();
      }
      const removed = await wal.trim(wal.nextLsn);
      expect(removed.length).toBe(2);
      const after = fileSystem.afterPowerLoss(random);
      if (after.exists(`${DIR}/lock`)) after.unlink(`${DIR}/lock`);
      await (await open(after)).close();
      await wal.close();
    }
  }
}, 60_000);

test('a first start that fails half-way and a power loss leave nothing to refuse', async () => {
  const outcomes = new Set<number>();
  for (let round = 0; round < 200; round++) {
    const fileSystem = new MemoryFileSystem();
    let operations = 0;
    const failsAt = random.int(0, 12);
    fileSystem.fault = () => (operations++ === failsAt ? 'EIO' : null);
    const first = await open(fileSystem).catch(() => null);
    fileSystem.fault = (operation, path) => (operation === 'sync' && path.endsWith('.wal') ? 'EIO' : null);
    await first?.close().catch(() => undefined);
    if (fileSystem.exists(`${DIR}/lock`)) fileSystem.unlink(`${DIR}/lock`);
    await open(fileSystem).catch(() => undefined);
    const after = fileSystem.afterPowerLoss(random);
    if (after.exists(`${DIR}/lock`)) after.unlink(`${DIR}/lock`);
    outcomes.add(segmentsAmong(after.list(DIR)).length);
    await (await open(after)).close();
    expect(verifyWal(after, DIR).damaged).toEqual([]);
  }
  expect(outcomes).toEqual(new Set([0, 1]));
}, 60_000);

test('void rows are not missing, also where the segment that held them is gone', async () => {
  const fileSystem = new MemoryFileSystem();
  const before = await open(fileSystem);
  const kept = appendRandom(before, random);
  await before.close();
  const wal = await open(fileSystem);
  const { nextLsn } = wal;
  appendRandom(wal, random);
  fileSystem.fault = (operation, path) => (operation === 'sync' && path.endsWith('.wal') ? 'EIO' : null);
  await wal.sync().catch(() => undefined);
  fileSystem.fault = () => null;
  await wal.sync();
  const rescued = readAll(fileSystem).blocks.slice(1);
  await wal.close();
  fileSystem.unlink(`${DIR}/${segmentName(nextLsn)}`);
  expect(readAll(fileSystem)).toEqual({ blocks: [kept, ...rescued], damages: [] });
  expect(verifyWal(fileSystem, DIR).damaged).toEqual([]);
  await (await open(fileSystem)).close();
  fileSystem.unlink(`${DIR}/${segmentName(0n)}`);
  expect(readAll(fileSystem, { fromLsn: nextLsn })).toEqual({ blocks: rescued, damages: [] });
}, 60_000);

test('trim syncs no segment that the writer has still to sync', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem);
  while (segmentsAmong(fileSystem.list(DIR)).length < 3) appendRandom(wal, random);
  const rows = readAll(fileSystem, { durableLsn: wal.nextLsn }).blocks;
  let syncs = 0;
  fileSystem.fault = (operation, path) => {
    if (operation === 'sync' && path.endsWith('.wal')) syncs++;
    return null;
  };
  await wal.trim(wal.nextLsn);
  expect(syncs).toBe(0);
  await wal.sync();
  expect(readAll(fileSystem.afterPowerLoss(random), { durableLsn: wal.nextLsn }).blocks).toEqual(rows);
  await wal.trim(wal.nextLsn);
  expect(segmentsAmong(fileSystem.list(DIR)).length).toBe(2);
  await wal.close();
}, 60_000);

test('a segment takes the place of an empty one only when its header is durable', async () => {
  for (let round = 0; round < 40; round++) {
    const fileSystem = new MemoryFileSystem();
    const wal = await open(fileSystem, { syncPolicy: 'none' });
    fileSystem.fault = (operation, path) => (operation === 'write' && path.endsWith('.wal') ? 'EIO' : null);
    expect(() => appendRandom(wal, random)).toThrow(WalWriteError);
    fileSystem.fault = () => null;
    appendRandom(wal, random);
    // Durable under this policy means written: the horizon is ahead of the disk.
    await wal.sync();
    const after = fileSystem.afterPowerLoss(random);
    if (after.exists(`${DIR}/lock`)) after.unlink(`${DIR}/lock`);
    await (await open(after)).close();
    await wal.close();
  }
}, 60_000);
