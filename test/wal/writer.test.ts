import { expect, test } from 'bun:test';
import { createCursor } from '../../src/wal/cursor.ts';
import { segmentsAmong } from '../../src/wal/format.ts';
import { openHorizon } from '../../src/wal/horizon.ts';
import { verifyWal } from '../../src/wal/verify.ts';
import { MemoryFileSystem } from '../support/memory-file-system.ts';
import { seededRandom } from '../support/random.ts';
import { appendRandom, block, DIR, open, readAll, TOPICS } from '../support/wal-fixture.ts';

const random = seededRandom('wal writer');
const segmentNames = (fileSystem: MemoryFileSystem) =>
  segmentsAmong(fileSystem.list(DIR)).map(({ name }) => name);
const restart = (fileSystem: MemoryFileSystem) => {
  const copy = fileSystem.afterKill();
  copy.unlink(`${DIR}/lock`);
  return copy;
};

test('a cursor sees nothing before the sync and everything after it, topic by topic', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem);
  const { durableLsn } = openHorizon(fileSystem, DIR)!;
  const cursor = createCursor({ fileSystem, dir: DIR, durableLsn, fromLsn: 0n, topic: 'fills' });
  const expected = [];
  for (let round = 0; round < 20; round++) {
    const appended = [0, 1, 2, 3, 4].map(() => appendRandom(wal, random));
    expect(cursor.next()).toBeNull();
    expect((await wal.sync()).durableLsn).toBe(wal.nextLsn);
    for (const { topic, lsn, payload } of appended.filter((one) => one.topic === 'fills')) {
      expected.push(lsn);
      const found = cursor.next();
      expect(found?.topic.topic).toBe(topic);
      expect(found?.header.lsn).toBe(lsn);
      expect(found?.payload).toEqual(payload);
      expect((found?.payload.byteOffset ?? 0) % 8).toBe(0);
    }
    expect(cursor.next()).toBeNull();
    expect(cursor.lsn).toBe(wal.nextLsn);
  }
  expect(segmentNames(fileSystem).length).toBeGreaterThan(2);
  expect(expected.length).toBeGreaterThan(5);
  cursor.close();
  await wal.close();
  expect(fileSystem.openFiles).toBe(0);
}, 60_000);

test('a cursor that starts within a block gets the whole block', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem);
  const blocks = [];
  for (let count = 0; count < 40; count++) blocks.push(appendRandom(wal, random, { rowCount: 4 }));
  await wal.sync();
  for (let lsn = 0n; lsn < wal.nextLsn; lsn++) {
    const { blocks: read } = readAll(fileSystem, { fromLsn: lsn });
    expect(read).toEqual(blocks.slice(Number(lsn / 4n)));
  }
  await wal.close();
}, 60_000);

test('a group becomes durable as a whole, and a kill within it takes it back as a whole', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem);
  const first = appendRandom(wal, random);
  const second = appendRandom(wal, random, { endsGroup: false });
  await wal.sync();
  expect(wal.durableLsn).toBe(second.lsn);
  const killed = restart(fileSystem);
  const again = await open(killed);
  expect(again.recovery.findings).toMatchObject([{ case: 'open_group', firstLsn: second.lsn }]);
  expect(again.nextLsn).toBe(second.lsn);
  expect(readAll(killed).blocks).toEqual([first]);

  wal.endGroup();
  wal.endGroup();
  await wal.sync();
  expect(wal.durableLsn).toBe(wal.nextLsn);
  const later = restart(fileSystem);
  expect((await open(later)).recovery.findings).toEqual([]);
  expect(readAll(later).blocks).toEqual([first, { ...second, endsGroup: true }]);
  expect(verifyWal(later, DIR).damaged).toEqual([]);
}, 60_000);

test('a block larger than a segment gets a segment of its own', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem);
  const large = (sizeBytes: number) => {
    const payload = random.bytes(sizeBytes);
    return { payloadSizeBytes: sizeBytes, encode: (target: Uint8Array) => target.set(payload), payload };
  };
  const blocks = [
    appendRandom(wal, random, large(40_000)),
    appendRandom(wal, random),
    appendRandom(wal, random, large(16_384)),
    appendRandom(wal, random),
  ];
  await wal.sync();
  expect(readAll(fileSystem).blocks).toEqual(blocks);
  await wal.close();
  expect(verifyWal(fileSystem, DIR)).toMatchObject({ damaged: [], blocks: 4, rows: wal.nextLsn });
}, 60_000);

test('rows by topic go on over restarts, for topics that are gone too', async () => {
  const fileSystem = new MemoryFileSystem();
  const rows = { ticks: 0, fills: 0, spans: 0 };
  for (let run = 0; run < 4; run++) {
    const wal = await open(fileSystem, { topics: run === 2 ? TOPICS.slice(0, 1) : TOPICS });
    for (let count = 0; count < 30; count++) {
      const made = block(random, run === 2 ? { topicIndex: 0 } : {});
      wal.append(made);
      rows[TOPICS[made.topicIndex]!.topic as keyof typeof rows] += made.rowCount;
    }
    expect(
      Object.fromEntries([...wal.rowsByTopic()].map(([topic, count]) => [topic, Number(count)])),
    ).toEqual(rows);
    await wal.close();
  }
  expect(readAll(fileSystem).damages).toEqual([]);
}, 60_000);

test('closing and opening again without rows leaves no trail of segments', async () => {
  const fileSystem = new MemoryFileSystem();
  for (let run = 0; run < 5; run++) await (await open(fileSystem)).close();
  expect(segmentNames(fileSystem)).toEqual(['0000000000000000.wal']);
  const wal = await open(fileSystem);
  const only = appendRandom(wal, random);
  await wal.close();
  for (let run = 0; run < 5; run++) await (await open(fileSystem)).close();
  expect(segmentNames(fileSystem).length).toBe(2);
  expect(readAll(fileSystem).blocks).toEqual([only]);
}, 60_000);

test('trim removes whole segments below the LSN, and verify knows that they are not missing', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem);
  const blocks = [];
  for (let count = 0; count < 80; count++) blocks.push(appendRandom(wal, random));
  await wal.sync();
  const bases = segmentsAmong(fileSystem.list(DIR)).map(({ baseLsn }) => baseLsn);
  expect((await wal.trim(bases[2]! + 1n)).length).toBe(2);
  expect(await wal.trim(bases[2]!)).toEqual([]);
  expect(readAll(fileSystem, { fromLsn: bases[2]! }).blocks).toEqual(
    blocks.filter(({ lsn }) => lsn >= bases[2]!),
  );
  expect(verifyWal(fileSystem, DIR).damaged).toEqual([]);
  await wal.trim(wal.nextLsn + 100n);
  expect(segmentNames(fileSystem).length).toBe(2);
  await wal.close();
  const again = await open(fileSystem);
  expect(again.nextLsn).toBe(wal.nextLsn);
  await again.close();
}, 60_000);

test('a group larger than segments: trim goes on, and the streams stand where the group ends', async () => {
  const fileSystem = new MemoryFileSystem();
  const stream = { source: Uint8Array.of(1), session: Uint8Array.of(2) };
  let ended = 0n;
  const streamsSnapshot = (isWithinGroup: boolean) => [
    { ...stream, lastSeq: isWithinGroup ? ended + 1n : ended },
  ];
  const wal = await open(fileSystem, { streamsSnapshot });
  for (let group = 0; group < 3; group++) {
    const segments = segmentNames(fileSystem).length;
    while (segmentNames(fileSystem).length < segments + 3) {
      wal.append({ ...block(random), endsGroup: false });
      await wal.trim(wal.nextLsn);
    }
    wal.endGroup();
    ended++;
    await wal.sync();
    await wal.trim(wal.nextLsn);
    expect(segmentNames(fileSystem).length).toBe(2);
  }
  const durable = wal.nextLsn;
  wal.append({ ...block(random), endsGroup: false });
  await wal.close();
  const again = fileSystem.afterKill();
  let recovered = 0n;
  const next = await open(again, {
    onRecoveredStreams: ([found]) => {
      recovered = found!.lastSeq;
    },
  });
  expect(recovered).toBe(ended);
  expect(next.nextLsn).toBe(durable);
  await next.close();
  expect(verifyWal(again, DIR).damaged).toEqual([]);
}, 60_000);

test('LSNs that were delivered are not used again, whatever a crash took', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem, { syncPolicy: 'none' });
  const first = appendRandom(wal, random);
  await wal.close();
  const again = await open(fileSystem, { minNextLsn: 1000n });
  expect(again.nextLsn).toBe(1000n);
  const second = appendRandom(again, random);
  await again.sync();
  expect(readAll(fileSystem)).toEqual({ blocks: [first, second], damages: [] });
  await again.close();
  expect(verifyWal(fileSystem, DIR).damaged).toEqual([]);
}, 60_000);

test('policy interval and none: written is durable, syncs come by themselves or not at all', async () => {
  for (const syncPolicy of ['interval', 'none'] as const) {
    const fileSystem = new MemoryFileSystem();
    let syncs = 0;
    const wal = await open(fileSystem, { syncPolicy, syncIntervalMs: 5 });
    fileSystem.fault = (operation, path) => {
      if (operation === 'sync' && path.endsWith('.wal')) syncs++;
      return null;
    };
    for (let count = 0; count < 60; count++) appendRandom(wal, random);
    await wal.sync();
    expect(wal.durableLsn).toBe(wal.nextLsn);
    expect(readAll(fileSystem).blocks.length).toBe(60);
    const before = syncs;
    await Bun.sleep(40);
    expect(syncs > before).toBe(syncPolicy === 'interval');
    await wal.close();
    expect(fileSystem.openFiles).toBe(0);
  }
}, 60_000);
