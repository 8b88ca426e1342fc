import { expect, test } from 'bun:test';
import { WalFormatError, WalMissingSegmentError } from '../../src/wal/errors.ts';
import { checksum, segmentsAmong, WAL_VERSION } from '../../src/wal/format.ts';
import { RECOVERY_DECISIONS } from '../../src/wal/recovery-report.ts';
import { verifyWal } from '../../src/wal/verify.ts';
import { MemoryFileSystem } from '../support/memory-file-system.ts';
import { seededRandom } from '../support/random.ts';
import { appendRandom, DIR, type KnownBlock, open, readAll } from '../support/wal-fixture.ts';

const random = seededRandom('wal recovery');

/** A closed WAL of four segments or more. */
async function filled(): Promise<{ fileSystem: MemoryFileSystem; blocks: KnownBlock[]; paths: string[] }> {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem);
  const blocks: KnownBlock[] = [];
  while (segmentsAmong(fileSystem.list(DIR)).length < 4) blocks.push(appendRandom(wal, random));
  await wal.close();
  const paths = segmentsAmong(fileSystem.list(DIR)).map(({ name }) => `${DIR}/${name}`);
  return { fileSystem, blocks, paths };
}

const endOf = (blocks: readonly KnownBlock[]) => blocks.at(-1)!.lsn + BigInt(blocks.at(-1)!.rowCount);

/** Recomputes the checksum of a segment's header, as a tool that knows the format would. */
function reseal(bytes: Uint8Array): Uint8Array {
  new DataView(bytes.buffer).setBigUint64(56, checksum(bytes.subarray(0, 56)), true);
  return bytes;
}

test('a missing segment is refused by name, and reported when that is allowed', async () => {
  for (const missing of [0, 1, 2]) {
    const { fileSystem, blocks, paths } = await filled();
    fileSystem.unlink(paths[missing]!);
    const bases = segmentsAmong(paths.map((path) => path.slice(DIR.length + 1))).map(
      ({ baseLsn }) => baseLsn,
    );
    expect(verifyWal(fileSystem, DIR).damaged).toMatchObject([
      { kind: 'missing', firstLsn: bases[missing]!, lastLsn: bases[missing + 1]! - 1n },
    ]);
    expect(open(fileSystem)).rejects.toBeInstanceOf(WalMissingSegmentError);
    await Bun.sleep(1);
    const wal = await open(fileSystem, { allowMissingSegments: true });
    expect(wal.recovery.findings).toMatchObject([{ case: 'missing_segment', firstLsn: bases[missing]! }]);
    expect(wal.nextLsn).toBe(endOf(blocks));
    await wal.close();
    const left = blocks.filter(({ lsn }) => lsn < bases[missing]! || lsn >= bases[missing + 1]!);
    const read = readAll(fileSystem);
    expect(read.blocks).toEqual(left);
    expect(read.damages.map(({ firstLsn, lastLsn }) => [firstLsn, lastLsn])).toEqual([
      [bases[missing]!, bases[missing + 1]! - 1n],
    ]);
  }
}, 60_000);

test('a missing last segment is found by the horizon, and its LSNs are not used again', async () => {
  const { fileSystem, blocks, paths } = await filled();
  fileSystem.unlink(paths.at(-1)!);
  const { baseLsn } = segmentsAmong([paths.at(-1)!.slice(DIR.length + 1)])[0]!;
  expect(verifyWal(fileSystem, DIR).damaged).toMatchObject([
    { kind: 'missing', firstLsn: baseLsn, lastLsn: endOf(blocks) - 1n },
  ]);
  const wal = await open(fileSystem);
  expect(wal.recovery.findings).toMatchObject([
    { case: 'corruption', reason: 'missing_rows', firstLsn: baseLsn },
  ]);
  expect(wal.nextLsn).toBe(endOf(blocks));
  await wal.close();
  expect(verifyWal(fileSystem, DIR).damaged).toMatchObject([
    { reason: 'lost_before_restart', firstLsn: baseLsn },
  ]);
}, 60_000);

test('all segments missing is refused', async () => {
  const { fileSystem, blocks, paths } = await filled();
  for (const path of paths) fileSystem.unlink(path);
  expect(verifyWal(fileSystem, DIR).damaged).toMatchObject([
    { kind: 'missing', lastLsn: endOf(blocks) - 1n },
  ]);
  expect(open(fileSystem)).rejects.toBeInstanceOf(WalMissingSegmentError);
  await Bun.sleep(1);
  const wal = await open(fileSystem, { allowMissingSegments: true });
  expect(wal.nextLsn).toBe(endOf(blocks));
  await wal.close();
}, 60_000);

test('a segment of another WAL, of a later version, or under another name is named', async () => {
  const { fileSystem, paths } = await filled();
  const other = await filled();
  const foreign = fileSystem.afterKill();
  foreign.put(
    `${DIR}/00000000000fffff.wal`,
    reseal(patch(other.fileSystem.readFile(other.paths[1]!), 24, 0xfffffn)),
  );
  expect(verifyWal(foreign, DIR).damaged).toMatchObject([{ kind: 'foreign', reason: 'foreign_wal' }]);
  expect(open(foreign)).rejects.toBeInstanceOf(WalFormatError);

  const future = fileSystem.afterKill();
  const bytes = future.readFile(paths[2]!);
  bytes[8] = WAL_VERSION + 1;
  future.put(paths[2]!, reseal(bytes));
  expect(verifyWal(future, DIR).damaged.map(({ reason }) => reason)).toContain('future_version');
  expect(open(future)).rejects.toThrow('newer version');

  const renamed = fileSystem.afterKill();
  renamed.put(`${DIR}/0000000000000001.wal`, renamed.readFile(paths[0]!));
  expect(verifyWal(renamed, DIR).damaged).toMatchObject([
    { kind: 'foreign', reason: 'duplicate_or_renamed_segment', segment: '0000000000000001.wal' },
  ]);
  expect(open(renamed)).rejects.toThrow('copy of another');

  const empty = fileSystem.afterKill();
  empty.put(paths[1]!, new Uint8Array(0));
  expect(verifyWal(empty, DIR).damaged.map(({ reason }) => reason)).toEqual([
    'empty_segment',
    'missing_rows',
  ]);
  await Bun.sleep(1);
}, 60_000);

function patch(bytes: Uint8Array, offset: number, value: bigint): Uint8Array {
  new DataView(bytes.buffer).setBigUint64(offset, value, true);
  return bytes;
}

test('a segment that a crash left without header and records is moved aside', async () => {
  const { fileSystem, blocks } = await filled();
  const name = `${endOf(blocks).toString(16).padStart(16, '0')}.wal`;
  fileSystem.put(`${DIR}/${name}`, new Uint8Array(4096));
  expect(verifyWal(fileSystem, DIR).damaged).toMatchObject([{ kind: 'unborn', segment: name }]);
  const wal = await open(fileSystem);
  expect(wal.recovery.findings).toMatchObject([{ case: 'unborn_segment', segment: name }]);
  expect(wal.nextLsn).toBe(endOf(blocks));
  await wal.close();
  expect(verifyWal(fileSystem, DIR).damaged).toEqual([]);
}, 60_000);

test('damage in what was durable is kept, reported with its LSNs, and the rest is delivered', async () => {
  const { fileSystem, blocks, paths } = await filled();
  const bytes = fileSystem.readFile(paths.at(-2)!);
  // In the last record, whether it has a payload or only its header of 128 bytes.
  bytes[bytes.length - 64]! ^= 4;
  fileSystem.put(paths.at(-2)!, bytes);
  fileSystem.unlink(paths.at(-1)!);
  const { damages } = readAll(fileSystem);
  const wal = await open(fileSystem);
  expect(wal.recovery.findings[0]).toMatchObject({ case: 'corruption', firstLsn: damages[0]!.firstLsn });
  const added = appendRandom(wal, random);
  expect(added.lsn).toBe(endOf(blocks));
  await wal.close();
  const read = readAll(fileSystem).blocks;
  expect(read).toEqual([...blocks.filter(({ lsn }) => lsn < damages[0]!.firstLsn), added]);
}, 60_000);

test('files that an earlier run has prepared are not used, and do not stay', async () => {
  for (const rest of [new Uint8Array(4096), new Uint8Array(4096).fill(1, 4000), new Uint8Array(100)]) {
    const { fileSystem, blocks } = await filled();
    fileSystem.put(`${DIR}/next.prepared`, rest);
    fileSystem.put(`${DIR}/next.urgent`, Uint8Array.of(1));
    const wal = await open(fileSystem);
    const added = appendRandom(wal, random);
    await wal.close();
    expect(readAll(fileSystem)).toEqual({ blocks: [...blocks, added], damages: [] });
    expect(fileSystem.list(DIR).filter((name) => name.startsWith('next.'))).toEqual([]);
    expect(verifyWal(fileSystem, DIR).damaged).toEqual([]);
  }
}, 60_000);

test('a start writes again only what may not have been synced', async () => {
  const { fileSystem, blocks, paths } = await filled();
  const written: [path: string, offset: number][] = [];
  const openFile = fileSystem.open.bind(fileSystem);
  fileSystem.open = (path, mode) => {
    const file = openFile(path, mode);
    const write = file.write.bind(file);
    file.write = (source, offset) => {
      if (paths.includes(path)) written.push([path, offset]);
      write(source, offset);
    };
    return file;
  };
  await (await open(fileSystem)).close();
  expect(written).toEqual([]);
  const wal = await open(fileSystem);
  const synced = appendRandom(wal, random);
  await wal.sync();
  const unsynced = appendRandom(wal, random);
  paths.push(`${DIR}/${segmentsAmong(fileSystem.list(DIR)).at(-1)!.name}`);
  const sizeBytes = (row: KnownBlock) => 128 + row.payload.length;
  const end = fileSystem.readFile(paths.at(-1)!).findLastIndex((byte) => byte !== 0) + 1;
  written.length = 0;
  fileSystem.unlink(`${DIR}/lock`);
  const again = await open(fileSystem);
  const offset = Math.ceil(end / 8) * 8 - sizeBytes(unsynced);
  expect(written).toEqual([[paths.at(-1)!, offset]]);
  expect(readAll(fileSystem).blocks).toEqual([...blocks, synced, unsynced]);
  await again.close();
}, 60_000);

test('a power loss in the middle of a trim: no start and no verify misses what was removed', async () => {
  for (let round = 0; round < 10; round++) {
    const fileSystem = new MemoryFileSystem();
    const wal = await open(fileSystem);
    const blocks: KnownBlock[] = [];
    while (segmentsAmong(fileSystem.list(DIR)).length < 6) blocks.push(appendRandom(wal, random));
    await wal.sync();
    const keptFrom = segmentsAmong(fileSystem.list(DIR))[random.int(1, 4)]!.baseLsn;
    const cut: MemoryFileSystem[] = [];
    // Before each step and after the last.
    fileSystem.fault = (operation) => {
      if (operation !== 'read') cut.push(fileSystem.afterPowerLoss(random));
      return null;
    };
    await wal.trim(keptFrom);
    cut.push(fileSystem.afterPowerLoss(random));
    fileSystem.fault = () => null;
    await wal.close();
    for (const after of cut) {
      if (after.exists(`${DIR}/lock`)) after.unlink(`${DIR}/lock`);
      expect(verifyWal(after, DIR).damaged).toEqual([]);
      const again = await open(after);
      expect(again.recovery.findings).toEqual([]);
      expect(again.nextLsn).toBe(endOf(blocks));
      await again.close();
      const wanted = blocks.filter(({ lsn }) => lsn >= keptFrom);
      expect(readAll(after, { fromLsn: keptFrom })).toEqual({ blocks: wanted, damages: [] });
      expect(verifyWal(after, DIR).damaged).toEqual([]);
    }
  }
}, 60_000);

test('the decision table names every case once', () => {
  expect(Object.keys(RECOVERY_DECISIONS).sort()).toEqual([
    'bad_segment_header',
    'clean_end',
    'corruption',
    'foreign_segment',
    'future_version',
    'missing_segment',
    'open_group',
    'torn_tail',
    'unborn_segment',
  ]);
}, 60_000);
