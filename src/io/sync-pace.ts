// Where a file is synced: on the thread that asks, or on another.
//
// Another thread keeps the event loop free while the disk works, but getting there and back costs two wakes
// of a sleeping core, some 60 µs here, and on a machine with few cores the threads take them from each other.
// A disk that confirms 4 KiB in 110 µs is done before that. So a sync of little data goes to the disk at
// once while the disk is quick, and to another thread as soon as it was slow once.

/** More than this is worth a thread: it is written while the next rows are read. */
export const INLINE_BYTES = 64 * 1024;
/** A sync within this is quick. */
const QUICK_MS = 0.5;
/** So many quick syncs in a row show a quick disk. */
const QUICK_RUN = 4;
/** One that holds the caller up for longer sends the next ones to another thread. */
const SLOW_MS = 2;

/** Knows from the syncs of one disk how quick it is. Pure: times come from the caller. */
export class SyncPace {
  #quickRun = 0;

  /** Whether a sync of `sizeBytes` that were written since the last one is done on the calling thread. */
  isInline(sizeBytes: number): boolean {
    return this.#quickRun >= QUICK_RUN && sizeBytes <= INLINE_BYTES;
  }

  /** A sync of so many bytes has taken `ms`, the way to another thread included. */
  took(ms: number, sizeBytes: number): void {
    if (sizeBytes > INLINE_BYTES) return;
    if (ms <= QUICK_MS) this.#quickRun++;
    else if (ms > SLOW_MS || this.#quickRun < QUICK_RUN) this.#quickRun = 0;
  }

  /** A sync has failed: the disk is not what it was. */
  failed(): void {
    this.#quickRun = 0;
  }
}
