import { describe, expect, test } from 'bun:test';
import {
  QUARANTINE_DATA,
  QUARANTINE_INDEX,
  Quarantine,
  type Refused,
  readQuarantineIndex,
} from '../../../src/supervisor/ingest/quarantine.ts';
import { advanceOverRefused } from '../../../src/supervisor/ingest/quarantine-positions.ts';
import { readRefusedRuns } from '../../../src/supervisor/ingest/refused-runs.ts';
import { MemoryFileSystem } from '../../support/memory-file-system.ts';
import { seededRandom } from '../../support/random.ts';

const DIRECTORY = '/wal';

function refused(number: number, bytes: Uint8Array = Uint8Array.from({ length: 5 }, () => number)): Refused {
  const around = new Uint8Array(bytes.length + 7).fill(0xee);
  around.set(bytes, 3);
  return {
    reason: 'bad_vtable',
    source: 'engine',
    session: 'run',
    seq: number,
    origin: '/r.sock',
    bytes: around,
    start: 3,
    end: 3 + bytes.length,
  };
}

function setUp(maxBytes = 1_000_000) {
  const fileSystem = new MemoryFileSystem();
  fileSystem.mkdir(DIRECTORY);
  const open = () => new Quarantine({ directory: DIRECTORY, fileSystem, maxBytes });
  const bytesOf = (offset: number, length: number) =>
    fileSystem.readFile(`${DIRECTORY}/${QUARANTINE_DATA}`).slice(offset, offset + length);
  return { fileSystem, open, bytesOf, entries: () => readQuarantineIndex(DIRECTORY, fileSystem) };
}

describe('Quarantine', () => {
  test('keeps the bytes of each frame and says where it came from', () => {
    const { open, entries, bytesOf, fileSystem } = setUp();
    const quarantine = open();
    const frame = refused(1);
    quarantine.keep(frame, new Date('2026-01-02T03:04:05.678Z'));
    frame.bytes.fill(0);
    quarantine.keep({ ...refused(2, new Uint8Array(0)), claimedSizeBytes: 99 });
    quarantine.keep(refused(3));
    expect(entries()).toEqual([]);
    quarantine.write();
    expect(entries()[0]).toEqual({
      time: '2026-01-02T03:04:05.678Z',
      reason: 'bad_vtable',
      source: 'engine',
      session: 'run',
      seq: 1,
      origin: '/r.sock',
      offset: 0,
      length: 5,
      claimed: 5,
    });
    expect(entries().map(({ seq, length, claimed }) => [seq, length, claimed])).toEqual([
      [1, 5, 5],
      [2, 0, 99],
      [3, 5, 5],
    ]);
    expect(bytesOf(0, 10)).toEqual(Uint8Array.of(1, 1, 1, 1, 1, 3, 3, 3, 3, 3));
    quarantine.close();
    expect(fileSystem.openFiles).toBe(0);
  });

  test('goes on where an earlier run has stopped, also behind a torn line', () => {
    const { open, entries, bytesOf, fileSystem } = setUp();
    const first = open();
    first.keep(refused(1));
    first.close();
    const index = `${DIRECTORY}/${QUARANTINE_INDEX}`;
    const whole = fileSystem.readFile(index);
    for (let cut = 0; cut < whole.length; cut++) {
      fileSystem.put(index, whole.slice(0, cut));
      fileSystem.put(`${DIRECTORY}/${QUARANTINE_DATA}`, new Uint8Array(8));
      const second = open();
      second.keep(refused(7));
      second.close();
      const last = entries().at(-1)!;
      expect([last.seq, last.offset]).toEqual([7, 8]);
      expect(bytesOf(8, 5)).toEqual(new Uint8Array(5).fill(7));
      expect(entries().length).toBe(cut === whole.length - 1 ? 2 : 1);
    }
  });

  test('stays below its limit and counts what it does not keep', () => {
    const { open, entries, fileSystem } = setUp(2000);
    const quarantine = open();
    for (let number = 1; number <= 100; number++) {
      quarantine.keep(refused(number));
      if (number % 7 === 0) quarantine.write();
    }
    quarantine.close();
    const { kept, notKept, sizeBytes } = quarantine.stats;
    expect(kept + notKept).toBe(100);
    expect(kept).toBe(entries().length);
    expect(kept).toBeGreaterThan(5);
    const size = fileSystem.readFile(`${DIRECTORY}/${QUARANTINE_INDEX}`).length + kept * 5;
    expect(size).toBe(sizeBytes);
    expect(size).toBeLessThanOrEqual(2000);
    const next = open();
    next.keep(refused(1, new Uint8Array(1000)));
    expect(next.stats.notKept).toBe(1);
    next.close();
  });

  test('full, or on a failing disk, it still knows the numbers after a power loss', async () => {
    const random = seededRandom('quarantine numbers');
    for (const failing of [null, 'write', 'sync'] as const) {
      const { fileSystem, open } = setUp(failing === null ? 900 : 1_000_000);
      const quarantine = open();
      for (let seq = 5; seq <= 60; seq++) quarantine.keep(refused(seq, random.bytes(random.int(0, 90))));
      fileSystem.fault = (operation, path) =>
        operation === failing && path.includes('quarantine') ? 'ENOSPC' : null;
      quarantine.write();
      await quarantine.sync();
      expect(quarantine.stats.notKept > 0).toBe(failing !== 'sync');
      const after = fileSystem.afterPowerLoss(random);
      const positions = (lastSeq: number) =>
        advanceOverRefused(
          [{ source: 'engine', session: 'run', lastSeq }],
          readQuarantineIndex(DIRECTORY, after),
          readRefusedRuns(DIRECTORY, after),
        );
      expect(positions(4)).toEqual([{ source: 'engine', session: 'run', lastSeq: 60 }]);
      expect(positions(59)[0]!.lastSeq).toBe(60);
      // A number that never came is a gap, and later rows are further on.
      expect(positions(3)[0]!.lastSeq).toBe(3);
      expect(positions(70)[0]!.lastSeq).toBe(70);
    }
  });

  test('a failing disk costs entries, which are counted, and no more', async () => {
    const { open, entries, bytesOf, fileSystem } = setUp();
    const quarantine = open();
    quarantine.keep(refused(1));
    quarantine.write();
    fileSystem.fault = (operation, path) =>
      operation === 'write' && path.endsWith('jsonl') ? 'ENOSPC' : null;
    quarantine.keep(refused(2));
    quarantine.write();
    expect(quarantine.stats).toMatchObject({ kept: 1, notKept: 1, lastError: { code: 'ENOSPC' } });
    fileSystem.fault = (operation) => (operation === 'sync' ? 'EIO' : null);
    await quarantine.sync();
    expect(quarantine.stats.lastError).toMatchObject({ code: 'EIO' });
    fileSystem.fault = () => null;
    quarantine.keep(refused(3));
    quarantine.close();
    expect(entries().map(({ seq }) => seq)).toEqual([1, 3]);
    expect(bytesOf(entries()[1]!.offset, 5)).toEqual(new Uint8Array(5).fill(3));
  });

  test('after a power loss every entry that was synced has its bytes', async () => {
    const random = seededRandom('quarantine');
    for (let round = 0; round < 50; round++) {
      const { open, fileSystem } = setUp();
      const quarantine = open();
      const synced = random.int(0, 10);
      for (let number = 1; number <= synced; number++) quarantine.keep(refused(number, random.bytes(200)));
      quarantine.write();
      await quarantine.sync();
      const before = readQuarantineIndex(DIRECTORY, fileSystem);
      for (let number = 1; number <= 5; number++) quarantine.keep(refused(100 + number, random.bytes(300)));
      quarantine.write();
      const data = fileSystem.readFile(`${DIRECTORY}/${QUARANTINE_DATA}`);
      const left = fileSystem.afterPowerLoss(random);
      const found = readQuarantineIndex(DIRECTORY, left);
      expect(found.slice(0, synced)).toEqual(before);
      for (const { offset, length } of before) {
        const kept = left.readFile(`${DIRECTORY}/${QUARANTINE_DATA}`).slice(offset, offset + length);
        expect(kept).toEqual(data.slice(offset, offset + length));
      }
      new Quarantine({ directory: DIRECTORY, fileSystem: left, maxBytes: 1e6 }).close();
    }
  });
});
