// The flush log: what has been delivered, and the boundaries of what is on its way.
//
// Purpose: after any crash the flusher sends an unfinished group again with the same boundaries, under the
// same deduplication token, and starts the next group behind the last finished one.
//
// Invariants
// - A group is in the log, synced, before its first byte is sent (`open`).
// - A finished group is written without a sync (`close`): when that line is lost, the group is sent again and
//   recognised.
// - At most one group of a topic is open.
// - A failed sync is never retried: the log is broken from then on and says so.
// - On a full disk lines wait in memory: delivery is what makes the space that they need. No group is sent
//   before its line is written and synced.
//
// Life cycle: openFlushLog reads the file, drops damaged lines, and rewrites it compactly; `compact` does so
// again when the file has grown; close syncs.

import { RecorderError } from '../errors.ts';
import { errorCode, type FileHandle, type FileSystem, replaceFile } from '../io/file-system.ts';
import {
  applyLine,
  closeLine,
  emptyProgress,
  encodeLine,
  type FlushLogContent,
  type GroupOutcome,
  headerLine,
  type Line,
  type OpenGroup,
  openLine,
  parseFlushLog,
  stateLine,
  type TopicProgress,
} from './flush-log-format.ts';
import { pause } from './retry.ts';

export const FLUSH_LOG_FILE = 'flush.log';
const COMPACT_SIZE_BYTES = 1024 * 1024;
const FULL_DISK_PAUSE_MS = 100;
const text = new TextEncoder();

/** The flush log cannot be written; nothing more may be sent. */
export class FlushLogError extends RecorderError {
  constructor(message: string, cause: unknown) {
    super('flush_log', message, { cause, hint: 'check the disk of the WAL directory, then restart' });
  }
}

/** Whether an operation failed for want of space. */
export function isDiskFull(error: unknown): boolean {
  const cause = error instanceof RecorderError ? error.cause : error;
  return ['ENOSPC', 'EDQUOT'].includes(errorCode(cause) ?? '');
}

/** Reads the flush log of a WAL directory without changing it; null when there is none. */
export function readFlushLog(fileSystem: FileSystem, directory: string): FlushLogContent | null {
  const path = `${directory}/${FLUSH_LOG_FILE}`;
  if (!fileSystem.exists(path)) return null;
  return parseFlushLog(new TextDecoder().decode(fileSystem.readFile(path)));
}

/**
 * LSN after the last row that was, or may have been, sent to ClickHouse; 0 without a flush log. Where a
 * power loss took rows of the WAL that were delivered already (sync policies `interval` and `none`),
 * their LSNs must not be used again: to ClickHouse the new rows would be the old ones.
 */
export function sentEndLsn(fileSystem: FileSystem, directory: string): bigint {
  let end = 0n;
  for (const { nextLsn, open } of readFlushLog(fileSystem, directory)?.progress.values() ?? []) {
    for (const lsn of [nextLsn, open === null ? 0n : open.lastLsn + 1n]) if (lsn > end) end = lsn;
  }
  return end;
}

export class FlushLog {
  readonly #fileSystem: FileSystem;
  readonly #directory: string;
  readonly walId: bigint;
  readonly #progress: Map<string, TopicProgress>;
  #file: FileHandle;
  #sizeBytes = 0;
  /** Lines for which the disk has had no room so far. */
  #waiting = '';
  #syncedBytes = 0;
  #syncing: Promise<void> | null = null;
  #broken: FlushLogError | null = null;

  constructor(fileSystem: FileSystem, directory: string, walId: bigint, content: FlushLogContent | null) {
    this.#fileSystem = fileSystem;
    this.#directory = directory;
    this.walId = walId;
    this.#progress = content?.progress ?? new Map();
    if (content?.damaged === true) for (const state of this.#progress.values()) state.suspect = true;
    this.#file = this.#rewrite();
  }

  /** How far a topic is; all zero when nothing of it was ever sent. The object is replaced, never changed. */
  progressOf(topic: string): Readonly<TopicProgress> {
    return { ...(this.#progress.get(topic) ?? emptyProgress()) };
  }

  /**
   * Writes a group's boundaries and syncs them; waits for that while the disk is full, until `signal` says
   * that nothing will be sent. Throws FlushLogError; then nothing may be sent.
   */
  async open(group: OpenGroup, signal?: AbortSignal): Promise<void> {
    this.#append(openLine(group));
    while (!this.#writeWaiting()) {
      if (signal?.aborted) return;
      await pause(FULL_DISK_PAUSE_MS, signal ?? new AbortController().signal);
    }
    await this.#syncTo(this.#sizeBytes);
  }

  /** Writes that a group is finished. */
  close(group: OpenGroup, outcome: GroupOutcome): void {
    this.#append(closeLine(group, outcome));
  }

  /** Says that all rows of the topic before `lsn` are delivered. */
  skipTo(topic: string, lsn: bigint): void {
    const state = { ...(this.#progress.get(topic) ?? emptyProgress()), nextLsn: lsn, suspect: false };
    this.#append(stateLine(topic, state));
  }

  /** Rewrites the log when it has grown long. */
  compact(): void {
    if (this.#sizeBytes < COMPACT_SIZE_BYTES || this.#syncing !== null) return;
    this.#unlessFull(() => {
      const before = this.#file;
      this.#file = this.#rewrite();
      before.close();
    });
  }

  /** Syncs and closes. */
  async end(): Promise<void> {
    try {
      // A line that still finds no room is a group that the next run asks the server for.
      if (this.#broken === null) this.#writeWaiting();
      if (this.#broken === null) await this.#syncTo(this.#sizeBytes);
    } finally {
      this.#file.close();
    }
  }

  #append(line: Line): void {
    if (this.#broken !== null) throw this.#broken;
    this.#waiting += encodeLine(line);
    applyLine(this.#progress, line);
    this.#writeWaiting();
  }

  /** False while the disk has no room. What such an attempt has written is written over by the next. */
  #writeWaiting(): boolean {
    if (this.#broken !== null) throw this.#broken;
    const bytes = text.encode(this.#waiting);
    if (bytes.length === 0) return true;
    return this.#unlessFull(() => {
      this.#file.write(bytes, this.#sizeBytes);
      this.#sizeBytes += bytes.length;
      this.#waiting = '';
    });
  }

  /** Several topics wait for one sync: the one that starts after their lines were written. */
  async #syncTo(sizeBytes: number): Promise<void> {
    while (this.#syncedBytes < sizeBytes) {
      if (this.#broken !== null) throw this.#broken;
      this.#syncing ??= this.#syncOnce();
      await this.#syncing;
    }
  }

  async #syncOnce(): Promise<void> {
    const target = this.#sizeBytes;
    try {
      await this.#file.sync();
      this.#syncedBytes = target;
    } catch (cause) {
      throw this.#fail(cause);
    } finally {
      this.#syncing = null;
    }
  }

  /** Does something that needs space; false when there is none. Any other failure breaks the log. */
  #unlessFull(action: () => void): boolean {
    try {
      action();
      return true;
    } catch (cause) {
      if (isDiskFull(cause)) return false;
      throw this.#fail(cause);
    }
  }

  #fail(cause: unknown): FlushLogError {
    this.#broken = new FlushLogError(`${this.#directory}/${FLUSH_LOG_FILE} cannot be written`, cause);
    return this.#broken;
  }

  #rewrite(): FileHandle {
    const lines = [encodeLine(headerLine(this.walId))];
    for (const [topic, state] of this.#progress) {
      // The state last: an open line would say that the topic is not suspect.
      if (state.open !== null) lines.push(encodeLine(openLine(state.open)));
      lines.push(encodeLine(stateLine(topic, state)));
    }
    const bytes = text.encode(lines.join(''));
    replaceFile(this.#fileSystem, this.#directory, FLUSH_LOG_FILE, bytes);
    this.#sizeBytes = bytes.length;
    this.#syncedBytes = bytes.length;
    this.#waiting = '';
    return this.#fileSystem.open(`${this.#directory}/${FLUSH_LOG_FILE}`, 'write');
  }
}

/**
 * Opens the flush log of a WAL, making it when it is absent. The log of another WAL in the same directory is
 * set aside under a name that says whose it was.
 */
export function openFlushLog(fileSystem: FileSystem, directory: string, walId: bigint): FlushLog {
  const content = readFlushLog(fileSystem, directory);
  if (content === null) return new FlushLog(fileSystem, directory, walId, null);
  if (content.walId !== null && content.walId !== walId) {
    fileSystem.rename(
      `${directory}/${FLUSH_LOG_FILE}`,
      `${directory}/${FLUSH_LOG_FILE}.${content.walId.toString(16).padStart(16, '0')}`,
    );
    return new FlushLog(fileSystem, directory, walId, null);
  }
  // Without its first line the log may be anybody's: keep the positions, and let the server have the last
  // word.
  const damaged = content.damaged || content.walId === null;
  return new FlushLog(fileSystem, directory, walId, { ...content, damaged });
}
