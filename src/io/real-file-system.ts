import fs from 'node:fs';
import { errorCode, type FileHandle, type FileSystem, type OpenMode } from './file-system.ts';
import { adviseUnneeded, reserveSpace } from './libc-files.ts';
import { SyncPace } from './sync-pace.ts';

const FLAGS = { read: 'r', write: 'r+', create: 'wx+' } as const satisfies Record<OpenMode, string>;

const ZEROS_SIZE_BYTES = 1024 * 1024;

/** One for all files: they lie on one disk, and the log is nearly all of what is synced. */
const pace = new SyncPace();

class RealFile implements FileHandle {
  readonly path: string;
  readonly #descriptor: number;
  #unsyncedBytes = 0;

  constructor(path: string, mode: OpenMode) {
    this.path = path;
    this.#descriptor = fs.openSync(path, FLAGS[mode], 0o600);
  }

  read(target: Uint8Array, offset: number): number {
    let done = 0;
    while (done < target.length) {
      const count = fs.readSync(this.#descriptor, target, done, target.length - done, offset + done);
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  write(source: Uint8Array, offset: number): void {
    this.#unsyncedBytes += source.length;
    let done = 0;
    while (done < source.length) {
      const count = fs.writeSync(this.#descriptor, source, done, source.length - done, offset + done);
      if (count === 0)
        throw Object.assign(new Error(`write to ${this.path} made no progress`), { code: 'EIO' });
      done += count;
    }
  }

  async writeAsync(source: Uint8Array, offset: number): Promise<void> {
    this.#unsyncedBytes += source.length;
    let done = 0;
    while (done < source.length) {
      const count = await this.#writeSome(source, done, offset + done);
      if (count === 0)
        throw Object.assign(new Error(`write to ${this.path} made no progress`), { code: 'EIO' });
      done += count;
    }
  }

  #writeSome(source: Uint8Array, start: number, offset: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.write(this.#descriptor, source, start, source.length - start, offset, (error, count) => {
        if (error) reject(error);
        else resolve(count);
      });
    });
  }

  sync(): Promise<void> {
    const sizeBytes = this.#unsyncedBytes;
    this.#unsyncedBytes = 0;
    const startedMs = performance.now();
    const done = pace.isInline(sizeBytes) ? this.#syncInline() : this.#syncElsewhere();
    return done.then(
      () => pace.took(performance.now() - startedMs, sizeBytes),
      (error) => {
        pace.failed();
        throw error;
      },
    );
  }

  #syncElsewhere(): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.fdatasync(this.#descriptor, (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
  }

  async #syncInline(): Promise<void> {
    fs.fdatasyncSync(this.#descriptor);
  }

  syncNow(): void {
    this.#unsyncedBytes = 0;
    fs.fdatasyncSync(this.#descriptor);
  }

  truncate(sizeBytes: number): void {
    fs.ftruncateSync(this.#descriptor, sizeBytes);
  }

  allocate(sizeBytes: number): void {
    if (!reserveSpace(this.#descriptor, sizeBytes, this.path)) this.#writeZeros(sizeBytes);
  }

  #writeZeros(sizeBytes: number): void {
    const zeros = new Uint8Array(Math.min(sizeBytes, ZEROS_SIZE_BYTES));
    for (let offset = 0; offset < sizeBytes; offset += zeros.length) {
      this.write(zeros.subarray(0, Math.min(zeros.length, sizeBytes - offset)), offset);
    }
  }

  sizeBytes(): number {
    return fs.fstatSync(this.#descriptor).size;
  }

  close(): void {
    fs.closeSync(this.#descriptor);
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await fs.promises.open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function syncDirectoryNow(directory: string): void {
  const descriptor = fs.openSync(directory, 'r');
  try {
    fs.fsyncSync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

function uncache(path: string, offset: number, sizeBytes: number): void {
  let descriptor: number;
  try {
    descriptor = fs.openSync(path, 'r');
  } catch (error) {
    // A hint: a file that was trimmed meanwhile, or no free descriptor, are no reason to fail.
    if (errorCode(error) !== undefined) return;
    throw error;
  }
  adviseUnneeded(descriptor, offset, sizeBytes);
  fs.closeSync(descriptor);
}

/** The operating system's files. */
export const realFileSystem: FileSystem = {
  open: (path, mode) => new RealFile(path, mode),
  exists: (path) => fs.existsSync(path),
  list: (directory) => fs.readdirSync(directory).sort(),
  mkdir: (directory) => {
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
  },
  readFile: (path) => new Uint8Array(fs.readFileSync(path)),
  rename: (from, to) => fs.renameSync(from, to),
  link: (from, to) => fs.linkSync(from, to),
  unlink: (path) => fs.unlinkSync(path),
  syncDirectory,
  syncDirectoryNow,
  uncache,
  map: (path, sizeBytes) => Bun.mmap(path, { shared: true, size: sizeBytes }),
  freeBytes: (path) => {
    const stats = fs.statfsSync(path);
    return stats.bavail * stats.bsize;
  },
};
