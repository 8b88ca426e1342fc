// What the ingest path tells those who watch it: once a block or a sync, never once a row.

import type { WalSyncError } from '../../wal/errors.ts';
import type { BlockAppend } from '../../wal/writer.ts';

/** Rows of one topic that one sync has made durable. */
export interface SealedRows {
  topicIndex: number;
  rows: number;
  /** Ingest time of the oldest, ns since 1970. */
  oldestNs: bigint;
}

export interface IngestObserver {
  /** A block is in the WAL, its first row at `lsn`. */
  appended(topic: string, lsn: bigint, block: BlockAppend): void;
  /** A sync has succeeded. */
  synced(seconds: number): void;
  durable(rows: SealedRows): void;
  /** Called from within the WAL: must not append. */
  syncFailed(error: WalSyncError): void;
  /** The WAL has made a further segment, or could not. Called from within it: must not append. */
  walChanged(): void;
  /** The disk has no room for a further segment: path of a file that is kept for this, null: none for now. */
  spareSegment(): string | null;
}

/** Sums up the blocks of a round. */
export class SealedTally {
  readonly #topics: (SealedRows | null)[];

  constructor(topicCount: number) {
    this.#topics = Array.from({ length: topicCount }, () => null);
  }

  add({ topicIndex, rows, oldestNs }: SealedRows): void {
    const known = this.#topics[topicIndex];
    if (known == null) this.#topics[topicIndex] = { topicIndex, rows, oldestNs };
    else {
      known.rows += rows;
      if (oldestNs < known.oldestNs) known.oldestNs = oldestNs;
    }
  }

  /** What was added since the last call. */
  take(): SealedRows[] {
    const taken = this.#topics.filter((rows) => rows !== null);
    this.#topics.fill(null);
    return taken;
  }
}
