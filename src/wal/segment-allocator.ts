// Makes segments ahead of their use: a file of the full size, written with zeros and synced, off the event
// loop. So a full disk shows here and not in the middle of an append (holds on file systems that overwrite in
// place).
//
// Life cycle of a file: `next.preparing` while it is written, then `next.ready`, then taken: header written,
// renamed to its segment's name. A file that was made in a hurry is `next.urgent`. What a crash leaves of
// them is removed at the next start, except a `next.ready` that is whole and all zero, which is used.

import { errorCode, type FileHandle, type FileSystem } from '../io/file-system.ts';
import { findNonZero } from './segment-file.ts';

const PREPARING = 'next.preparing';
const READY = 'next.ready';
const URGENT = 'next.urgent';
const CHUNK_SIZE_BYTES = 1024 * 1024;
const ZEROS = new Uint8Array(CHUNK_SIZE_BYTES);

export interface AllocatorOptions {
  fileSystem: FileSystem;
  dir: string;
  segmentSizeBytes: number;
  /** Time between attempts after a failed one. */
  retryIntervalMs: number;
  /** Called when `isReady` or `lastError` has changed. */
  onChange: () => void;
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

  /** Removes what an earlier run left, or adopts its prepared file; then prepares in the background. */
  start(): void {
    const { fileSystem, dir, segmentSizeBytes } = this.#options;
    for (const name of [PREPARING, URGENT]) {
      if (fileSystem.exists(`${dir}/${name}`)) fileSystem.unlink(`${dir}/${name}`);
    }
    if (fileSystem.exists(`${dir}/${READY}`)) {
      const file = fileSystem.open(`${dir}/${READY}`, 'write');
      if (file.sizeBytes() === segmentSizeBytes && findNonZero(file, 0) === -1) this.#ready = file;
      else {
        file.close();
        fileSystem.unlink(file.path);
      }
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
   * or writes one now on the calling thread (some 10 ms per 64 MiB into the page cache). Throws the file
   * system's error; after a failure, throws the same one without trying until the retry interval is over.
   */
  take(sizeBytes: number): FileHandle {
    const ready = this.#ready;
    if (ready !== null && sizeBytes <= this.#options.segmentSizeBytes) {
      this.#ready = null;
      return ready;
    }
    if (performance.now() - this.#failedAt < this.#options.retryIntervalMs) throw this.lastError;
    try {
      return this.#makeNow(Math.max(sizeBytes, this.#options.segmentSizeBytes));
    } catch (error) {
      this.#failed(error);
      throw error;
    }
  }

  /** Waits for the background work. The prepared file stays on disk for the next start. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    await this.#preparing;
    this.#ready?.close();
    this.#ready = null;
  }

  async #make(): Promise<void> {
    const { fileSystem, dir, segmentSizeBytes } = this.#options;
    let file: FileHandle | null = null;
    try {
      file = this.#create(PREPARING);
      for (let offset = 0; offset < segmentSizeBytes && !this.#closed; offset += CHUNK_SIZE_BYTES) {
        const chunk = ZEROS.subarray(0, Math.min(CHUNK_SIZE_BYTES, segmentSizeBytes - offset));
        await file.writeAsync(chunk, offset);
      }
      // Not usable before this has ended: an error of these writes must not be reported to a later sync of
      // the segment, or be swallowed by this one.
      if (!this.#closed) await file.sync();
      // Forgotten first: closed twice, the descriptor may be another file's by then.
      const written = file;
      file = null;
      written.close();
      if (this.#closed) return fileSystem.unlink(`${dir}/${PREPARING}`);
      fileSystem.rename(`${dir}/${PREPARING}`, `${dir}/${READY}`);
      this.#ready = fileSystem.open(`${dir}/${READY}`, 'write');
      this.lastError = null;
      this.#failedAt = Number.NEGATIVE_INFINITY;
      this.#options.onChange();
    } catch (error) {
      this.#discard(file, PREPARING);
      this.#failed(error);
    }
  }

  #makeNow(sizeBytes: number): FileHandle {
    const file = this.#create(URGENT);
    try {
      for (let offset = 0; offset < sizeBytes; offset += CHUNK_SIZE_BYTES) {
        file.write(ZEROS.subarray(0, Math.min(CHUNK_SIZE_BYTES, sizeBytes - offset)), offset);
      }
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
