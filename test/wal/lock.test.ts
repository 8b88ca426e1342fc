import { expect, test } from 'bun:test';
import os from 'node:os';
import { WalLockedError } from '../../src/wal/errors.ts';
import { acquireLock, LOCK_FILE, type LockOwner, ownerState, readLock } from '../../src/wal/lock.ts';
import { MemoryFileSystem } from '../support/memory-file-system.ts';
import { DIR, open } from '../support/wal-fixture.ts';

const PATH = `${DIR}/${LOCK_FILE}`;

function directory(): MemoryFileSystem {
  const fileSystem = new MemoryFileSystem();
  fileSystem.mkdir(DIR);
  return fileSystem;
}

/** Puts a lock that differs from this process's own in some facts. */
function put(fileSystem: MemoryFileSystem, change: Partial<LockOwner>): void {
  const lock = acquireLock(fileSystem, DIR);
  const owner = { ...readLock(fileSystem, DIR)!, ...change };
  lock.release();
  fileSystem.put(PATH, new TextEncoder().encode(JSON.stringify(owner)));
}

test('a second owner is refused by the name of the first', async () => {
  const fileSystem = new MemoryFileSystem();
  const wal = await open(fileSystem);
  const refused = open(fileSystem);
  expect(refused).rejects.toBeInstanceOf(WalLockedError);
  expect(refused).rejects.toThrow(`process ${process.pid} on host ${os.hostname()}`);
  await refused.catch(() => undefined);
  await wal.close();
  await (await open(fileSystem)).close();
  expect(fileSystem.exists(PATH)).toBe(false);
});

test('the lock of a dead owner is taken over: pid gone, pid reused, other boot, torn file', () => {
  const dead: Partial<LockOwner>[] = [{ pid: 2 ** 22 + 1 }, { processStart: '1' }, { bootId: 'earlier' }];
  for (const change of dead) {
    const fileSystem = directory();
    put(fileSystem, change);
    expect(ownerState(readLock(fileSystem, DIR)!)).toBe('dead');
    const lock = acquireLock(fileSystem, DIR);
    expect(lock.takenOverFrom).toMatchObject(change);
    expect(readLock(fileSystem, DIR)).toMatchObject({ pid: process.pid });
    lock.release();
    expect(fileSystem.list(DIR)).toEqual([]);
  }
  for (const text of ['', '{"pid":', 'null', '[]']) {
    const fileSystem = directory();
    fileSystem.put(PATH, new TextEncoder().encode(text));
    acquireLock(fileSystem, DIR).release();
    expect(fileSystem.list(DIR)).toEqual([]);
  }
});

test('an owner on another host is not judged from here', () => {
  const fileSystem = directory();
  put(fileSystem, { host: 'elsewhere', pid: 2 ** 22 + 1 });
  expect(() => acquireLock(fileSystem, DIR)).toThrow('elsewhere');
  expect(fileSystem.list(DIR)).toEqual([LOCK_FILE]);
});

test('a lock that another took in the meantime is put back, not stolen', () => {
  const fileSystem = directory();
  put(fileSystem, { pid: 2 ** 22 + 1 });
  const rename = fileSystem.rename.bind(fileSystem);
  const alive = { ...readLock(fileSystem, DIR)!, pid: process.pid };
  fileSystem.rename = (from, to) => {
    fileSystem.rename = rename;
    fileSystem.put(PATH, new TextEncoder().encode(JSON.stringify(alive)));
    rename(from, to);
  };
  expect(() => acquireLock(fileSystem, DIR)).toThrow(WalLockedError);
  expect(readLock(fileSystem, DIR)).toEqual(alive);
  expect(fileSystem.list(DIR)).toEqual([LOCK_FILE]);
});

test('a lock is released only by its owner', () => {
  const fileSystem = directory();
  const lock = acquireLock(fileSystem, DIR);
  fileSystem.put(PATH, new TextEncoder().encode('{"pid":1,"host":"x"}'));
  lock.release();
  expect(fileSystem.exists(PATH)).toBe(true);
});

test('a start that fails gives the lock back, and so does a close whose sync fails', async () => {
  const fileSystem = directory();
  fileSystem.fault = (operation, path) => (operation === 'write' && path.includes('next.') ? 'ENOSPC' : null);
  await open(fileSystem).catch(() => undefined);
  expect(fileSystem.exists(PATH)).toBe(false);
  fileSystem.fault = () => null;
  const wal = await open(fileSystem);
  expect(readLock(fileSystem, DIR)).toMatchObject({ pid: process.pid });
  fileSystem.fault = (operation) => (operation === 'sync' ? 'EIO' : null);
  await expect(wal.close()).rejects.toMatchObject({ code: 'wal_sync' });
  expect(fileSystem.exists(PATH)).toBe(false);
  fileSystem.fault = () => null;
  await (await open(fileSystem)).close();
  expect(fileSystem.openFiles).toBe(0);
});

test('a lock that a failing disk keeps is that of a dead owner once its process has ended', async () => {
  const fileSystem = directory();
  const lock = acquireLock(fileSystem, DIR);
  fileSystem.fault = (operation) => (operation === 'unlink' ? 'EIO' : null);
  lock.release();
  fileSystem.fault = () => null;
  expect(() => acquireLock(fileSystem, DIR)).toThrow(WalLockedError);
  const owner = { ...readLock(fileSystem, DIR)!, processStart: 'ended' };
  fileSystem.put(PATH, new TextEncoder().encode(JSON.stringify(owner)));
  expect(acquireLock(fileSystem, DIR).takenOverFrom).toMatchObject({ pid: process.pid });
});

test('what killed starts have left goes with the next one, what living ones need stays', () => {
  const fileSystem = directory();
  const uuid = crypto.randomUUID();
  const left = [
    `lock.${2 ** 22 + 1}-${uuid}`,
    `lock.stale-${2 ** 22 + 1}-${uuid}`,
    `lock.${process.pid}-${uuid}`,
  ];
  const kept = [`lock.${process.ppid}-${uuid}`, 'lock.txt', 'lock.5-note'];
  for (const name of [...left, ...kept]) fileSystem.put(`${DIR}/${name}`, Uint8Array.of(1));
  acquireLock(fileSystem, DIR);
  expect(fileSystem.list(DIR)).toEqual([LOCK_FILE, ...kept].sort());
});
