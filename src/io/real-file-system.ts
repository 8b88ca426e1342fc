import fs from 'node:fs';
import { directPart, PAGE_SIZE_BYTES } from './aligned-buffers.ts';
import { errorCode, type FileHandle, type FileSystem, type OpenMode } from './file-system.ts';
import { adviseUnneeded, openPastCache, reserveSpace } from './libc-files.ts';
import { SyncPace } from './sync-pace.ts';

const FLAGS = { read: 'r', write: 'r+', create: 'wx+' } as const satisfies Record<OpenMode, string>;

const ZEROS_SIZE_BYTES = 1024 * 1024;
/** Written into the page cache in some 120 µs; getting to another thread and back takes as long. */
const BACKGROUND_BYTES = 512 * 1024;

/** One for all files: they lie on one disk, and the log is nearly all of what is synced. */
const pace = new SyncPace();

class RealFile implements FileHandle {
  readonly path: string;
  readonly #descriptor: number;
  #unsyncedBytes = 0;
  /** For writes past the page cache: undefined before the first one, null where the system has none. */
  #direct: number | null | undefined;
  #isDirectRefused = false;

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

  async writeAsync(source: Uint8Array, offset: number, isDirect = false): Promise<void> {
    this.#unsyncedBytes += source.length;
    const part = isDirect ? directPart(source, offset) : null;
    if (part === null) return await this.#writeAll(this.#descriptor, source, offset);
    const { start, end } = part;
    const writes = await Promise.allSettled([
      this.#writeAll(this.#descriptor, source.subarray(0, start), offset),
      this.#writeDirect(source.subarray(start, end), offset + start),
      this.#writeAll(this.#descriptor, source.subarray(end), offset + end),
    ]);
    for (const write of writes) if (write.status === 'rejected') throw write.reason;
  }

  async #writeDirect(source: Uint8Array, offset: number): Promise<void> {
    if (this.#direct === undefined) this.#direct = openPastCache(this.#descriptor);
    try {
      if (this.#direct !== null && !this.#isDirectRefused)
        return await this.#writeAll(this.#direct, source, offset);
    } catch (error) {
      // Some file systems say only now that they cannot.
      if (errorCode(error) !== 'EINVAL') throw error;
      // Others may be writing through it: it is closed with the file.
      this.#isDirectRefused = true;
    }
    await this.#writeAll(this.#descriptor, source, offset);
  }

  async #writeAll(descriptor: number, source: Uint8Array, offset: number): Promise<void> {
    let done = 0;
    while (done < source.length) {
      const count = await writeSome(descriptor, source, done, offset + done);
      if (count === 0)
        throw Object.assign(new Error(`write to ${this.path} made no progress`), { code: 'EIO' });
      done += count;
    }
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

  truncateAsync(sizeBytes: number): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.ftruncate(this.#descriptor, sizeBytes, (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
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
    try {
      fs.closeSync(this.#descriptor);
    } finally {
      if (typeof this.#direct === 'number') fs.closeSync(this.#direct);
    }
  }
}

function writeSome(descriptor: number, source: Uint8Array, start: number, offset: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.write(descriptor, source, start, source.length - start, offset, (error, count) => {
      if (error) reject(error);
      else resolve(count);
    });
  });
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
  backgroundBytes: BACKGROUND_BYTES,
  pageSizeBytes: PAGE_SIZE_BYTES,
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
