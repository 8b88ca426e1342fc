// `<walDir>/status.json`: the recorder's own counts, for other processes. Written each second and at exit,
// replaced atomically; a reader sees one moment, never a mixture.

import type { FileSystem } from '../io/file-system.ts';
import { errorCode } from '../io/file-system.ts';
import { ownerState, readLock } from '../wal/lock.ts';

export const STATUS_FILE = 'status.json';

/** Counts of one topic since the recorder started. */
export interface TopicStatus {
  /** Well-formed frames. */
  received: number;
  /** Rows moved into the WAL. */
  logged: number;
  /** Frames that were refused. */
  malformed: number;
  /** Rows dropped because memory was full. */
  shed: number;
  /** Rows that the recorder made itself, among `received`; absent in files of older versions. */
  own?: number;
}

/** What the recorder says of itself. Further fields may be there. */
export interface RecorderStatus {
  pid: number;
  /** Decimal. */
  walId: string;
  recorder: string;
  /** ISO time. */
  updatedAt: string;
  topics: Record<string, TopicStatus>;
  /** Refused frames by reason. */
  malformed: Record<string, number>;
  /** Frames sent again by a producer and recognised. */
  duplicates: number;
  /** Sequence numbers that are missing. */
  gaps: number;
  /** Address of the ClickHouse server that rows go to, absent without one. */
  clickhouseUrl?: string;
  /** Where its page is, absent without one. */
  httpUrl?: string;
  /** The recorder was killed, as who recovered its WAL has found: its lock, which would tell, is gone. */
  killed?: boolean;
}

/** `killed`: its lock is still there, and it is not. */
export type RecorderState = 'running' | 'stopped' | 'killed';

/** Whether a recorder runs on the WAL in `dir`, and if not, how it ended. */
export function recorderState(fileSystem: FileSystem, dir: string): RecorderState {
  const owner = readLock(fileSystem, dir);
  if (owner === null) return 'stopped';
  return ownerState(owner) === 'dead' ? 'killed' : 'running';
}

/** Reads the status; null when there is none, or it is not complete. */
export function readStatus(fileSystem: FileSystem, dir: string): RecorderStatus | null {
  try {
    const text = new TextDecoder().decode(fileSystem.readFile(`${dir}/${STATUS_FILE}`));
    const raw = JSON.parse(text) as Partial<RecorderStatus>;
    if (raw.pid === undefined || raw.walId === undefined || raw.topics === undefined) return null;
    const absent = { recorder: '', updatedAt: '', malformed: {}, duplicates: 0, gaps: 0 };
    return { ...absent, ...raw, walId: String(raw.walId) } as RecorderStatus;
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || error instanceof SyntaxError) return null;
    throw error;
  }
}

/** Replaces the status. Not synced: after a power loss an older one, or none, is as good. */
export function writeStatus(fileSystem: FileSystem, dir: string, status: RecorderStatus): void {
  const path = `${dir}/${STATUS_FILE}`;
  const temporary = `${path}.new`;
  if (fileSystem.exists(temporary)) fileSystem.unlink(temporary);
  const file = fileSystem.open(temporary, 'create');
  try {
    file.write(new TextEncoder().encode(JSON.stringify(status)), 0);
  } finally {
    file.close();
  }
  fileSystem.rename(temporary, path);
}
