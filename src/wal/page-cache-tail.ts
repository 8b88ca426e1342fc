// What the page cache keeps of the log: its tail, which readers that follow the writer still want.
//
// All that is older is dropped from the cache once it lies on disk. Otherwise the log would take all memory
// that the machine has free and push out the pages of others, and each new page has its price: written here
// at 1 GB/s, pages that the kernel had to fetch from the host cost 2 to 3 ns a byte, used ones 0.3.

import type { FileSystem } from '../io/file-system.ts';

/** Finished segments stay cached up to this size: a flusher that is half a second behind reads no disk. */
const KEPT_BYTES = 128 * 1024 * 1024;
/** Dropped at a time, which takes some 0.3 ms: a whole segment at once would be seen in the latency. */
const STEP_BYTES = 8 * 1024 * 1024;

interface CachedFile {
  path: string;
  sizeBytes: number;
  droppedBytes: number;
}

export class PageCacheTail {
  readonly #fileSystem: FileSystem;
  /** Oldest first. */
  readonly #files: CachedFile[] = [];
  #cachedBytes = 0;

  constructor(fileSystem: FileSystem) {
    this.#fileSystem = fileSystem;
  }

  /** A file that is finished and on disk. It may go at any time. */
  add(path: string, sizeBytes: number): void {
    this.#files.push({ path, sizeBytes, droppedBytes: 0 });
    this.#cachedBytes += sizeBytes;
  }

  /** Drops a part of what is beyond the tail; called once a sync. */
  trim(): void {
    const oldest = this.#files[0];
    if (oldest === undefined || this.#cachedBytes <= KEPT_BYTES) return;
    const wantedBytes = Math.max(STEP_BYTES, Math.ceil((this.#cachedBytes - KEPT_BYTES) / 4));
    const stepBytes = Math.min(wantedBytes, oldest.sizeBytes - oldest.droppedBytes);
    this.#fileSystem.uncache(oldest.path, oldest.droppedBytes, stepBytes);
    oldest.droppedBytes += stepBytes;
    this.#cachedBytes -= stepBytes;
    if (oldest.droppedBytes === oldest.sizeBytes) this.#files.shift();
  }
}
