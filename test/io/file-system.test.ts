// The real file system and its twin in memory behave alike.

import { afterAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorCode, type FileSystem, replaceFile } from '../../src/io/file-system.ts';
import { realFileSystem } from '../../src/io/real-file-system.ts';
import { MemoryFileSystem } from '../support/memory-file-system.ts';

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
      file.truncate(8);
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
