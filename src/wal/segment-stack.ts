// The segments that the writer has open: the current one, and those before it whose rows are not durable yet.
//
// Invariants: the file that a segment's header names as its predecessor is there; no two segments have the
// same base LSN; a segment is closed and forgotten only when it is synced and all its rows are durable.

import type { FileSystem } from '../io/file-system.ts';
import {
  type ActiveSegment,
  beginSegment,
  type Chain,
  cutSegment,
  type SegmentStart,
  wipeTail,
} from './active-segment.ts';
import { WalClosedError } from './errors.ts';
import { PageCacheTail } from './page-cache-tail.ts';
import type { SegmentAllocator } from './segment-allocator.ts';

/** A place behind a record. */
export interface Place {
  segment: ActiveSegment | null;
  offset: number;
  /** What a segment that begins here says about the log before it. */
  chain: Chain;
}

/** The end of a group: what the log goes back to when what follows is void. */
export interface Border {
  lsn: bigint;
  place: Place;
  rows: readonly bigint[];
}

/** What a failed sync rejects with: the file or directory, and why. */
export interface SegmentSyncFailure {
  failing: string;
  cause: unknown;
}

export interface StackSettings {
  fileSystem: FileSystem;
  dir: string;
  syncPolicy: string;
}

export class SegmentStack {
  readonly #settings: StackSettings;
  readonly #allocator: SegmentAllocator;
  /** By LSN; the current one is the last. */
  #segments: ActiveSegment[] = [];
  #current: ActiveSegment | null = null;
  #chain: Chain;
  #directoryDirty = true;
  /** Rows that stay in the log were in a sync that failed: they may never reach the disk. */
  isTainted = false;
  readonly #cached: PageCacheTail;

  constructor(settings: StackSettings, allocator: SegmentAllocator, chain: Chain) {
    this.#settings = settings;
    this.#allocator = allocator;
    this.#chain = chain;
    this.#cached = new PageCacheTail(settings.fileSystem);
  }

  /** Checksum that the next record or segment names as its predecessor. */
  get prevChecksum(): bigint {
    return this.#chain.prevChecksum;
  }

  set prevChecksum(value: bigint) {
    this.#chain = { ...this.#chain, prevChecksum: value };
  }

  /** Bytes left in the current segment. */
  get roomSizeBytes(): number {
    const current = this.#current;
    return current === null ? 0 : current.sizeBytes - current.usedSizeBytes;
  }

  /** Segments with rows that may not be durable, by LSN. */
  open(): readonly ActiveSegment[] {
    return this.#segments;
  }

  /** The end of what was appended. */
  place(): Place {
    const segment = this.#current;
    return { segment, offset: segment?.usedSizeBytes ?? 0, chain: this.#chain };
  }

  /**
   * The current segment when `sizeBytes` more fit, or a new one; the current one is sealed only when there is
   * a new one. Throws WalFullError, WalWriteError.
   */
  withRoom(sizeBytes: number, start: () => SegmentStart): ActiveSegment {
    const current = this.#current;
    if (current !== null && sizeBytes <= this.roomSizeBytes) return current;
    // A record that is larger than a segment gets one of its own; the empty one would have the same name.
    if (current !== null && current.endLsn === current.baseLsn) this.#dropEmpty(current);
    const segment = beginSegment(this.#settings, start(), this.#chain, this.#allocator, sizeBytes);
    this.#directoryDirty = true;
    this.#finish();
    this.#segments.push(segment);
    this.#current = segment;
    this.#chain = { prevChecksum: segment.headerChecksum, previousBaseLsn: segment.baseLsn, gapBefore: null };
    this.#allocator.prepare();
    return segment;
  }

  /** Ends the current segment; its rows stay to be synced. False where it could not be cut. */
  seal(): boolean {
    const segment = this.#end();
    return segment === null || cutSegment(segment);
  }

  /** As `seal`, off the event loop: to give blocks back can take the disk milliseconds. */
  #finish(): void {
    const segment = this.#end();
    segment?.writes.beginCut(segment.usedSizeBytes);
  }

  #end(): ActiveSegment | null {
    const segment = this.#current;
    if (segment === null) return null;
    this.#current = null;
    segment.sealed = true;
    // Nothing is synced under this policy: the file is not kept open for it.
    segment.synced = this.#settings.syncPolicy === 'none';
    return segment;
  }

  /**
   * Ends a segment that could not be written to; its rows stay to be synced. Where the disk does not take
   * back what the failed write has left either, the log must not go on: it would be read as rows.
   */
  abandon(segment: ActiveSegment): WalClosedError | null {
    const isCut = this.seal() || wipeTail(segment);
    if (segment.endLsn === segment.baseLsn) this.#dropEmpty(segment);
    return isCut ? null : new WalClosedError(`the end of ${segment.name} cannot be cut off`);
  }

  /** Whether an append before the call is not yet in its file, or has failed to get there. */
  get isWriting(): boolean {
    return this.#segments.some(({ writes }) => writes.isRunning || writes.failed.length > 0);
  }

  /** Resolves when everything appended before the call is in the files; rejects where a write failed. */
  async written(): Promise<void> {
    await Promise.all(this.#segments.map(({ writes }) => writes.ended()));
  }

  /**
   * Syncs everything that was appended before the call, off the event loop. Rejects with SegmentSyncFailure;
   * call `rollBack` then.
   */
  async sync(): Promise<void> {
    const sealed = this.#segments.filter((segment) => segment.sealed);
    let failing = '';
    try {
      for (const segment of [...this.#segments]) {
        failing = segment.name;
        await segment.writes.ended();
        if (!segment.synced) await segment.file.sync();
      }
      if (this.#directoryDirty) {
        failing = this.#settings.dir;
        this.#directoryDirty = false;
        await this.#settings.fileSystem.syncDirectory(this.#settings.dir);
      }
    } catch (cause) {
      throw { failing, cause } satisfies SegmentSyncFailure;
    }
    for (const segment of sealed) segment.synced = true;
  }

  /** Closes the segments that are synced and hold no row at or past `durableLsn`. */
  forgetBelow(durableLsn: bigint): void {
    const done = ({ synced, endLsn, writes }: ActiveSegment) =>
      synced && endLsn <= durableLsn && !writes.isRunning;
    for (const segment of this.#segments.filter(done)) {
      segment.file.close();
      this.#cached.add(`${this.#settings.dir}/${segment.name}`, segment.usedSizeBytes);
    }
    this.#segments = this.#segments.filter((segment) => !done(segment));
    this.#cached.trim();
  }

  /**
   * Cuts off all rows from `lsn`, which lies at `place`, to `nextLsn`, and closes all files. The next
   * segment's header says that these LSNs are void: a cut that a power loss undoes does not bring the rows
   * back. `syncedLsn`: rows below it have been synced.
   */
  rollBack(place: Place, lsn: bigint, nextLsn: bigint, syncedLsn: bigint): void {
    this.isTainted ||= syncedLsn < lsn;
    const open = this.#segments;
    this.#segments = [];
    this.#current = null;
    const first = open.find(({ baseLsn }) => baseLsn === lsn) ?? null;
    this.#chain = chainBehind(place, first, lsn, nextLsn);
    for (const other of open) {
      if (other === first) other.file.truncate(other.headerSizeBytes);
      else if (other === place.segment) other.file.truncate(place.offset);
      else if (other.baseLsn > lsn) this.#settings.fileSystem.unlink(`${this.#settings.dir}/${other.name}`);
      other.file.close();
    }
  }

  /** Closes all files. */
  close(): void {
    for (const segment of this.#segments) segment.file.close();
    this.#segments = [];
    this.#current = null;
  }

  #dropEmpty(segment: ActiveSegment): void {
    this.#chain = segment.before;
    if (this.#current === segment) this.#current = null;
    this.#segments = this.#segments.filter((other) => other !== segment);
    // Its file stays until the next segment, which has its name, takes its place.
    segment.file.close();
  }
}

/**
 * The chain behind void rows `lsn` to `nextLsn - 1`. `first` is the segment that begins with them: it stays
 * with its header alone, for what that says of the streams; without any void row the next segment has its
 * name and replaces it.
 */
function chainBehind(place: Place, first: ActiveSegment | null, lsn: bigint, nextLsn: bigint): Chain {
  if (nextLsn === lsn) return first === null ? place.chain : first.before;
  const reason = 'sync_failed';
  const lastLsn = nextLsn - 1n;
  if (first !== null) {
    const gapBefore = { firstLsn: lsn, lastLsn, reason };
    return { prevChecksum: first.headerChecksum, previousBaseLsn: lsn, gapBefore };
  }
  // An earlier gap ends where this one begins: no row lies between them.
  const firstLsn = place.chain.gapBefore?.firstLsn ?? lsn;
  return { ...place.chain, gapBefore: { firstLsn, lastLsn, reason } };
}
