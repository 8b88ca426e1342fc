// What another thread does to a segment's file while the writer goes on: writes into it, and cuts it.
//
// Invariants
// - The file stays open, and the bytes as they are, until a write has ended.
// - A write that failed is kept: its rows are in no file. A sync of the segment fails then, and they are
//   rescued from here (rescue.ts).

import { errorCode, type FileHandle } from '../io/file-system.ts';

/** Bytes that should be in a file at `offset`. */
export interface FailedWrite {
  offset: number;
  bytes: Uint8Array;
  cause: unknown;
}

export class BackgroundWrites {
  readonly #file: FileHandle;
  readonly #running = new Set<Promise<void>>();
  /** In the order in which they were begun, as far as that matters: a header after its record. */
  readonly failed: FailedWrite[] = [];

  constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Whether one has begun and not ended. */
  get isRunning(): boolean {
    return this.#running.size > 0;
  }

  /** Begins to write `bytes` at `offset`; `ended` is called when nobody reads the bytes any more. */
  begin(bytes: Uint8Array, offset: number, isDirect: boolean, ended: () => void): void {
    this.#run(this.#file.writeAsync(bytes, offset, isDirect), bytes, offset, ended);
  }

  /** Writes bytes over others that may be on their way: after them. */
  beginOver(bytes: Uint8Array, offset: number): void {
    const write = this.ended().then(() => this.#file.writeAsync(bytes, offset));
    this.#run(write, bytes, offset, () => {});
  }

  /**
   * Begins to cut the file. Where the disk does not do it, the file has zeros behind its last record, as
   * before.
   */
  beginCut(sizeBytes: number): void {
    this.#add(this.#file.truncateAsync(sizeBytes).catch(expectDiskError));
  }

  /** Resolves when the writes that have begun have ended; rejects with the cause of one that failed. */
  async ended(): Promise<void> {
    await Promise.all(this.#running);
    const failed = this.failed[0];
    if (failed !== undefined) throw failed.cause;
  }

  #run(write: Promise<void>, bytes: Uint8Array, offset: number, ended: () => void): void {
    const kept = write.catch((cause) => {
      this.failed.push({ offset, bytes: bytes.slice(), cause });
    });
    this.#add(kept.then(ended));
  }

  #add(step: Promise<void>): void {
    const run = step.finally(() => {
      this.#running.delete(run);
    });
    this.#running.add(run);
  }
}

function expectDiskError(error: unknown): void {
  if (errorCode(error) === undefined) throw error;
}
