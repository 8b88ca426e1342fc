// The quarantine: frames that were refused, kept byte for byte with where they came from.
//
//   quarantine.bin    the bytes, one after another
//   quarantine.jsonl  one line an entry: time, reason, source, session, seq, origin, offset and length in
//   the .bin,
//                     claimed size (larger than length where only the first bytes were kept)
//
// Invariants
// - Both files together stay below maxBytes; what does not fit is counted, never kept in part; its number
//   is (refused-runs.ts).
// - The bytes are written before the line that names them. A crash can leave bytes without a line, or a
//   torn last line; the next entry begins on a line of its own. A power loss can keep a line and lose its
//   bytes: such a line is left out by the reader, and its frame was never acknowledged.
// - A full or failing disk costs entries, which are counted, never more.
//
// Life cycle: keep() copies into memory, write() puts what has gathered into the files (once a group
// commit, or when much has gathered), sync() makes it durable.

import type { FileHandle, FileSystem } from '../../io/file-system.ts';
import { limits } from '../../limits.ts';
import { WITHOUT_NUMBER } from './quarantine-positions.ts';
import { RefusedRuns } from './refused-runs.ts';

export const QUARANTINE_DATA = 'quarantine.bin';
export const QUARANTINE_INDEX = 'quarantine.jsonl';
/** Bytes that gather in memory before they are written even without a group commit. */
const WRITE_AT_BYTES = 1024 * 1024;
const NEWLINE = 0x0a;

/** A refused frame: bytes[start, end), copied during the call. */
export interface Refused {
  reason: string;
  /** Empty where it cannot be attributed to a stream */
  source: string;
  session: string;
  /** 0: none */
  seq: number;
  /** Socket, or address and port */
  origin: string;
  bytes: Uint8Array;
  start: number;
  end: number;
  /** Size that the frame claimed, where it is not end - start */
  claimedSizeBytes?: number;
}

/** A line of the index. */
export interface QuarantineEntry {
  /** ISO 8601, UTC */
  time: string;
  reason: string;
  source: string;
  session: string;
  seq: number;
  origin: string;
  offset: number;
  length: number;
  claimed: number;
}

export interface QuarantineStats {
  /** Entries written or about to be, since the start */
  kept: number;
  /** Entries lost to the size limit or to a failing disk, since the start */
  notKept: number;
  /** Size of both files */
  sizeBytes: number;
  /** The last error of the disk */
  lastError: unknown;
}

export interface QuarantineOptions {
  directory: string;
  fileSystem: FileSystem;
  maxBytes: number;
}

export class Quarantine {
  readonly stats: QuarantineStats = { kept: 0, notKept: 0, sizeBytes: 0, lastError: null };
  readonly #maxBytes: number;
  readonly #data: FileHandle;
  readonly #index: FileHandle;
  #dataSizeBytes: number;
  #indexSizeBytes: number;
  #pieces: Uint8Array[] = [];
  #lines = '';
  #pendingDataBytes = 0;
  #pendingBytes = 0;
  #pendingEntries = 0;
  #unsynced = false;
  readonly #runs: RefusedRuns;

  /** Opens or makes the two files in `directory`; throws the error of the file system. */
  constructor({ directory, fileSystem, maxBytes }: QuarantineOptions) {
    this.#maxBytes = maxBytes;
    this.#runs = new RefusedRuns(fileSystem, directory, limits.rememberedSessions);
    this.#data = openFile(fileSystem, `${directory}/${QUARANTINE_DATA}`);
    this.#index = openFile(fileSystem, `${directory}/${QUARANTINE_INDEX}`);
    fileSystem.syncDirectoryNow(directory);
    this.#dataSizeBytes = this.#data.sizeBytes();
    this.#indexSizeBytes = this.#index.sizeBytes();
    this.#endTornLine();
    this.#countSize();
  }

  /** Keeps a frame; nothing of `refused` is used after the call. */
  keep(refused: Refused, time: Date = new Date()): void {
    const length = refused.end - refused.start;
    if (refused.source !== '' && !WITHOUT_NUMBER.has(refused.reason)) {
      this.#runs.add(refused.source, refused.session, refused.seq);
    }
    const entry: QuarantineEntry = {
      time: time.toISOString(),
      reason: refused.reason,
      source: refused.source,
      session: refused.session,
      seq: refused.seq,
      origin: refused.origin,
      offset: this.#dataSizeBytes + this.#pendingDataBytes,
      length,
      claimed: refused.claimedSizeBytes ?? length,
    };
    const line = `${JSON.stringify(entry)}\n`;
    const sizeBytes = length + Buffer.byteLength(line);
    if (this.stats.sizeBytes + this.#pendingBytes + sizeBytes > this.#maxBytes) {
      this.stats.notKept++;
      this.#runs.notKept();
      return;
    }
    this.#pieces.push(refused.bytes.slice(refused.start, refused.end));
    this.#lines += line;
    this.#pendingDataBytes += length;
    this.#pendingBytes += sizeBytes;
    this.#pendingEntries++;
    this.stats.kept++;
    if (this.#pendingBytes >= WRITE_AT_BYTES) this.write();
  }

  /**
   * Puts what has gathered into the files; an error of the disk is noted in stats and costs these entries.
   */
  write(): void {
    if (this.#pendingEntries === 0) return;
    const data = Buffer.concat(this.#pieces);
    const lines = Buffer.from(this.#lines);
    try {
      this.#data.write(data, this.#dataSizeBytes);
      this.#index.write(lines, this.#indexSizeBytes);
      this.#dataSizeBytes += data.byteLength;
      this.#indexSizeBytes += lines.byteLength;
      this.#unsynced = true;
    } catch (error) {
      this.stats.lastError = error;
      this.#runs.notKept();
      this.stats.kept -= this.#pendingEntries;
      this.stats.notKept += this.#pendingEntries;
    }
    this.#pieces = [];
    this.#lines = '';
    this.#pendingDataBytes = 0;
    this.#pendingBytes = 0;
    this.#pendingEntries = 0;
    this.#countSize();
  }

  /** Makes what was written durable; cheap where nothing was. An error is noted in stats, not thrown. */
  async sync(): Promise<void> {
    try {
      const isDue = this.#unsynced;
      this.#unsynced = false;
      if (isDue) await this.#data.sync();
      if (isDue) await this.#index.sync();
    } catch (error) {
      this.stats.lastError = error;
      this.#runs.notKept();
    }
    try {
      this.#runs.write();
    } catch (error) {
      this.stats.lastError = error;
    }
  }

  /** Writes what has gathered and closes the files. */
  close(): void {
    this.write();
    this.#data.close();
    this.#index.close();
  }

  #countSize(): void {
    this.stats.sizeBytes = this.#dataSizeBytes + this.#indexSizeBytes;
  }

  #endTornLine(): void {
    if (this.#indexSizeBytes === 0) return;
    const last = new Uint8Array(1);
    this.#index.read(last, this.#indexSizeBytes - 1);
    if (last[0] === NEWLINE) return;
    this.#index.write(Uint8Array.of(NEWLINE), this.#indexSizeBytes);
    this.#indexSizeBytes++;
  }
}

/** The entries of a quarantine, oldest first; what a crash has cut is left out. No quarantine: none. */
export function readQuarantineIndex(directory: string, fileSystem: FileSystem): QuarantineEntry[] {
  const path = `${directory}/${QUARANTINE_INDEX}`;
  if (!fileSystem.exists(path)) return [];
  const entries: QuarantineEntry[] = [];
  const data = `${directory}/${QUARANTINE_DATA}`;
  // A power loss may keep one of the two names.
  const dataSizeBytes = fileSystem.exists(data) ? fileSystem.readFile(data).byteLength : 0;
  for (const line of new TextDecoder().decode(fileSystem.readFile(path)).split('\n')) {
    if (line === '') continue;
    try {
      const entry = JSON.parse(line) as QuarantineEntry;
      if (entry.offset + entry.length <= dataSizeBytes) entries.push(entry);
    } catch {
      // A torn line: a crash cut it, its frame was never acknowledged.
    }
  }
  return entries;
}

function openFile(fileSystem: FileSystem, path: string): FileHandle {
  return fileSystem.open(path, fileSystem.exists(path) ? 'write' : 'create');
}
