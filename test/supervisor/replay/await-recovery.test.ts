import { afterEach, beforeEach, expect, test } from 'bun:test';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { realFileSystem } from '../../../src/io/real-file-system.ts';
import type { Logger } from '../../../src/log.ts';
import { awaitRecovery } from '../../../src/supervisor/replay/await-recovery.ts';
import { writeStatus } from '../../../src/supervisor/status-file.ts';
import { acquireLock, LOCK_FILE, type LockOwner } from '../../../src/wal/lock.ts';

const silent = { info: () => {} } as unknown as Logger;
let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'recorder-await-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const wait = (path = dir) => awaitRecovery(realFileSystem, path, silent);

/** Changes the lock as if somebody else had made it. */
function lockAs(changes: Partial<LockOwner>): void {
  const path = join(dir, LOCK_FILE);
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...changes }));
}

/** The status that a recorder writes when it has recovered its WAL. */
function recovered(updatedAt: number): void {
  const counts = { topics: {}, malformed: {}, duplicates: 0, gaps: 0 };
  const status = { pid: process.pid, walId: '1', recorder: 'r', ...counts };
  writeStatus(realFileSystem, dir, { ...status, updatedAt: new Date(updatedAt).toISOString() });
}

test('without a WAL, or after a recorder that stopped or was killed, nothing is waited for', async () => {
  expect(await wait(join(dir, 'absent'))).toBe(false);
  expect(await wait()).toBe(false);
  acquireLock(realFileSystem, dir);
  lockAs({ processStart: '1' });
  expect(await wait()).toBe(false);
});

test('a recorder that runs is waited for until it says that it has recovered its WAL', async () => {
  recovered(Date.now() - 60_000);
  acquireLock(realFileSystem, dir);
  let isOver = false;
  const waiting = wait().finally(() => {
    isOver = true;
  });
  await Bun.sleep(300);
  // What an earlier one has said does not count.
  expect(isOver).toBe(false);
  recovered(Date.now() + 1);
  expect(await waiting).toBe(false);
});

test('a WAL that a power loss left, and for which nobody comes, is for its finder to recover', async () => {
  acquireLock(realFileSystem, dir);
  lockAs({ bootId: 'an earlier boot' });
  expect(await wait()).toBe(true);
}, 20_000);

test('a recorder that comes after a power loss is left its recovery', async () => {
  acquireLock(realFileSystem, dir);
  lockAs({ bootId: 'an earlier boot' });
  const waiting = wait();
  await Bun.sleep(200);
  acquireLock(realFileSystem, dir);
  await Bun.sleep(200);
  recovered(Date.now() + 1);
  expect(await waiting).toBe(false);
}, 20_000);
