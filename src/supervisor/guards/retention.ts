// Retention: which segments of the WAL may go, and when.
//
// Invariants
// - A segment goes only when every row in it is delivered or lies in a dead letter, as the flush log says:
//   checkpoint first, unlink second. The log is synced between reading it and believing it.
// - A segment with rows that nobody can read stays until an operator has accepted their loss (wal repair).
// - With an archive, a segment goes only after its copy has been synced and read again.
// - The current segment and the one before it stay; the oldest segments go first.
// - Only the owner of the WAL's lock does this.
//
// Life cycle: run() looks once; the recorder calls it on a timer (startRetention).

import { describeError } from '../../errors.ts';
import type { FileSystem } from '../../io/file-system.ts';
import { FLUSH_LOG_FILE } from '../../sink/flush-log.ts';
import { parseFlushLog } from '../../sink/flush-log-format.ts';
import { areAccepted, readAcceptedLosses } from '../../wal/accepted-losses.ts';
import { archiveOf, archiveSegment } from '../../wal/archive.ts';
import { segmentsAmong } from '../../wal/format.ts';
import { type InspectedSegment, inspectSegment } from '../../wal/inspect-segment.ts';
import { headerOf } from '../../wal/segment-file.ts';

export interface RetentionOptions {
  fileSystem: FileSystem;
  dir: string;
  walId: bigint;
  /** Delivered segments stay for so long after their end. */
  retainMs: number;
  /** The oldest delivered segments go sooner when all segments together are larger than this. */
  retainBytes: number;
  /** The disk runs short: all that is delivered may go, so that nothing new must stop for it. */
  isShort?: () => boolean;
  /** Where copies go first; null: none are made. */
  archiveDir: string | null;
  /** Removes the segments whose rows all lie below an LSN, and says which. */
  trim: (beforeLsn: bigint) => Promise<string[]>;
  /** ms since 1970 */
  now: () => number;
}

/** Why no further segment goes, where that is worth an operator's look. */
export interface RetentionHold {
  segment: string;
  reason: string;
}

export interface RetentionResult {
  removed: string[];
  hold: RetentionHold | null;
}

interface Segment {
  name: string;
  baseLsn: bigint;
}

/** The current segment and the one before it. */
const LAST_SEGMENTS = 2;
const NEWLINE = 0x0a;

export class Retention {
  readonly #options: RetentionOptions;
  #retainMs: number;
  #retainBytes: number;
  readonly #sizes = new Map<string, number>();
  readonly #inspected = new Map<string, InspectedSegment>();
  readonly #archived = new Set<string>();
  /** A sync of the flush log failed: what it says can no longer be believed to be on the disk. */
  #broken: RetentionHold | null = null;

  constructor(options: RetentionOptions) {
    this.#options = options;
    this.#retainMs = options.retainMs;
    this.#retainBytes = options.retainBytes;
  }

  /** Other limits, from the next run on. */
  setLimits(retainMs: number, retainBytes: number): void {
    this.#retainMs = retainMs;
    this.#retainBytes = retainBytes;
  }

  /** Removes what may go now. Throws ArchiveError and the errors of the file system; nothing is lost then. */
  async run(): Promise<RetentionResult> {
    const { fileSystem, dir } = this.#options;
    if (this.#broken !== null) return { removed: [], hold: this.#broken };
    const segments = segmentsAmong(fileSystem.list(dir));
    const due = this.#dueSegments(segments);
    if (due.length === 0) return { removed: [], hold: null };
    const delivered = await this.#deliveredLsns();
    if (delivered === null) return { removed: [], hold: this.#broken };
    const { free, hold } = await this.#freeSegments(segments, due, delivered);
    const next = segments[free];
    if (free === 0 || next === undefined) return { removed: [], hold };
    for (const segment of segments.slice(0, free)) await this.#archive(segment);
    const removed = await this.#options.trim(next.baseLsn);
    for (const name of removed) this.#forget(name);
    return { removed, hold };
  }

  /** The oldest segments that are too old, or too many, or in the way. */
  #dueSegments(segments: readonly Segment[]): Segment[] {
    const { fileSystem, dir, isShort, now } = this.#options;
    const takesAll = isShort?.() === true;
    let sizeBytes = 0;
    for (const { name } of segments) sizeBytes += this.#sizeOf(name, name !== segments.at(-1)?.name);
    const due: Segment[] = [];
    for (const [index, segment] of segments.slice(0, -LAST_SEGMENTS).entries()) {
      const next = headerOf(fileSystem, dir, segments[index + 1]!.baseLsn);
      const ageMs = next === null ? 0 : now() - Date.parse(next.meta.createdAt);
      if (!takesAll && sizeBytes <= this.#retainBytes && ageMs < this.#retainMs) break;
      due.push(segment);
      sizeBytes -= this.#sizeOf(segment.name, true);
    }
    return due;
  }

  /** Number of the oldest segments of which everything is delivered. */
  async #freeSegments(
    segments: readonly Segment[],
    due: readonly Segment[],
    delivered: ReadonlyMap<string, bigint>,
  ): Promise<{ free: number; hold: RetentionHold | null }> {
    const { fileSystem, dir } = this.#options;
    const accepted = readAcceptedLosses(fileSystem, dir);
    for (const [index, segment] of due.entries()) {
      const { endLsns, lost } = await this.#inspect(segments, index);
      if ([...endLsns].some(([topic, endLsn]) => endLsn > (delivered.get(topic) ?? 0n))) {
        return { free: index, hold: null };
      }
      const open = lost.find(({ firstLsn, lastLsn }) => !areAccepted(accepted, firstLsn, lastLsn));
      if (open !== undefined) {
        const reason = `rows ${open.firstLsn} to ${open.lastLsn} cannot be read: recorder wal repair`;
        return { free: index, hold: { segment: segment.name, reason } };
      }
    }
    return { free: due.length, hold: null };
  }

  async #inspect(segments: readonly Segment[], index: number): Promise<InspectedSegment> {
    const { fileSystem, dir } = this.#options;
    const segment = segments[index]!;
    const known = this.#inspected.get(segment.name);
    if (known !== undefined) return known;
    const next = segments[index + 1]!;
    const meta = headerOf(fileSystem, dir, next.baseLsn)?.meta ?? null;
    const previous = meta?.previousBaseLsn ?? null;
    // A segment between the two is missing: this one goes up to that one.
    const limitLsn =
      previous !== null && previous > segment.baseLsn
        ? previous
        : (meta?.gapBefore?.firstLsn ?? next.baseLsn);
    const inspected = await inspectSegment(fileSystem, dir, segment, limitLsn, segments);
    this.#inspected.set(segment.name, inspected);
    return inspected;
  }

  /**
   * By topic the first LSN that is in no finished group, on the disk by the time it is returned. Null when
   * the log does not say, or does not say it of this WAL.
   */
  async #deliveredLsns(): Promise<Map<string, bigint> | null> {
    const { fileSystem, dir, walId } = this.#options;
    const path = `${dir}/${FLUSH_LOG_FILE}`;
    if (!fileSystem.exists(path)) return null;
    const file = fileSystem.open(path, 'write');
    try {
      const bytes = new Uint8Array(file.sizeBytes());
      const read = bytes.subarray(0, file.read(bytes, 0));
      const content = parseFlushLog(new TextDecoder().decode(read));
      if (content.walId !== walId) return null;
      // Written over itself first: where a sync of the flusher has failed, the kernel takes what is in memory
      // alone for clean, and the sync below would report success. Only whole lines: they never change.
      file.write(read.subarray(0, read.lastIndexOf(NEWLINE) + 1), 0);
      // It may be in the page cache only: a power loss must not take it back once segments are gone.
      await file.sync().catch((error: unknown) => {
        this.#broken = { segment: FLUSH_LOG_FILE, reason: `cannot be synced: ${describeError(error)}` };
      });
      if (this.#broken !== null) return null;
      const states = [...content.progress].filter(([, { suspect }]) => !suspect);
      return new Map(states.map(([topic, { nextLsn }]) => [topic, nextLsn]));
    } finally {
      file.close();
    }
  }

  async #archive(segment: Segment): Promise<void> {
    const { fileSystem, dir, archiveDir, walId } = this.#options;
    if (archiveDir === null || this.#archived.has(segment.name)) return;
    await archiveSegment(fileSystem, dir, segment, archiveOf(archiveDir, walId));
    this.#archived.add(segment.name);
  }

  #sizeOf(name: string, isFinished: boolean): number {
    const known = this.#sizes.get(name);
    if (known !== undefined) return known;
    const file = this.#options.fileSystem.open(`${this.#options.dir}/${name}`, 'read');
    const sizeBytes = file.sizeBytes();
    file.close();
    if (isFinished) this.#sizes.set(name, sizeBytes);
    return sizeBytes;
  }

  #forget(name: string): void {
    this.#sizes.delete(name);
    this.#inspected.delete(name);
    this.#archived.delete(name);
  }
}
