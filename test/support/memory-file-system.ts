// A file system in memory that forgets like a disk: what was not synced may be there after a power loss, or
// not, page by page and name by name. Operations can be made to fail, writes to end half-way, syncs to last.
// As on Linux, a failed sync marks its pages as clean: they are in memory, and no later sync writes them.

import type { FileHandle, FileSystem, OpenMode } from '../../src/io/file-system.ts';
import type { SeededRandom } from './random.ts';

const PAGE_SIZE_BYTES = 512;
let syncs = 0;

interface Inode {
  data: Uint8Array;
  sizeBytes: number;
  /** Content at the last sync, and which sync that was: of two at once the later one began with more. */
  synced: Uint8Array;
  syncOrder: number;
  /** Pages that a failed sync has given up: no later one writes them, unless they are written to again. */
  forgotten: Set<number>;
  /** What another thread is writing: a crash leaves all, nothing or pages of it. */
  underway: Set<{ offset: number; bytes: Uint8Array }>;
}

export type Operation =
  | 'open'
  | 'read'
  | 'write'
  | 'sync'
  | 'truncate'
  | 'allocate'
  | 'rename'
  | 'link'
  | 'unlink'
  | 'syncDirectory';

function failure(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}

function inodeOf(bytes: Uint8Array): Inode {
  return {
    data: bytes.slice(),
    sizeBytes: bytes.length,
    synced: bytes.slice(),
    syncOrder: 0,
    forgotten: new Set(),
    underway: new Set(),
  };
}

function* changedPages(before: Uint8Array, after: Uint8Array): Generator<number> {
  for (let start = 0; start < after.length; start += PAGE_SIZE_BYTES) {
    const page = after.subarray(start, start + PAGE_SIZE_BYTES);
    const old = before.subarray(start, start + PAGE_SIZE_BYTES);
    if (Buffer.compare(page, old) !== 0) yield start / PAGE_SIZE_BYTES;
  }
}

function content(inode: Inode): Uint8Array {
  return inode.data.slice(0, inode.sizeBytes);
}

class MemoryFile implements FileHandle {
  readonly path: string;
  readonly #fileSystem: MemoryFileSystem;
  readonly #inode: Inode;
  #open = true;

  constructor(fileSystem: MemoryFileSystem, path: string, inode: Inode) {
    this.#fileSystem = fileSystem;
    this.path = path;
    this.#inode = inode;
    fileSystem.openFiles++;
  }

  read(target: Uint8Array, offset: number): number {
    this.#check();
    this.#fileSystem.attempt('read', this.#name());
    const part = this.#inode.data.subarray(offset, Math.max(offset, this.#inode.sizeBytes));
    target.set(part.subarray(0, target.length));
    return Math.min(target.length, part.length);
  }

  write(source: Uint8Array, offset: number): void {
    this.#check();
    const failure = this.#fileSystem.failureOf('write', this.#name());
    const sizeBytes = failure === null ? source.length : this.#fileSystem.shortWrite(source.length);
    this.#put(source.subarray(0, sizeBytes), offset);
    if (failure !== null) throw failure;
  }

  #put(source: Uint8Array, offset: number): void {
    const end = offset + source.length;
    if (end > this.#inode.data.length) {
      const grown = new Uint8Array(Math.max(end, this.#inode.data.length * 2));
      grown.set(this.#inode.data);
      this.#inode.data = grown;
    }
    this.#inode.data.set(source, offset);
    this.#inode.sizeBytes = Math.max(this.#inode.sizeBytes, end);
    if (this.#inode.forgotten.size === 0) return;
    const lastPage = Math.floor((end - 1) / PAGE_SIZE_BYTES);
    for (let page = Math.floor(offset / PAGE_SIZE_BYTES); page <= lastPage; page++) {
      this.#inode.forgotten.delete(page);
    }
  }

  async writeAsync(source: Uint8Array, offset: number): Promise<void> {
    this.#check();
    const write = { offset, bytes: source };
    this.#inode.underway.add(write);
    try {
      await this.#fileSystem.delay();
      // The system would write into whatever has the descriptor by then.
      if (!this.#open) this.#fileSystem.writesIntoClosed++;
      this.write(source, offset);
    } finally {
      this.#inode.underway.delete(write);
    }
  }

  async sync(): Promise<void> {
    this.#check();
    const snapshot = content(this.#inode);
    const order = ++syncs;
    await this.#fileSystem.delay();
    this.#finishSync(snapshot, order);
  }

  syncNow(): void {
    this.#check();
    this.#finishSync(content(this.#inode), ++syncs);
  }

  #finishSync(snapshot: Uint8Array, order: number): void {
    const { forgotten, synced } = this.#inode;
    const failure = this.#fileSystem.failureOf('sync', this.#name());
    if (failure !== null) {
      for (const page of changedPages(synced, snapshot)) forgotten.add(page);
      throw failure;
    }
    if (order < this.#inode.syncOrder) return;
    this.#inode.syncOrder = order;
    for (const page of forgotten) {
      const start = page * PAGE_SIZE_BYTES;
      if (start >= snapshot.length) continue;
      const old = new Uint8Array(Math.min(PAGE_SIZE_BYTES, snapshot.length - start));
      old.set(synced.subarray(start, start + old.length));
      snapshot.set(old, start);
    }
    this.#inode.synced = snapshot;
  }

  truncate(sizeBytes: number): void {
    this.#check();
    this.#fileSystem.attempt('truncate', this.#name());
    if (sizeBytes < this.#inode.sizeBytes) this.#inode.data.fill(0, sizeBytes, this.#inode.sizeBytes);
    this.#inode.sizeBytes = sizeBytes;
  }

  async truncateAsync(sizeBytes: number): Promise<void> {
    this.#check();
    await this.#fileSystem.delay();
    if (!this.#open) this.#fileSystem.writesIntoClosed++;
    this.truncate(sizeBytes);
  }

  allocate(sizeBytes: number): void {
    this.#check();
    this.#fileSystem.attempt('allocate', this.#name());
    this.#put(new Uint8Array(sizeBytes), 0);
  }

  sizeBytes(): number {
    this.#check();
    return this.#inode.sizeBytes;
  }

  close(): void {
    this.#check();
    this.#open = false;
    this.#fileSystem.openFiles--;
  }

  /** The name that the file has now. */
  #name(): string {
    return this.#fileSystem.nameOf(this.#inode) ?? this.path;
  }

  #check(): void {
    if (!this.#open) throw new Error(`${this.path} is closed`);
  }
}

export class MemoryFileSystem implements FileSystem {
  /** None is written by another thread, unless a test says so. */
  backgroundBytes = Number.POSITIVE_INFINITY;
  readonly pageSizeBytes = 64;
  /** Handles that are open: a test sees leaks here. */
  openFiles = 0;
  /** Writes by another thread whose file was closed meanwhile: there must be none. */
  writesIntoClosed = 0;
  /** Called before each read and each operation that changes something; may return an error code. */
  fault: (operation: Operation, path: string) => string | null = () => null;
  /** How many bytes of a failing write are written all the same. */
  shortWrite: (sizeBytes: number) => number = () => 0;
  /** How long an operation off the event loop takes. */
  delay: () => Promise<void> = () => Promise.resolve();
  #names = new Map<string, Inode>();
  /** Names that survive a power loss. */
  #syncedNames = new Map<string, Inode>();
  #directories = new Set<string>();

  failureOf(operation: Operation, path: string): Error | null {
    const code = this.fault(operation, path);
    return code === null ? null : failure(code, path);
  }

  attempt(operation: Operation, path: string): void {
    const error = this.failureOf(operation, path);
    if (error !== null) throw error;
  }

  nameOf(inode: Inode): string | undefined {
    for (const [name, other] of this.#names) if (other === inode) return name;
    return undefined;
  }

  open(path: string, mode: OpenMode): FileHandle {
    const inode = this.#names.get(path);
    if (mode !== 'create') return new MemoryFile(this, path, this.#existing(path));
    if (inode !== undefined) throw failure('EEXIST', path);
    this.attempt('open', path);
    const made = inodeOf(new Uint8Array(0));
    this.#names.set(path, made);
    return new MemoryFile(this, path, made);
  }

  exists(path: string): boolean {
    return this.#names.has(path) || this.#directories.has(path);
  }

  list(directory: string): string[] {
    if (!this.#directories.has(directory)) throw failure('ENOENT', directory);
    const prefix = `${directory}/`;
    const names = [...this.#names.keys()].filter((name) => name.startsWith(prefix));
    return names.map((name) => name.slice(prefix.length)).sort();
  }

  mkdir(directory: string): void {
    this.#directories.add(directory);
  }

  readFile(path: string): Uint8Array {
    const inode = this.#existing(path);
    this.attempt('read', path);
    return content(inode);
  }

  rename(from: string, to: string): void {
    const inode = this.#existing(from);
    this.attempt('rename', from);
    this.#names.delete(from);
    this.#names.set(to, inode);
  }

  link(from: string, to: string): void {
    const inode = this.#existing(from);
    this.attempt('link', from);
    if (this.#names.has(to)) throw failure('EEXIST', to);
    this.#names.set(to, inode);
  }

  unlink(path: string): void {
    this.#existing(path);
    this.attempt('unlink', path);
    this.#names.delete(path);
  }

  async syncDirectory(directory: string): Promise<void> {
    await this.delay();
    this.syncDirectoryNow(directory);
  }

  syncDirectoryNow(directory: string): void {
    this.attempt('syncDirectory', directory);
    const isIn = (path: string) => path.slice(0, path.lastIndexOf('/')) === directory;
    for (const path of this.#syncedNames.keys()) if (isIn(path)) this.#syncedNames.delete(path);
    for (const [path, inode] of this.#names) if (isIn(path)) this.#syncedNames.set(path, inode);
  }

  uncache(): void {}

  map(path: string, sizeBytes: number): Uint8Array {
    return new Uint8Array(this.#existing(path).data.buffer, 0, sizeBytes);
  }

  freeBytes(): number {
    return Number.MAX_SAFE_INTEGER;
  }

  /** Replaces a file's content, as a test that damages it does. */
  put(path: string, bytes: Uint8Array): void {
    this.#names.set(path, inodeOf(bytes));
  }

  /** The process that writes is killed: what is underway is written, or not, or pages of it. */
  interruptWrites(random: SeededRandom): void {
    for (const inode of new Set(this.#names.values())) {
      inode.data = interrupted(inode, random);
      inode.underway.clear();
    }
  }

  /**
   * The same files, as a process sees them after its predecessor was killed: nothing is lost, and what was
   * not synced is not synced yet. Writes that are underway are underway there, for `interruptWrites`.
   */
  afterKill(): MemoryFileSystem {
    const copy = new MemoryFileSystem();
    const copies = new Map<Inode, Inode>();
    for (const inode of [...this.#names.values(), ...this.#syncedNames.values()]) {
      const { data, sizeBytes, synced, syncOrder, forgotten, underway } = inode;
      copies.set(inode, {
        data: data.slice(),
        sizeBytes,
        synced: synced.slice(),
        syncOrder,
        forgotten: new Set(forgotten),
        underway: new Set(underway),
      });
    }
    for (const [path, inode] of this.#names) copy.#names.set(path, copies.get(inode)!);
    for (const [path, inode] of this.#syncedNames) copy.#syncedNames.set(path, copies.get(inode)!);
    copy.#directories = new Set(this.#directories);
    return copy;
  }

  /** What a power loss leaves: each unsynced page and each unsynced name is there or not, by chance. */
  afterPowerLoss(random: SeededRandom): MemoryFileSystem {
    const names = new Map(this.#syncedNames);
    for (const path of new Set([...this.#names.keys(), ...this.#syncedNames.keys()])) {
      const [now, before] = [this.#names.get(path), this.#syncedNames.get(path)];
      if (now === before || random.int(0, 1) === 0) continue;
      if (now === undefined) names.delete(path);
      else names.set(path, now);
    }
    return this.#copy(names, (inode) => lossy(inode, random));
  }

  #copy(names: Map<string, Inode>, take: (inode: Inode) => Uint8Array): MemoryFileSystem {
    const copy = new MemoryFileSystem();
    for (const [path, inode] of names) copy.put(path, take(inode));
    copy.#syncedNames = new Map(copy.#names);
    copy.#directories = new Set(this.#directories);
    return copy;
  }

  #existing(path: string): Inode {
    const inode = this.#names.get(path);
    if (inode === undefined) throw failure('ENOENT', path);
    return inode;
  }
}

/** A file's bytes with what a crash leaves of the writes that are underway. */
function interrupted({ data, underway }: Inode, random: SeededRandom): Uint8Array {
  if (underway.size === 0) return data;
  const result = data.slice();
  for (const { offset, bytes } of underway) {
    const leaves = random.pick(['all', 'nothing', 'pages'] as const);
    for (let start = 0; start < bytes.length && leaves !== 'nothing'; start += PAGE_SIZE_BYTES) {
      if (leaves === 'pages' && random.int(0, 1) === 0) continue;
      result.set(bytes.subarray(start, start + PAGE_SIZE_BYTES), offset + start);
    }
  }
  return result;
}

function lossy(inode: Inode, random: SeededRandom): Uint8Array {
  const { sizeBytes, synced } = inode;
  const data = interrupted(inode, random);
  const size = random.int(0, 1) === 0 ? synced.length : sizeBytes;
  const result = new Uint8Array(size);
  for (let start = 0; start < size; start += PAGE_SIZE_BYTES) {
    const source = random.int(0, 1) === 0 ? synced : data.subarray(0, sizeBytes);
    result.set(source.subarray(start, Math.min(start + PAGE_SIZE_BYTES, size)), start);
  }
  return result;
}
