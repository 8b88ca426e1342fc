// Every byte of a small WAL flipped and every length of its files: nothing wrong is ever given out, and what
// is not given out is named exactly.

import { beforeAll, describe, expect, test } from 'bun:test';
import { segmentsAmong } from '../../src/wal/format.ts';
import { verifyWal } from '../../src/wal/verify.ts';
import { MemoryFileSystem } from '../support/memory-file-system.ts';
import { seededRandom } from '../support/random.ts';
import { appendRandom, DIR, type KnownBlock, open, readAll } from '../support/wal-fixture.ts';

const random = seededRandom('wal damage');
let intact: MemoryFileSystem;
let blocks: KnownBlock[];
let segments: string[];

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
}

/** What can be read must be right, and exactly the rest must be named as damaged. */
function expectHonest(fileSystem: MemoryFileSystem, what: string): void {
  const read = readAll(fileSystem);
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
        expectHonest(fileSystem, what);
        if (random.int(0, 31) === 0) await expectRecovers(fileSystem, what);
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
        if (verifyWal(fileSystem, DIR).damaged.length === 0) throw new Error(`${what}: not found`);
        expectHonest(fileSystem, what);
        if (random.int(0, 31) === 0) await expectRecovers(fileSystem, what);
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
  });

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
