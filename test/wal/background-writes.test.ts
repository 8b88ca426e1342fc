// Records that another thread writes: what counts as durable meanwhile, and what becomes of them when a write
// fails, a sync fails or the WAL is closed.

import { afterAll, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FileSystem } from '../../src/io/file-system.ts';
import { realFileSystem } from '../../src/io/real-file-system.ts';
import { WalSyncError } from '../../src/wal/errors.ts';
import { RECORD_MAGIC, segmentsAmong } from '../../src/wal/format.ts';
import { repairWal } from '../../src/wal/repair.ts';
import { verifyWal } from '../../src/wal/verify.ts';
import type { Wal } from '../../src/wal/writer.ts';
import { MemoryFileSystem, type Operation } from '../support/memory-file-system.ts';
import { seededRandom } from '../support/random.ts';
import { appendRandom, DIR, type KnownBlock, open, readAll, TOPICS } from '../support/wal-fixture.ts';

const random = seededRandom('background writes');
const root = mkdtempSync(join(tmpdir(), 'recorder-background-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** A disk whose other thread goes on when it is told to. */
class SlowDisk extends MemoryFileSystem {
  #waiting: (() => void)[] = [];
  override backgroundBytes = 1;

  /** From now on operations by another thread wait. */
  block(): void {
    this.delay = () => new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Lets operations end that have waited longest. */
  async letGo(count = 1): Promise<void> {
    for (const resolve of this.#waiting.splice(0, count)) resolve();
    await Bun.sleep(1);
  }

  /** Those that wait end, the last one first, and so do all that follow. */
  async goOn(): Promise<void> {
    this.delay = () => Promise.resolve();
    for (const resolve of this.#waiting.splice(0).reverse()) {
      resolve();
      await Bun.sleep(1);
    }
  }
}

/** From now on this operation on a segment fails. */
function failSegments(disk: SlowDisk, failing: Operation): void {
  disk.fault = (operation, path) => (operation === failing && isSegment(path) ? 'EIO' : null);
}

/** Appends a block whose write by the other thread fails. */
async function appendFailing(disk: SlowDisk, wal: Wal, endsGroup = true): Promise<KnownBlock> {
  failSegments(disk, 'write');
  const appended = appendRandom(wal, random, { endsGroup });
  await Bun.sleep(2);
  disk.fault = () => null;
  return appended;
}

const isSegment = (path: string) => path.endsWith('.wal');
const fromLsn = (blocks: readonly KnownBlock[], lsn: bigint) => {
  let next = lsn;
  return blocks.map((block) => {
    const moved = { ...block, lsn: next };
    next += BigInt(block.rowCount);
    return moved;
  });
};

for (const syncPolicy of ['group', 'interval', 'none'] as const) {
  test(`${syncPolicy}: rows are not durable before they are in the file`, async () => {
    const disk = new SlowDisk();
    const wal = await open(disk, { syncPolicy, syncIntervalMs: 1e6 });
    disk.block();
    const blocks: KnownBlock[] = [];
    // Over several segments: one that is finished is written to all the same.
    while (segmentsAmong(disk.list(DIR)).length < 3) blocks.push(appendRandom(wal, random));
    let isDurable = false;
    const sync = wal.sync().then(() => {
      isDurable = true;
    });
    await Bun.sleep(5);
    expect(isDurable).toBe(false);
    expect(wal.durableLsn).toBe(0n);
    await disk.goOn();
    await sync;
    expect(wal.durableLsn).toBe(wal.nextLsn);
    expect(readAll(disk)).toEqual({ blocks, damages: [] });
    if (syncPolicy === 'group') {
      const after = disk.afterPowerLoss(random);
      expect(readAll(after, { durableLsn: wal.durableLsn })).toEqual({ blocks, damages: [] });
    }
    await wal.close();
    expect(disk.openFiles).toBe(0);
    expect(verifyWal(disk, DIR).damaged).toEqual([]);
  }, 60_000);

  test(`${syncPolicy}: rows whose write has failed are written again elsewhere`, async () => {
    const disk = new SlowDisk();
    const failures: WalSyncError[] = [];
    const options = {
      syncPolicy,
      syncIntervalMs: 1e6,
      onSyncFailure: (error: WalSyncError) => failures.push(error),
    };
    const wal = await open(disk, options);
    const kept = [appendRandom(wal, random)];
    await wal.sync();
    const isTried: boolean[] = [];
    disk.fault = (operation, path) => {
      if (operation !== 'write' || !isSegment(path)) return null;
      isTried.push(true);
      return isTried.length % 3 === 2 ? 'EIO' : null;
    };
    disk.shortWrite = (sizeBytes) => random.int(0, sizeBytes);
    const pending: KnownBlock[] = [];
    for (let count = 0; count < 40; count++) {
      pending.push(appendRandom(wal, random, { endsGroup: count % 4 === 3 }));
    }
    await expect(wal.sync()).rejects.toBeInstanceOf(WalSyncError);
    expect(failures.length).toBe(1);
    expect(failures[0]!.cause).toMatchObject({ code: 'EIO' });
    expect(failures[0]!.firstLsn).toBe(pending[0]!.lsn);
    disk.fault = () => null;
    kept.push(...fromLsn(pending, wal.nextLsn), { ...appendRandom(wal, random) });
    await wal.sync();
    expect(wal.durableLsn).toBe(wal.nextLsn);
    expect(readAll(disk)).toEqual({ blocks: kept, damages: [] });
    await wal.close();
    expect(verifyWal(disk, DIR)).toMatchObject({ damaged: [], blocks: kept.length });
    expect(disk.openFiles).toBe(0);
  }, 60_000);
}

test('the end of a group is written over its last record, not under it', async () => {
  for (const fails of [false, true]) {
    const disk = new SlowDisk();
    const wal = await open(disk);
    await wal.sync();
    disk.block();
    const blocks = [appendRandom(wal, random, { endsGroup: false })];
    if (fails) failSegments(disk, 'write');
    wal.endGroup();
    const sync = wal.sync();
    sync.catch(() => undefined);
    await disk.goOn();
    if (fails) {
      await expect(sync).rejects.toBeInstanceOf(WalSyncError);
      disk.fault = () => null;
      blocks.push(...fromLsn(blocks.splice(0), wal.nextLsn));
      await wal.sync();
    } else await sync;
    expect(wal.durableLsn).toBe(wal.nextLsn);
    expect(readAll(disk).blocks).toEqual([{ ...blocks[0]!, endsGroup: true }]);
    await wal.close();
  }
}, 60_000);

test('the end of a group is not lost where the write of its last record has failed before', async () => {
  for (const syncPolicy of ['group', 'interval', 'none'] as const) {
    const disk = new SlowDisk();
    const wal = await open(disk, { syncPolicy, syncIntervalMs: 1e6 });
    await wal.sync();
    const row = await appendFailing(disk, wal, false);
    wal.endGroup();
    // Another one's sync takes the rows back, between the end of the group and the sync of its owner.
    await wal.syncNow().catch(() => undefined);
    const { durableLsn } = await wal.sync();
    expect(durableLsn).toBe(wal.nextLsn);
    const after = syncPolicy === 'group' ? disk.afterPowerLoss(random) : disk.afterKill();
    after.unlink(`${DIR}/lock`);
    await (await open(after)).close();
    expect(readAll(after).blocks.map(({ payload }) => payload)).toEqual([row.payload]);
    await wal.close();
  }
}, 60_000);

test('rows whose write has failed are rescued where the disk does not read there either', async () => {
  const disk = new SlowDisk();
  const wal = await open(disk);
  await wal.sync();
  const rows = [await appendFailing(disk, wal), await appendFailing(disk, wal)];
  failSegments(disk, 'read');
  await expect(wal.sync()).rejects.toBeInstanceOf(WalSyncError);
  disk.fault = () => null;
  const moved = fromLsn(rows, wal.nextLsn);
  await wal.sync();
  expect(readAll(disk)).toEqual({ blocks: moved, damages: [] });
  await wal.close();
}, 60_000);

test('a kill before the end of a group is in the file cuts off the segment that names it', async () => {
  const disk = new SlowDisk();
  const wal = await open(disk);
  await wal.sync();
  const large = { payloadSizeBytes: 2000, encode: (target: Uint8Array) => void target.fill(3) };
  appendRandom(wal, random, { ...large, endsGroup: false });
  await Bun.sleep(2);
  disk.block();
  const small = { payloadSizeBytes: 8, encode: (target: Uint8Array) => void target.fill(1) };
  appendRandom(wal, random, { ...small, endsGroup: false });
  wal.endGroup();
  appendRandom(wal, random, large);
  expect(segmentsAmong(disk.list(DIR)).length).toBe(2);
  // Both records get through, the header over the first does not.
  await disk.letGo(2);
  const after = disk.afterKill();
  after.interruptWrites({ ...random, pick: (list) => list[1]! });
  after.unlink(`${DIR}/lock`);
  const next = await open(after);
  expect(next.recovery.findings.map(({ reason }) => reason)).toContain('chain_broken');
  await next.close();
  expect(verifyWal(after, DIR)).toMatchObject({ damaged: [], blocks: 0 });
  await disk.goOn();
  await wal.close();
}, 60_000);

test('a small record does not overtake a large one that is on its way', async () => {
  const disk = new SlowDisk();
  disk.backgroundBytes = 200;
  const wal = await open(disk);
  disk.block();
  const large = appendRandom(wal, random, { payloadSizeBytes: 96, encode: (target) => target.fill(7) });
  const name = `${DIR}/${segmentsAmong(disk.list(DIR))[0]!.name}`;
  const before = disk.readFile(name);
  appendRandom(wal, random, { payloadSizeBytes: 0, encode: () => {} });
  expect(disk.readFile(name)).toEqual(before);
  const sync = wal.sync();
  await disk.goOn();
  await sync;
  expect(readAll(disk).blocks.map(({ lsn }) => lsn)).toEqual([large.lsn, large.lsn + BigInt(large.rowCount)]);
  await wal.close();
}, 60_000);

test('records go to the other thread sooner while rows come faster than groups end', async () => {
  const disk = new SlowDisk();
  disk.backgroundBytes = 4096;
  const wal = await open(disk, { segmentSizeBytes: 1 << 20 });
  const name = `${DIR}/${segmentsAmong(disk.list(DIR))[0]!.name}`;
  /** Appends a block and says whether it was written at once. */
  const isAtOnce = async (payloadSizeBytes: number, endsGroup: boolean): Promise<boolean> => {
    const before = disk.readFile(name);
    disk.block();
    appendRandom(wal, random, { payloadSizeBytes, endsGroup, encode: (target) => target.fill(7) });
    const isWritten = !Buffer.from(before).equals(disk.readFile(name));
    await disk.goOn();
    return isWritten;
  };
  const [small, middle, large] = [512, 2048, 8192];
  // Each group is a record.
  expect(await isAtOnce(middle, true)).toBe(true);
  expect(await isAtOnce(middle, true)).toBe(true);
  // A group with a large one, and the next.
  expect(await isAtOnce(middle, false)).toBe(true);
  expect(await isAtOnce(large, false)).toBe(false);
  expect(await isAtOnce(middle, false)).toBe(false);
  expect(await isAtOnce(small, true)).toBe(true);
  expect(await isAtOnce(middle, false)).toBe(false);
  expect(await isAtOnce(middle, true)).toBe(false);
  // None was large: the one after is as the first.
  expect(await isAtOnce(middle, true)).toBe(true);
  await wal.close();
  expect(verifyWal(disk, DIR)).toMatchObject({ damaged: [], blocks: 9 });
}, 60_000);

test('no file is closed while a thread writes into it', async () => {
  for (const how of ['sync fails', 'close fails'] as const) {
    const disk = new SlowDisk();
    const wal = await open(disk);
    disk.block();
    while (segmentsAmong(disk.list(DIR)).length < 3) appendRandom(wal, random);
    disk.fault = (operation, path) => {
      if (how === 'close fails') return operation === 'truncate' ? 'EIO' : null;
      return operation === 'sync' && isSegment(path) ? 'EIO' : null;
    };
    const ended = (how === 'sync fails' ? wal.sync() : wal.close()).catch(() => undefined);
    await Bun.sleep(2);
    // These come while the failed sync is dealt with.
    const late = how === 'sync fails' ? setInterval(() => appendRandom(wal, random), 1) : undefined;
    await disk.goOn();
    await ended;
    clearInterval(late);
    expect(disk.writesIntoClosed).toBe(0);
    disk.fault = () => null;
    await wal.close();
    expect(disk.writesIntoClosed).toBe(0);
    expect(verifyWal(disk, DIR).damaged).toEqual([]);
  }
}, 60_000);

test('a sync that fails waits for the writes behind it before it takes their rows back', async () => {
  for (const syncPolicy of ['group', 'interval'] as const) {
    const disk = new SlowDisk();
    const wal = await open(disk, { syncPolicy, syncIntervalMs: 1e6 });
    disk.block();
    const rows = [appendRandom(wal, random)];
    const failing = wal.syncNow();
    failing.catch(() => undefined);
    await disk.letGo();
    failSegments(disk, 'sync');
    rows.push(appendRandom(wal, random));
    const later = wal.sync();
    later.catch(() => undefined);
    // The sync has failed, the second row is still on its way.
    await disk.letGo();
    await disk.goOn();
    await expect(failing).rejects.toBeInstanceOf(WalSyncError);
    await expect(later).rejects.toBeInstanceOf(WalSyncError);
    expect(disk.writesIntoClosed).toBe(0);
    expect(wal.durableLsn).toBe(0n);
    disk.fault = () => null;
    const moved = fromLsn(rows, wal.nextLsn);
    await wal.sync();
    expect(readAll(disk)).toEqual({ blocks: moved, damages: [] });
    await wal.close();
  }
}, 60_000);

test('records that are written past the page cache end with a page, where the segment has room', async () => {
  for (const [syncPolicy, isFollowed] of [
    ['group', false],
    ['group', true],
    ['none', false],
  ] as const) {
    const isPadded = syncPolicy === 'group' && !isFollowed;
    const disk = new SlowDisk();
    const wal = await open(disk, { syncPolicy, isFollowed });
    disk.block();
    const blocks: KnownBlock[] = [];
    while (segmentsAmong(disk.list(DIR)).length < 3) blocks.push(appendRandom(wal, random));
    await disk.goOn();
    await wal.sync();
    const bytes = disk.readFile(`${DIR}/${segmentsAmong(disk.list(DIR))[0]!.name}`);
    const header = new DataView(bytes.buffer).getUint32(12, true);
    const first = header + 128 + blocks[0]!.payload.length;
    const aligned = Math.ceil(first / 64) * 64;
    const next = isPadded ? aligned : first;
    expect(new DataView(bytes.buffer).getUint32(next, true)).toBe(RECORD_MAGIC);
    expect(bytes.subarray(first, next).every((byte) => byte === 0)).toBe(true);
    expect(readAll(disk)).toEqual({ blocks, damages: [] });
    await wal.close();
    expect(verifyWal(disk, DIR).damaged).toEqual([]);
    await (await open(disk)).close();
    expect(readAll(disk)).toEqual({ blocks, damages: [] });
  }
}, 60_000);

test('every flipped byte is found, and in padding it costs no row', async () => {
  const disk = new SlowDisk();
  const wal = await open(disk);
  disk.block();
  const blocks = Array.from({ length: 12 }, () => appendRandom(wal, random));
  await disk.goOn();
  await wal.sync();
  await wal.close();
  const paths = segmentsAmong(disk.list(DIR)).map(({ name }) => `${DIR}/${name}`);
  let inPadding = 0;
  for (const path of paths) {
    const bytes = disk.readFile(path);
    const view = new DataView(bytes.buffer);
    const isPadding = new Uint8Array(bytes.length);
    for (let at = view.getUint32(12, true); at < bytes.length; ) {
      const endOfPayload = at + 128 + view.getUint32(at + 4, true);
      const end = endOfPayload + view.getUint32(at + 108, true);
      isPadding.fill(1, endOfPayload, end);
      at = end;
    }
    for (let offset = 0; offset < bytes.length; offset++) {
      const damaged = disk.afterKill();
      const flipped = bytes.slice();
      flipped[offset]! ^= 1 << random.int(0, 7);
      damaged.put(path, flipped);
      const [found] = verifyWal(damaged, DIR).damaged;
      if (found === undefined) throw new Error(`${path} byte ${offset}: not found`);
      if (isPadding[offset] === 0) continue;
      inPadding++;
      expect(found).toMatchObject({ reason: 'bad_padding', lastLsn: found.firstLsn - 1n });
      expect(readAll(damaged)).toEqual({ blocks, damages: [] });
      if (random.int(0, 3) > 0) continue;
      repairWal({ fileSystem: damaged, dir: DIR, recorder: 'r', topics: TOPICS, now: new Date() });
      expect(verifyWal(damaged, DIR)).toMatchObject({ damaged: [], accepted: [{ reason: 'bad_padding' }] });
      await (await open(damaged)).close();
      expect(readAll(damaged)).toEqual({ blocks, damages: [] });
    }
  }
  expect(inPadding).toBeGreaterThan(0);
}, 60_000);

test('a disk that does not keep up gets no more than it can hold in memory', async () => {
  const disk = new SlowDisk();
  const wal = await open(disk, { segmentSizeBytes: 64 * 1024 * 1024 });
  disk.block();
  const payload = random.bytes(1024).fill(3);
  const sizeBytes = 1024 * 1024;
  const encode = (target: Uint8Array) => {
    for (let at = 0; at < sizeBytes; at += payload.length) target.set(payload, at);
  };
  const blocks: KnownBlock[] = [];
  for (let count = 0; count < 30; count++) {
    const made = appendRandom(wal, random, { payloadSizeBytes: sizeBytes, encode });
    blocks.push(made);
  }
  const name = `${DIR}/${segmentsAmong(disk.list(DIR))[0]!.name}`;
  const inFile = disk.readFile(name).reduce((count, byte) => count + (byte === 3 ? 1 : 0), 0);
  expect(inFile).toBeGreaterThan(14 * sizeBytes);
  expect(inFile).toBeLessThan(24 * sizeBytes);
  await disk.goOn();
  await wal.sync();
  expect(readAll(disk).blocks.map(({ lsn }) => lsn)).toEqual(blocks.map(({ lsn }) => lsn));
  await wal.close();
}, 60_000);

test('on a real disk, past its page cache, records are read as they were appended', async () => {
  const dir = join(root, 'wal');
  const fileSystem: FileSystem = { ...realFileSystem, backgroundBytes: 20_000 };
  for (const syncPolicy of ['group', 'none'] as const) {
    const wal = await open(fileSystem, { dir, syncPolicy, segmentSizeBytes: 512 * 1024 });
    const blocks: KnownBlock[] = [];
    const firstLsn = wal.nextLsn;
    for (let count = 0; count < 200; count++) {
      const payload = random.bytes(random.pick([8, 400, 4096, 40_000, 100_000]));
      const encode = (target: Uint8Array) => target.set(payload);
      const made = appendRandom(wal, random, { payloadSizeBytes: payload.length, encode });
      blocks.push({ ...made, payload });
      if (random.int(0, 5) === 0) await wal.sync();
    }
    await wal.sync();
    expect(readAll(fileSystem, { dir, fromLsn: firstLsn })).toEqual({ blocks, damages: [] });
    await wal.close();
  }
  expect(verifyWal(fileSystem, dir).damaged).toEqual([]);
}, 60_000);
