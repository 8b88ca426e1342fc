// Every byte of a small WAL flipped and every length of its files: nothing wrong is ever given out, and what
// is not given out is named exactly.

import { beforeAll, describe, expect, test } from 'bun:test';
import { segmentsAmong } from '../../src/wal/format.ts';
import { verifyWal, type WalDamage } from '../../src/wal/verify.ts';
import { MemoryFileSystem } from '../support/memory-file-system.ts';
import { seededRandom } from '../support/random.ts';
import { appendRandom, DIR, type KnownBlock, open, readAll } from '../support/wal-fixture.ts';

const random = seededRandom('wal damage');
let intact: MemoryFileSystem;
let blocks: KnownBlock[];
let segments: string[];
let extents: Extent[];

/** A closed WAL of several segments. */
async function makeWal(): Promise<void> {
  intact = new MemoryFileSystem();
  blocks = [];
  const wal = await open(intact);
  for (let count = 0; count < 45; count++) {
    blocks.push(appendRandom(wal, random, { endsGroup: count % 3 === 2 }));
    if (count % 6 === 5) await wal.sync();
  }
  await wal.close();
  segments = segmentsAmong(intact.list(DIR)).map(({ name }) => `${DIR}/${name}`);
  expect(segments.length).toBeGreaterThan(1);
  extents = extentsOf(intact, segments);
  expect(extents.map(({ lsn }) => lsn)).toEqual(blocks.map(({ lsn }) => lsn));
}

/** Where the record of a block lies. */
interface Extent {
  path: string;
  offset: number;
  endOffset: number;
  lsn: bigint;
  endLsn: bigint;
}

/** Records of the intact WAL, walked by the offsets of the format alone. */
function extentsOf(fileSystem: MemoryFileSystem, paths: readonly string[]): Extent[] {
  const extents: Extent[] = [];
  for (const path of paths) {
    const view = new DataView(fileSystem.readFile(path).buffer);
    for (let offset = view.getUint32(12, true); offset < view.byteLength; ) {
      if (view.getUint32(offset, true) === 0) break;
      const endOffset = offset + 128 + view.getUint32(offset + 4, true);
      const lsn = view.getBigUint64(offset + 8, true);
      extents.push({ path, offset, endOffset, lsn, endLsn: lsn + BigInt(view.getUint32(offset + 24, true)) });
      offset = endOffset;
    }
  }
  return extents;
}

/** All LSNs of ranges, in order. */
function lsnsOf(ranges: readonly { firstLsn: bigint; lastLsn: bigint }[]): bigint[] {
  const lsns = new Set<bigint>();
  for (const { firstLsn, lastLsn } of ranges) for (let lsn = firstLsn; lsn <= lastLsn; lsn++) lsns.add(lsn);
  return [...lsns].sort((a, b) => (a < b ? -1 : 1));
}

type Read = ReturnType<typeof readAll>;

/** Exactly the rows of these records are lost, for a cursor and for verify. */
function expectLost(read: Read, damaged: readonly WalDamage[], lost: readonly Extent[], what: string): void {
  const expected = lsnsOf(lost.map(({ lsn, endLsn }) => ({ firstLsn: lsn, lastLsn: endLsn - 1n })));
  const given = new Set(read.blocks.map(({ lsn }) => lsn));
  const whole = blocks.filter(({ lsn }) => !lost.some((record) => record.lsn === lsn));
  const withheld = whole.filter(({ lsn }) => !given.has(lsn));
  if (withheld.length > 0) throw new Error(`${what}: whole block ${withheld[0]!.lsn} is not given`);
  for (const [who, named] of [['cursor', read.damages] as const, ['verify', damaged] as const]) {
    const lsns = lsnsOf(named);
    if (!Bun.deepEquals(lsns, expected)) throw new Error(`${what}: ${who} names ${lsns}, not ${expected}`);
  }
}

/** What can be read must be right, and exactly the rest must be named as damaged. */
function expectHonest(read: Read, what: string): void {
  const damaged = new Set<bigint>();
  for (const { firstLsn, lastLsn } of read.damages) {
    for (let lsn = firstLsn; lsn <= lastLsn; lsn++) damaged.add(lsn);
  }
  const found = new Map(read.blocks.map((block) => [block.lsn, block]));
  for (const block of blocks) {
    const given = found.get(block.lsn);
    found.delete(block.lsn);
    if (given !== undefined && !Bun.deepEquals(given, block))
      throw new Error(`${what}: block ${block.lsn} is wrong`);
    for (let row = 0n; row < BigInt(block.rowCount); row++) {
      if (damaged.has(block.lsn + row) === (given !== undefined)) {
        throw new Error(
          `${what}: row ${block.lsn + row} is ${given ? 'given and named' : 'neither given nor named'}`,
        );
      }
    }
  }
  if (found.size > 0) throw new Error(`${what}: ${found.size} blocks were never written`);
}

/** Recovery keeps everything that a cursor could read before it, and the log goes on. */
async function expectRecovers(fileSystem: MemoryFileSystem, what: string): Promise<void> {
  const before = readAll(fileSystem);
  const wal = await open(fileSystem);
  expect(wal.nextLsn).toBeGreaterThanOrEqual(blocks.at(-1)!.lsn + BigInt(blocks.at(-1)!.rowCount));
  const added = appendRandom(wal, random);
  await wal.sync();
  await wal.close();
  const after = readAll(fileSystem);
  expect({ what, blocks: after.blocks }).toEqual({ what, blocks: [...before.blocks, added] });
}

beforeAll(makeWal);

describe('every byte flipped', () => {
  test('is found by verify, and no cursor gives out a wrong row', async () => {
    for (const path of segments) {
      const bytes = intact.readFile(path);
      for (let offset = 0; offset < bytes.length; offset++) {
        const damaged = bytes.slice();
        damaged[offset]! ^= 1 << random.int(0, 7);
        const fileSystem = intact.afterKill();
        fileSystem.put(path, damaged);
        const what = `${path} byte ${offset}`;
        const { damaged: named } = verifyWal(fileSystem, DIR);
        if (!named.some(({ segment }) => path.endsWith(segment))) throw new Error(`${what}: not found`);
        if (named.some(({ kind }) => kind === 'torn_tail')) throw new Error(`${what}: taken for a torn tail`);
        const place = named.find((damage) => damage.offset <= offset && offset < damage.endOffset);
        if (place === undefined) throw new Error(`${what}: named elsewhere`);
        const read = readAll(fileSystem);
        expectHonest(read, what);
        const isHit = (record: Extent) =>
          record.path === path && record.offset <= offset && offset < record.endOffset;
        expectLost(read, named, extents.filter(isHit), what);
        if (random.int(0, 15) === 0) await expectRecovers(fileSystem, what);
      }
    }
  }, 60_000);
});

describe('every length of a file', () => {
  test('is found by verify, and no cursor gives out a wrong row', async () => {
    for (const path of segments) {
      const bytes = intact.readFile(path);
      for (let length = 0; length < bytes.length; length++) {
        const fileSystem = intact.afterKill();
        fileSystem.put(path, bytes.slice(0, length));
        const what = `${path} cut to ${length}`;
        const { damaged: named } = verifyWal(fileSystem, DIR);
        if (named.length === 0) throw new Error(`${what}: not found`);
        const read = readAll(fileSystem);
        expectHonest(read, what);
        const isCut = (record: Extent) => record.path === path && record.endOffset > length;
        expectLost(read, named, extents.filter(isCut), what);
        if (random.int(0, 15) === 0) await expectRecovers(fileSystem, what);
      }
    }
  }, 60_000);
});

describe('the end of a WAL whose owner was killed', () => {
  test('a torn record past the horizon is a torn tail at every length, cut and copied aside', async () => {
    const fileSystem = new MemoryFileSystem();
    const wal = await open(fileSystem);
    const kept = appendRandom(wal, random);
    await wal.sync();
    const path = `${DIR}/${segmentsAmong(fileSystem.list(DIR))[0]!.name}`;
    const tornFrom = fileSystem.readFile(path).findLastIndex((byte) => byte !== 0) + 1;
    const durable = fileSystem.readFile(path);
    appendRandom(wal, random);
    const bytes = fileSystem.readFile(path);
    const end = bytes.findLastIndex((byte) => byte !== 0) + 1;
    for (let length = tornFrom + 1; length < end; length++) {
      const torn = bytes.slice();
      torn.fill(0, length);
      if (Buffer.compare(torn, durable) === 0) continue;
      const killed = fileSystem.afterKill();
      killed.unlink(`${DIR}/lock`);
      killed.put(path, torn);
      const { damaged } = verifyWal(killed, DIR);
      expect({ length, kinds: damaged.map(({ kind }) => kind) }).toEqual({ length, kinds: ['torn_tail'] });
      const again = await open(killed);
      expect(again.recovery.findings.map((finding) => finding.case)).toEqual(['torn_tail']);
      const copy = killed.readFile(`${DIR}/${again.recovery.findings[0]!.copiedTo}`);
      const cut = torn.subarray(again.recovery.findings[0]!.offset);
      expect(copy.slice(0, 128)).toEqual(cut.slice(0, Math.min(copy.length, 128)));
      expect(again.nextLsn).toBe(kept.lsn + BigInt(kept.rowCount));
      await again.close();
      expect(readAll(killed).blocks).toEqual([kept]);
      expect(verifyWal(killed, DIR).damaged).toEqual([]);
    }
  }, 60_000);

  test('any flipped byte: what is durable and whole stays, and whole groups up to the damage', async () => {
    const fileSystem = new MemoryFileSystem();
    const wal = await open(fileSystem);
    const written: KnownBlock[] = [];
    const group = () => {
      for (const endsGroup of [false, false, true]) written.push(appendRandom(wal, random, { endsGroup }));
    };
    const segmentCount = () => segmentsAmong(fileSystem.list(DIR)).length;
    while (segmentCount() < 2) group();
    await wal.sync();
    const { durableLsn } = wal;
    while (segmentCount() < 3) group();
    group();
    written.push(appendRandom(wal, random, { endsGroup: false }));
    const killed = fileSystem.afterKill();
    killed.unlink(`${DIR}/lock`);
    const names = segmentsAmong(killed.list(DIR));
    const paths = names.map(({ name }) => `${DIR}/${name}`);
    const records = extentsOf(killed, paths);
    const groupsUpTo = (lsn: bigint) => {
      const before = written.filter((known) => known.lsn < lsn);
      return before.slice(0, before.findLastIndex(({ endsGroup }) => endsGroup) + 1);
    };
    for (const [index, path] of paths.entries()) {
      const bytes = killed.readFile(path);
      for (let offset = random.int(0, 7); offset < bytes.length; offset += random.int(2, 12)) {
        const disk = killed.afterKill();
        const flipped = bytes.slice();
        flipped[offset]! ^= 1 << random.int(0, 7);
        disk.put(path, flipped);
        const hit = records.find((record) => record.path === path && offset < record.endOffset);
        const isHeader = hit !== undefined && offset < hit.offset;
        const firstLsn = isHeader ? names[index]!.baseLsn : hit?.lsn;
        let expected = groupsUpTo(wal.nextLsn);
        if (firstLsn !== undefined && firstLsn >= durableLsn) expected = groupsUpTo(firstLsn);
        else if (!isHeader) expected = expected.filter(({ lsn }) => lsn !== firstLsn);
        const again = await open(disk);
        const { blocks: found } = readAll(disk);
        const plain = (list: readonly KnownBlock[]) => list.map(({ endsGroup: _, ...rest }) => rest);
        if (!Bun.deepEquals(plain(found), plain(expected))) {
          const lsns = (list: readonly KnownBlock[]) => list.map(({ lsn }) => lsn).join(' ');
          throw new Error(`${path} byte ${offset}: LSNs ${lsns(found)}, not ${lsns(expected)}`);
        }
        await again.close();
      }
    }
  }, 120_000);

  test('bytes in the unused rest of a segment are named and cut', async () => {
    const fileSystem = new MemoryFileSystem();
    const wal = await open(fileSystem);
    appendRandom(wal, random);
    await wal.sync();
    const killed = fileSystem.afterKill();
    killed.unlink(`${DIR}/lock`);
    const path = `${DIR}/${segmentsAmong(killed.list(DIR))[0]!.name}`;
    const bytes = killed.readFile(path);
    bytes[bytes.length - 9] = 1;
    killed.put(path, bytes);
    expect(verifyWal(killed, DIR).damaged).toMatchObject([{ kind: 'torn_tail', reason: 'data_after_end' }]);
    const again = await open(killed);
    expect(again.recovery.findings).toMatchObject([{ case: 'torn_tail' }]);
    await again.close();
    expect(verifyWal(killed, DIR).damaged).toEqual([]);
  });
});
