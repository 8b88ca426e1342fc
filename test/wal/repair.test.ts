// `wal repair`: after it a recorder starts, verify finds nothing new, and every whole block is still there.

import { expect, test } from 'bun:test';
import { readAcceptedLosses } from '../../src/wal/accepted-losses.ts';
import { encodeSegmentHeader, segmentName, segmentsAmong, WAL_VERSION } from '../../src/wal/format.ts';
import { HORIZON_FILE } from '../../src/wal/horizon.ts';
import { planRepair, type RepairResult, repairWal } from '../../src/wal/repair.ts';
import { surveySegments } from '../../src/wal/survey.ts';
import { verifyWal } from '../../src/wal/verify.ts';
import { MemoryFileSystem } from '../support/memory-file-system.ts';
import { type SeededRandom, seededRandom } from '../support/random.ts';
import { appendRandom, DIR, type KnownBlock, open, readAll, TOPICS } from '../support/wal-fixture.ts';

interface Made {
  disk: MemoryFileSystem;
  blocks: KnownBlock[];
}

async function makeWal(random: SeededRandom, blockCount: number): Promise<Made> {
  const disk = new MemoryFileSystem();
  const wal = await open(disk);
  const blocks: KnownBlock[] = [];
  for (let count = 0; count < blockCount; count++) blocks.push(appendRandom(wal, random));
  await wal.sync();
  await wal.close();
  return { disk, blocks };
}

const repair = (disk: MemoryFileSystem): RepairResult =>
  repairWal({ fileSystem: disk, dir: DIR, recorder: 'again', topics: TOPICS, now: new Date() });
const segmentsOf = (disk: MemoryFileSystem) => segmentsAmong(disk.list(DIR));
const contentOf = (disk: MemoryFileSystem) =>
  disk.list(DIR).map((name) => [name, Bun.hash.xxHash3(disk.readFile(`${DIR}/${name}`))] as const);

/** Starts and ends a recorder on it; what it reads then. */
async function restart(disk: MemoryFileSystem) {
  await (await open(disk)).close();
  return readAll(disk);
}

function flip(disk: MemoryFileSystem, name: string, offset: number, mask: number): void {
  const bytes = disk.readFile(`${DIR}/${name}`);
  bytes[offset]! ^= mask;
  disk.put(`${DIR}/${name}`, bytes);
}

/** Blocks that a cursor still finds in the damaged WAL, without any help. */
const without = (blocks: readonly KnownBlock[], lost: readonly { firstLsn: bigint; lastLsn: bigint }[]) =>
  blocks.filter(({ lsn }) => !lost.some(({ firstLsn, lastLsn }) => firstLsn <= lsn && lsn <= lastLsn));

for (const [name, blockCount] of [
  ['one segment', 6],
  ['several segments', 80],
] as const) {
  test(`lesson 14: any flipped byte of ${name}: repaired, and every whole block is there`, async () => {
    const random = seededRandom(`repair ${name}`);
    const made = await makeWal(random, blockCount);
    const segments = segmentsOf(made.disk);
    for (let round = 0; round < 250; round++) {
      const disk = made.disk.afterKill();
      const segment = random.pick(segments);
      const sizeBytes = disk.readFile(`${DIR}/${segment.name}`).length;
      // Every byte of the first header, then bytes anywhere.
      const first = segments[0]!.name;
      const [at, offset] = round < 64 ? [first, round] : [segment.name, random.int(0, sizeBytes - 1)];
      flip(disk, at, offset, 1 << random.int(0, 7));
      const damaged = verifyWal(disk, DIR).damaged;
      expect(damaged.length).toBeGreaterThan(0);
      const planned = planRepair(disk, DIR);
      const result = repair(disk);
      expect(result.steps.slice(0, planned.length)).toEqual(planned);
      const { blocks } = await restart(disk);
      const report = verifyWal(disk, DIR);
      expect(report.damaged).toEqual([]);
      expect(blocks).toEqual(without(made.blocks, report.accepted));
      // At most the block that the byte was in is gone.
      expect(made.blocks.length - blocks.length).toBeLessThanOrEqual(1);
      const lost = readAcceptedLosses(disk, DIR);
      for (const { evidence } of lost)
        if (evidence !== null) expect(disk.exists(`${DIR}/${evidence}`)).toBe(true);
    }
  }, 60_000);
}

test('a last segment whose only block is lost: the next one goes on behind its header', async () => {
  const disk = new MemoryFileSystem();
  const wal = await open(disk);
  const random = seededRandom('repair-only-block');
  const blocks: KnownBlock[] = [];
  while (segmentsOf(disk).length < 2) blocks.push(appendRandom(wal, random));
  await wal.close();
  const last = segmentsOf(disk).at(-1)!;
  flip(disk, last.name, disk.readFile(`${DIR}/${last.name}`).length - 1, 1);
  flip(disk, last.name, disk.readFile(`${DIR}/${last.name}`).length - 120, 1);
  repair(disk);
  expect((await restart(disk)).blocks).toEqual(blocks.slice(0, -1));
  expect(verifyWal(disk, DIR).damaged).toEqual([]);
}, 30_000);

test('a plan changes nothing, and a WAL without findings needs none', async () => {
  const random = seededRandom('repair-plan');
  const { disk, blocks } = await makeWal(random, 80);
  expect(planRepair(disk, DIR)).toEqual([]);
  expect(repair(disk)).toEqual({ steps: [], evidence: null });
  const [, second, third] = segmentsOf(disk);
  flip(disk, second!.name, 700, 4);
  disk.unlink(`${DIR}/${third!.name}`);
  const before = contentOf(disk);
  expect(planRepair(disk, DIR).map(({ action }) => action)).toContain('accept_loss');
  expect(contentOf(disk)).toEqual(before);
  repair(disk);
  const after = await restart(disk);
  expect(after.blocks).toEqual(without(blocks, verifyWal(disk, DIR).accepted));
}, 30_000);

test('missing segments: repair accepts the loss once, and so does a start that allows it', async () => {
  for (const allowed of [false, true]) {
    const { disk, blocks } = await makeWal(seededRandom('repair-missing'), 80);
    const gone = segmentsOf(disk)[1]!;
    disk.unlink(`${DIR}/${gone.name}`);
    await expect(open(disk)).rejects.toThrow('are missing');
    if (allowed) await (await open(disk, { allowMissingSegments: true })).close();
    else repair(disk);
    const { blocks: read } = await restart(disk);
    const report = verifyWal(disk, DIR);
    expect(report.damaged).toEqual([]);
    expect(report.accepted).toMatchObject([{ kind: 'missing', firstLsn: gone.baseLsn }]);
    expect(read).toEqual(without(blocks, report.accepted));
  }
}, 30_000);

test('a renamed segment gets its name back, a copy and a foreign one go to the evidence', async () => {
  const random = seededRandom('repair-foreign');
  const { disk, blocks } = await makeWal(random, 80);
  const [first, second] = segmentsOf(disk);
  disk.rename(`${DIR}/${second!.name}`, `${DIR}/${segmentName(second!.baseLsn + 1n)}`);
  expect(planRepair(disk, DIR).map(({ action }) => action)).toEqual(['rename_back']);
  expect(repair(disk).evidence).toBeNull();
  expect((await restart(disk)).blocks).toEqual(blocks);

  disk.put(`${DIR}/${segmentName(first!.baseLsn + 1n)}`, disk.readFile(`${DIR}/${first!.name}`));
  const other = await makeWal(random, 3);
  const foreign = segmentName(77_777n);
  const header = encodeSegmentHeader({ walId: 5n, baseLsn: 77_777n, prevChecksum: 0n }, '{}');
  disk.put(`${DIR}/${foreign}`, other.disk.readFile(`${DIR}/${segmentName(0n)}`));
  disk.put(`${DIR}/${segmentName(77_778n)}`, header);
  const { steps, evidence } = repair(disk);
  const moved = steps.filter(({ action }) => action === 'move_aside').map(({ damage }) => damage.segment);
  expect(moved).toContain(segmentName(first!.baseLsn + 1n));
  expect(moved).toContain(foreign);
  for (const name of moved) expect(disk.exists(`${DIR}/${evidence}/${name}`)).toBe(true);
  expect((await restart(disk)).blocks).toEqual(blocks);
  expect(verifyWal(disk, DIR).damaged).toEqual([]);
}, 30_000);

test('a segment of a newer format is refused and left as it is', async () => {
  const { disk } = await makeWal(seededRandom('repair-future'), 80);
  const last = segmentsOf(disk).at(-1)!;
  const bytes = disk.readFile(`${DIR}/${last.name}`);
  new DataView(bytes.buffer).setUint32(8, WAL_VERSION + 1, true);
  new DataView(bytes.buffer).setBigUint64(56, Bun.hash.xxHash3(bytes.subarray(0, 56)), true);
  disk.put(`${DIR}/${last.name}`, bytes);
  const before = contentOf(disk);
  expect(repair(disk).steps.map(({ action }) => action)).toContain('refuse');
  expect(contentOf(disk).filter(([name]) => name === last.name)).toEqual(
    before.filter(([name]) => name === last.name),
  );
  await expect(open(disk)).rejects.toThrow('newer version');
}, 30_000);

test('no header and no horizon are left: the records themselves say whose they are', async () => {
  const { disk, blocks } = await makeWal(seededRandom('repair-headless'), 5);
  const [only] = segmentsOf(disk);
  disk.unlink(`${DIR}/${HORIZON_FILE}`);
  flip(disk, only!.name, 20, 1);
  const { walId } = surveySegments(disk, DIR).segments[0]!.header ?? { walId: null };
  expect(walId).toBeNull();
  repair(disk);
  expect((await restart(disk)).blocks).toEqual(blocks);
  expect(verifyWal(disk, DIR).damaged).toEqual([]);
}, 30_000);
