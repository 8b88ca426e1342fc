import { expect, test } from 'bun:test';
import { PageCacheTail } from '../../src/wal/page-cache-tail.ts';
import { MemoryFileSystem } from '../support/memory-file-system.ts';
import { seededRandom } from '../support/random.ts';

const MIB = 1024 * 1024;
const KEPT_BYTES = 128 * MIB;

test('what is older than the tail leaves the cache, oldest first, in steps, each byte once', () => {
  const random = seededRandom('page cache tail');
  const dropped: { path: string; from: number; to: number }[] = [];
  const fileSystem = Object.assign(new MemoryFileSystem(), {
    uncache: (path: string, offset: number, sizeBytes: number) =>
      dropped.push({ path, from: offset, to: offset + sizeBytes }),
  });
  const tail = new PageCacheTail(fileSystem);
  const files: { path: string; sizeBytes: number }[] = [];
  let addedBytes = 0;
  for (let i = 0; i < 40; i++) {
    const file = { path: `segment ${i}`, sizeBytes: random.int(64, 64 * MIB) };
    files.push(file);
    addedBytes += file.sizeBytes;
    tail.add(file.path, file.sizeBytes);
    for (let syncs = random.int(1, 12); syncs > 0; syncs--) tail.trim();
    const droppedBytes = dropped.reduce((sum, { from, to }) => sum + to - from, 0);
    // Up to one step is dropped beyond what is too much.
    expect(addedBytes - droppedBytes).toBeGreaterThan(Math.min(addedBytes, KEPT_BYTES) - 64 * MIB - 1);
  }
  for (let syncs = 0; syncs < 1000; syncs++) tail.trim();
  const ranges = new Map(files.map(({ path }) => [path, 0]));
  for (const { path, from, to } of dropped) {
    expect(from).toBe(ranges.get(path)!);
    expect(to).toBeGreaterThan(from);
    ranges.set(path, to);
  }
  const paths = dropped.map(({ path }) => path);
  expect([...new Set(paths)]).toEqual(files.map(({ path }) => path).slice(0, new Set(paths).size));
  const droppedBytes = dropped.reduce((sum, { from, to }) => sum + to - from, 0);
  expect(addedBytes - droppedBytes).toBeLessThanOrEqual(KEPT_BYTES);
  for (const { path, sizeBytes } of files) expect(ranges.get(path)!).toBeLessThanOrEqual(sizeBytes);
});
