import { beforeEach, describe, expect, test } from 'bun:test';
import {
  FLUSH_LOG_FILE,
  FlushLogError,
  openFlushLog,
  readFlushLog,
  sentEndLsn,
} from '../../src/sink/flush-log.ts';
import { type OpenGroup, parseFlushLog } from '../../src/sink/flush-log-format.ts';
import { MemoryFileSystem } from '../support/memory-file-system.ts';
import { seededRandom } from '../support/random.ts';

const DIR = '/wal';
const PATH = `${DIR}/${FLUSH_LOG_FILE}`;
const WAL_ID = 0xabcdn;
const decoder = new TextDecoder();

function group(topic: string, firstLsn: bigint, rowCount: number): OpenGroup {
  const lastLsn = firstLsn + BigInt(rowCount) - 1n;
  return {
    topic,
    firstLsn,
    lastLsn,
    rowCount,
    contentHash: firstLsn * 7n,
    token: `${topic}:${firstLsn}`,
    format: 'Native',
  };
}

describe('flush log', () => {
  let disk: MemoryFileSystem;
  beforeEach(() => {
    disk = new MemoryFileSystem();
    disk.mkdir(DIR);
  });

  test('LSNs that may be at the server are known, sent and unfinished groups included', async () => {
    expect(sentEndLsn(disk, DIR)).toBe(0n);
    const log = openFlushLog(disk, DIR, WAL_ID);
    await log.open(group('a', 0n, 10));
    log.close(group('a', 0n, 10), 'inserted');
    expect(sentEndLsn(disk, DIR)).toBe(10n);
    await log.open(group('b', 10n, 5));
    expect(sentEndLsn(disk, DIR)).toBe(15n);
    await log.end();
  });

  test('what was opened and closed is there after a restart', async () => {
    const log = openFlushLog(disk, DIR, WAL_ID);
    await log.open(group('a', 0n, 10));
    log.close(group('a', 0n, 10), 'inserted');
    await log.open(group('b', 10n, 5));
    log.close(group('b', 10n, 5), 'dead');
    await log.open(group('a', 15n, 2));
    log.skipTo('c', 99n);
    await log.end();
    const again = openFlushLog(disk, DIR, WAL_ID);
    expect(again.progressOf('a')).toEqual({
      nextLsn: 10n,
      insertedRows: 10n,
      insertedGroups: 1,
      deadRows: 0n,
      deadGroups: 0,
      open: group('a', 15n, 2),
      suspect: false,
    });
    expect(again.progressOf('b')).toMatchObject({ nextLsn: 15n, deadRows: 5n, deadGroups: 1, open: null });
    expect(again.progressOf('c')).toMatchObject({ nextLsn: 99n, insertedRows: 0n });
    expect(again.progressOf('unknown')).toMatchObject({ nextLsn: 0n, open: null });
    await again.end();
  });

  test('a log that is cut at any byte says what stood before the cut', async () => {
    const log = openFlushLog(disk, DIR, WAL_ID);
    await log.open(group('a', 0n, 10));
    log.close(group('a', 0n, 10), 'inserted');
    await log.open(group('a', 10n, 10));
    await log.end();
    const text = decoder.decode(disk.readFile(PATH));
    const lines = text.split('\n');
    for (let length = 0; length <= text.length; length++) {
      const { progress, damaged } = parseFlushLog(text.slice(0, length));
      const whole = text.slice(0, length).split('\n').length - 1;
      expect(damaged).toBe(length > 0 && text[length - 1] !== '\n');
      const state = progress.get('a');
      expect(state?.nextLsn ?? 0n).toBe(whole >= 3 ? 10n : 0n);
      expect(state?.open?.firstLsn ?? null).toBe(whole >= 4 ? 10n : whole === 2 ? 0n : null);
    }
    expect(lines).toHaveLength(5);
  });

  test('a changed byte is noticed at every position', async () => {
    const log = openFlushLog(disk, DIR, WAL_ID);
    await log.open(group('a', 0n, 10));
    log.close(group('a', 0n, 10), 'inserted');
    await log.open(group('a', 10n, 10));
    await log.end();
    const bytes = disk.readFile(PATH);
    for (let position = 0; position < bytes.length; position++) {
      const changed = bytes.slice();
      changed[position]! ^= 0x01;
      expect(parseFlushLog(decoder.decode(changed)).damaged).toBe(true);
    }
  });

  test('after damage every topic is suspect until its next group, also over restarts', async () => {
    const log = openFlushLog(disk, DIR, WAL_ID);
    await log.open(group('a', 0n, 10));
    log.skipTo('b', 5n);
    await log.end();
    const bytes = disk.readFile(PATH);
    disk.put(PATH, bytes.subarray(0, bytes.length - 3));
    for (let restart = 0; restart < 2; restart++) {
      const again = openFlushLog(disk, DIR, WAL_ID);
      expect(again.progressOf('a')).toMatchObject({ suspect: true, open: group('a', 0n, 10) });
      await again.end();
    }
    const last = openFlushLog(disk, DIR, WAL_ID);
    last.close(group('a', 0n, 10), 'inserted');
    expect(last.progressOf('a').suspect).toBe(true);
    await last.open(group('a', 10n, 1));
    expect(last.progressOf('a').suspect).toBe(false);
    await last.end();
  });

  test('power loss at any moment: an opened group is open or closed, never forgotten', async () => {
    const random = seededRandom('flush log power loss');
    for (let round = 0; round < 60; round++) {
      const memory = new MemoryFileSystem();
      memory.mkdir(DIR);
      memory.syncDirectoryNow(DIR);
      const log = openFlushLog(memory, DIR, WAL_ID);
      const opened = new Map<string, OpenGroup>();
      let lsn = 0n;
      for (let step = random.int(0, 40); step > 0; step--) {
        const topic = random.pick(['a', 'b', 'c']);
        const current = opened.get(topic);
        if (log.progressOf(topic).open !== null) log.close(current!, 'inserted');
        else {
          const next = group(topic, lsn, random.int(1, 9));
          lsn = next.lastLsn + 1n;
          await log.open(next);
          opened.set(topic, next);
        }
      }
      const after = readFlushLog(memory.afterPowerLoss(random), DIR)!;
      for (const [topic, last] of opened) {
        const state = after.progress.get(topic);
        const remembered = state?.open?.firstLsn === last.firstLsn || state?.nextLsn === last.lastLsn + 1n;
        expect(remembered || after.damaged).toBe(true);
      }
    }
  });

  test('a failed sync breaks the log for good: nothing may be sent', async () => {
    const log = openFlushLog(disk, DIR, WAL_ID);
    disk.fault = (operation) => (operation === 'sync' ? 'EIO' : null);
    await expect(log.open(group('a', 0n, 1))).rejects.toBeInstanceOf(FlushLogError);
    disk.fault = () => null;
    await expect(log.open(group('a', 0n, 1))).rejects.toBeInstanceOf(FlushLogError);
  });

  test('on a full disk an open waits for room, closes are kept, and nothing is forgotten', async () => {
    const log = openFlushLog(disk, DIR, WAL_ID);
    await log.open(group('a', 0n, 5));
    disk.fault = (operation, path) => (operation === 'write' && path === PATH ? 'ENOSPC' : null);
    log.close(group('a', 0n, 5), 'inserted');
    expect(log.progressOf('a').nextLsn).toBe(5n);
    let isOpen = false;
    const opening = log.open(group('a', 5n, 5)).then(() => {
      isOpen = true;
    });
    const stop = new AbortController();
    const stopped = log.open(group('b', 6n, 1), stop.signal);
    await Bun.sleep(150);
    expect(isOpen).toBe(false);
    stop.abort();
    await stopped;
    expect(readFlushLog(disk, DIR)?.progress.get('a')).toMatchObject({
      nextLsn: 0n,
      open: group('a', 0n, 5),
    });
    disk.fault = () => null;
    await opening;
    expect(readFlushLog(disk, DIR)?.progress.get('a')).toMatchObject({
      nextLsn: 5n,
      open: group('a', 5n, 5),
    });
    await log.end();
  });

  test('the log of another WAL is set aside', async () => {
    const log = openFlushLog(disk, DIR, WAL_ID);
    await log.open(group('a', 0n, 10));
    await log.end();
    const other = openFlushLog(disk, DIR, 0x1234n);
    expect(other.progressOf('a').open).toBeNull();
    expect(disk.list(DIR)).toContain(`${FLUSH_LOG_FILE}.000000000000abcd`);
    await other.end();
  });

  test('a log that has grown is rewritten short', async () => {
    const log = openFlushLog(disk, DIR, WAL_ID);
    let lsn = 0n;
    for (let round = 0; round < 5000; round++) {
      await log.open(group('a', lsn, 10));
      log.close(group('a', lsn, 10), 'inserted');
      log.compact();
      lsn += 10n;
    }
    await log.open(group('a', lsn, 1));
    await log.end();
    expect(disk.readFile(PATH).length).toBeLessThan(1.1 * 1024 * 1024);
    const { progress } = readFlushLog(disk, DIR)!;
    expect(progress.get('a')).toMatchObject({ nextLsn: lsn, insertedRows: lsn, insertedGroups: 5000 });
    expect(progress.get('a')!.open).toEqual(group('a', lsn, 1));
  });
});
