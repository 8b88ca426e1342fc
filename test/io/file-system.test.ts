// The real file system and its twin in memory behave alike.

import { afterAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AlignedBuffers, directPart } from '../../src/io/aligned-buffers.ts';
import { errorCode, type FileSystem, replaceFile } from '../../src/io/file-system.ts';
import { realFileSystem } from '../../src/io/real-file-system.ts';
import { MemoryFileSystem } from '../support/memory-file-system.ts';
import { seededRandom } from '../support/random.ts';

const random = seededRandom('file systems');
const root = mkdtempSync(join(tmpdir(), 'recorder-io-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const codeOf = (action: () => unknown) => {
  try {
    action();
    return null;
  } catch (error) {
    return errorCode(error);
  }
};

const systems: [string, FileSystem][] = [
  ['real', realFileSystem],
  ['memory', new MemoryFileSystem()],
];

for (const [name, fileSystem] of systems) {
  const dir = `${root}/${name}`;
  describe(name, () => {
    test('reads what was written, in parts and past the end', async () => {
      fileSystem.mkdir(dir);
      fileSystem.mkdir(dir);
      const file = fileSystem.open(`${dir}/a`, 'create');
      file.write(Uint8Array.of(1, 2, 3), 5);
      await file.writeAsync(Uint8Array.of(9), 0);
      await file.sync();
      file.syncNow();
      expect(file.sizeBytes()).toBe(8);
      const target = new Uint8Array(6).fill(7);
      expect(file.read(target, 4)).toBe(4);
      expect(target).toEqual(Uint8Array.of(0, 1, 2, 3, 7, 7));
      expect(file.read(target, 100)).toBe(0);
      file.truncate(6);
      expect(file.sizeBytes()).toBe(6);
      await file.truncateAsync(8);
      expect(fileSystem.readFile(`${dir}/a`)).toEqual(Uint8Array.of(9, 0, 0, 0, 0, 1, 0, 0));
      file.close();
    });

    test('an allocated file reads zeros, has its blocks, and keeps what is written into it', async () => {
      const path = `${dir}/allocated`;
      const file = fileSystem.open(path, 'create');
      file.allocate(3_000_000);
      expect(file.sizeBytes()).toBe(3_000_000);
      if (name === 'real') expect(statSync(path).blocks * 512).toBeGreaterThanOrEqual(3_000_000);
      file.write(Uint8Array.of(1, 2, 3), 2_000_000);
      await file.sync();
      fileSystem.uncache(path, 0, 3_000_000);
      fileSystem.uncache(`${dir}/none`, 0, 100);
      const expected = new Uint8Array(3_000_000);
      expected.set([1, 2, 3], 2_000_000);
      expect(fileSystem.readFile(path)).toEqual(expected);
      file.close();
      fileSystem.unlink(path);
    });

    test('writes past the page cache and into it leave what was written last', async () => {
      const path = `${dir}/direct`;
      const sizeBytes = 400_000;
      const file = fileSystem.open(path, 'create');
      file.allocate(sizeBytes);
      const expected = new Uint8Array(sizeBytes);
      const buffers = new AlignedBuffers(1 << 20);
      for (let round = 0; round < 60; round++) {
        const length = random.int(0, random.pick([100, 5000, 100_000]));
        const offset = random.int(0, (sizeBytes - length) / 8) * 8;
        const bytes = buffers.take(length, offset);
        bytes.set(random.bytes(length));
        expected.set(bytes, offset);
        if (random.int(0, 2) === 0) file.write(bytes, offset);
        else await file.writeAsync(bytes, offset, true);
        if (random.int(0, 9) === 0) await file.sync();
        buffers.give(bytes);
        const target = new Uint8Array(sizeBytes);
        file.read(target, 0);
        expect(Buffer.compare(target, expected)).toBe(0);
      }
      file.close();
      fileSystem.unlink(path);
    });

    test('create, rename, link and unlink as POSIX has them', async () => {
      expect(codeOf(() => fileSystem.open(`${dir}/none`, 'read'))).toBe('ENOENT');
      expect(codeOf(() => fileSystem.open(`${dir}/a`, 'create'))).toBe('EEXIST');
      expect(codeOf(() => fileSystem.list(`${dir}/none`))).toBe('ENOENT');
      expect(codeOf(() => fileSystem.unlink(`${dir}/none`))).toBe('ENOENT');
      fileSystem.link(`${dir}/a`, `${dir}/b`);
      expect(codeOf(() => fileSystem.link(`${dir}/a`, `${dir}/b`))).toBe('EEXIST');
      replaceFile(fileSystem, dir, 'c', Uint8Array.of(1));
      fileSystem.rename(`${dir}/c`, `${dir}/b`);
      expect(fileSystem.readFile(`${dir}/b`)).toEqual(Uint8Array.of(1));
      expect(fileSystem.list(dir)).toEqual(['a', 'b']);
      await fileSystem.syncDirectory(dir);
      fileSystem.unlink(`${dir}/b`);
      expect(fileSystem.exists(`${dir}/b`)).toBe(false);
      expect(fileSystem.freeBytes(dir)).toBeGreaterThan(0);
    });

    test('a map sees stores of another, and the file has them', () => {
      replaceFile(fileSystem, dir, 'mapped', new Uint8Array(64));
      replaceFile(fileSystem, dir, 'mapped', new Uint8Array(64));
      const one = fileSystem.map(`${dir}/mapped`, 64);
      const two = fileSystem.map(`${dir}/mapped`, 64);
      one[9] = 77;
      expect(two[9]).toBe(77);
      expect(fileSystem.readFile(`${dir}/mapped`)[9]).toBe(77);
    });
  });
}

test('a buffer lies in its page as the bytes will lie in the file, and is used again', () => {
  const buffers = new AlignedBuffers(1 << 20);
  const seen = new Set<ArrayBufferLike>();
  for (let round = 0; round < 200; round++) {
    const offset = random.int(0, 1 << 20) * 8;
    const length = random.int(0, 20_000);
    const bytes = buffers.take(length, offset);
    expect(bytes.length).toBe(length);
    expect(bytes.byteOffset % 8).toBe(0);
    const firstPage = Math.ceil(offset / 4096) * 4096;
    const endPage = Math.floor((offset + length) / 4096) * 4096;
    const part = endPage > firstPage ? { start: firstPage - offset, end: endPage - offset } : null;
    expect(directPart(bytes, offset)).toEqual(part);
    expect(directPart(bytes, offset + 8)).toBeNull();
    seen.add(bytes.buffer);
    buffers.give(bytes);
    const again = buffers.take(length, offset);
    expect(seen.has(again.buffer)).toBe(true);
    buffers.give(again);
  }
});
