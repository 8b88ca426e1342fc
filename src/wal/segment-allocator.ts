// Makes segments ahead of their use: a file of the full size, its blocks taken from the disk, synced off the
// event loop. So a full disk shows here and not in the middle of an append (holds on file systems that
// overwrite in place).
//
// The blocks are allocated, not written: with zeros beforehand every byte went to the disk twice, and where
// the next file was not ready in time, the ingest thread wrote it (27 % of its time at full rate).
//
// Life cycle of a file: `next.prepared`, taken when its sync has ended: header written, renamed to its
// segment's name. A file that was made in a hurry is `next.urgent`. What a crash leaves of them is removed at
// the next start: making one anew takes less than to look whether it is all zero.

import { errorCode, type FileHandle, type FileSystem } from '../io/file-system.ts';

const PREPARED = 'next.prepared';
const URGENT = 'next.urgent';

export interface AllocatorOptions {
  fileSystem: FileSystem;
  dir: string;
  segmentSizeBytes: number;
  /** Time between attempts after a failed one. */
  retryIntervalMs: number;
  /** Called when `isReady` or `lastError` has changed. */
  onChange: () => void;
  /**
   * Asked where there is no room: path of a file that was kept for this, a segment long, zeros and synced. It
   * is renamed. Null: there is none, or it is not to be used yet.
   */
  spare: () => string | null;
}

export class SegmentAllocator {
  readonly #options: AllocatorOptions;
  #ready: FileHandle | null = null;
  #preparing: Promise<void> | null = null;
  #retry: ReturnType<typeof setTimeout> | null = null;
  #failedAt = Number.NEGATIVE_INFINITY;
  #closed = false;
  /** Why the last attempt to make a segment failed; null after one that did not. */
  lastError: unknown = null;

  constructor(options: AllocatorOptions) {
    this.#options = options;
  }

  get isReady(): boolean {
    return this.#ready !== null;
  }

  /** Removes what an earlier run left. */
  start(): void {
    const { fileSystem, dir } = this.#options;
    for (const name of [PREPARED, URGENT]) {
      if (fileSystem.exists(`${dir}/${name}`)) fileSystem.unlink(`${dir}/${name}`);
    }
  }

  /** Begins to prepare the next file, unless it is there or on its way. */
  prepare(): void {
    if (this.#ready !== null || this.#preparing !== null || this.#closed || this.#retry !== null) return;
    this.#preparing = this.#make().finally(() => {
      this.#preparing = null;
    });
  }

  /**
   * A file of at least `sizeBytes` of zeros, for a header and a rename by the caller. Takes the prepared one,
   * or allocates one now (some 0.5 ms for 64 MiB). Throws the file system's error; after a failure, throws
   * the same one without trying until the retry interval is over.
   */
  take(sizeBytes: number): FileHandle {
    const ready = this.#ready;
    if (ready !== null && sizeBytes <= this.#options.segmentSizeBytes) {
      this.#ready = null;
      return ready;
    }
    try {
      if (performance.now() - this.#failedAt < this.#options.retryIntervalMs) throw this.lastError;
      return this.#makeNow(Math.max(sizeBytes, this.#options.segmentSizeBytes));
    } catch (error) {
      const spare = sizeBytes <= this.#options.segmentSizeBytes ? this.#adopt(URGENT) : null;
      if (spare !== null) return spare;
      if (error !== this.lastError) this.#failed(error);
      throw error;
    }
  }

  /** Waits for the background work, and gives the prepared file's space back. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    await this.#preparing;
    if (this.#ready !== null) this.#discard(this.#ready, PREPARED);
    this.#ready = null;
  }

  async #make(): Promise<void> {
    const { segmentSizeBytes } = this.#options;
    let file: FileHandle | null = null;
    try {
      file = this.#create(PREPARED);
      file.allocate(segmentSizeBytes);
      // Synced beforehand, size and blocks need not be written by the segment's first sync.
      await file.sync();
      this.#ready = file;
      this.lastError = null;
      this.#failedAt = Number.NEGATIVE_INFINITY;
      this.#options.onChange();
    } catch (error) {
      this.#discard(file, PREPARED);
      this.#ready = this.#adopt(PREPARED);
      if (this.#ready === null) this.#failed(error);
      else this.#options.onChange();
    }
  }

  #adopt(name: string): FileHandle | null {
    const { fileSystem, dir, spare } = this.#options;
    const path = spare();
    if (path === null) return null;
    fileSystem.rename(path, `${dir}/${name}`);
    return fileSystem.open(`${dir}/${name}`, 'write');
  }

  #makeNow(sizeBytes: number): FileHandle {
    const file = this.#create(URGENT);
    try {
      file.allocate(sizeBytes);
      return file;
    } catch (error) {
      this.#discard(file, URGENT);
      throw error;
    }
  }

  #failed(error: unknown): void {
    this.lastError = error;
    this.#failedAt = performance.now();
    this.#options.onChange();
    if (this.#closed || this.#retry !== null) return;
    this.#retry = setTimeout(() => {
      this.#retry = null;
      this.prepare();
    }, this.#options.retryIntervalMs);
    this.#retry.unref();
  }

  /** Makes a file; one of that name is what a failed attempt has left and could not remove. */
  #create(name: string): FileHandle {
    const { fileSystem, dir } = this.#options;
    const path = `${dir}/${name}`;
    if (fileSystem.exists(path)) fileSystem.unlink(path);
    return fileSystem.open(path, 'create');
  }

  /** Gives the space of a half-made file back. What cannot be removed now, the next attempt removes. */
  #discard(file: FileHandle | null, name: string): void {
    const { fileSystem, dir } = this.#options;
    attempt(() => file?.close());
    attempt(() => fileSystem.unlink(`${dir}/${name}`));
  }
}

function attempt(step: () => void): void {
  try {
    step();
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
  }
}
