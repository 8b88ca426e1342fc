// Dead letters: groups that the server refused for good. One copy each, with all that is needed to insert it
// later; the other topics go on, and so does this one with its next group.
//
// <walDir>/dead-letter/<topic>-<firstLsn>.json   what, why, and how to insert it (DeadLetter)
// <walDir>/dead-letter/<topic>-<firstLsn>.body   the body of the insert, byte for byte

import { type FileSystem, replaceFile, replaceFileBy } from '../io/file-system.ts';
import type { InsertFormat } from './group-encoder.ts';
import type { InsertGroup } from './insert-group.ts';

export const DEAD_LETTER_DIRECTORY = 'dead-letter';

export interface DeadLetter {
  topic: string;
  table: string;
  recorder: string;
  walId: string;
  firstLsn: string;
  lastLsn: string;
  /** Rows in the body. */
  rowCount: number;
  /** Rows of the whole group: more than in the body where the server had taken its beginning. */
  groupRowCount?: number;
  format: InsertFormat;
  /** Statement that the body belongs to. */
  sql: string;
  /** Deduplication token that all attempts had. */
  token: string;
  reason: string;
  clickhouseCode: number | null;
  attempts: number;
  /** ISO time. */
  diedAt: string;
  bodyFile: string;
  bodySizeBytes: number;
  /** Of the body, see bodyChecksum; 16 hex digits. */
  bodyChecksum: string;
}

/** What the delivery knows of a group that it gives up. */
export interface DeadLetterFacts {
  table: string;
  format: InsertFormat;
  sql: string;
  token: string;
  rowCount: number;
  reason: string;
  clickhouseCode: number | null;
  attempts: number;
  diedAt: Date;
}

/** Writes a group to the dead-letter folder, durably, and returns the path of its description. */
export function writeDeadLetter(
  fileSystem: FileSystem,
  walDirectory: string,
  group: InsertGroup,
  facts: DeadLetterFacts,
  body: Iterable<Uint8Array>,
): string {
  const directory = `${walDirectory}/${DEAD_LETTER_DIRECTORY}`;
  fileSystem.mkdir(directory);
  fileSystem.syncDirectoryNow(walDirectory);
  const name = `${group.topic}-${group.firstLsn}`;
  // The body first: a description always has its body.
  const written = writeBody(fileSystem, directory, `${name}.body`, body);
  const letter: DeadLetter = {
    topic: group.topic,
    table: facts.table,
    recorder: group.recorder,
    walId: group.walId.toString(16).padStart(16, '0'),
    firstLsn: String(group.firstLsn),
    lastLsn: String(group.lastLsn),
    rowCount: facts.rowCount,
    groupRowCount: group.rowCount,
    format: facts.format,
    sql: facts.sql,
    token: facts.token,
    reason: facts.reason,
    clickhouseCode: facts.clickhouseCode,
    attempts: facts.attempts,
    diedAt: facts.diedAt.toISOString(),
    bodyFile: `${name}.body`,
    bodySizeBytes: written.sizeBytes,
    bodyChecksum: written.checksum,
  };
  replaceFile(
    fileSystem,
    directory,
    `${name}.json`,
    new TextEncoder().encode(`${JSON.stringify(letter, null, 2)}\n`),
  );
  return `${directory}/${name}.json`;
}

const CHECKED_SIZE_BYTES = 1024 * 1024;

/** XXH3-64 of every MiB of a body, each seeded with the one before: a body is never whole in memory. */
class BodySum {
  readonly #bytes = new Uint8Array(CHECKED_SIZE_BYTES);
  #filled = 0;
  #sum = 0n;

  add(piece: Uint8Array): void {
    for (let start = 0; start < piece.length; ) {
      const part = piece.subarray(start, start + CHECKED_SIZE_BYTES - this.#filled);
      this.#bytes.set(part, this.#filled);
      this.#filled += part.length;
      start += part.length;
      if (this.#filled === CHECKED_SIZE_BYTES) this.#close();
    }
  }

  end(): string {
    if (this.#filled > 0) this.#close();
    return this.#sum.toString(16).padStart(16, '0');
  }

  #close(): void {
    this.#sum = Bun.hash.xxHash3(this.#bytes.subarray(0, this.#filled), this.#sum);
    this.#filled = 0;
  }
}

/** Checksum of a body that is read in pieces of any size. */
export function bodyChecksum(body: Iterable<Uint8Array>): string {
  const sum = new BodySum();
  for (const piece of body) sum.add(piece);
  return sum.end();
}

function writeBody(fileSystem: FileSystem, directory: string, name: string, body: Iterable<Uint8Array>) {
  const sum = new BodySum();
  let sizeBytes = 0;
  replaceFileBy(fileSystem, directory, name, (file) => {
    for (const piece of body) {
      file.write(piece, sizeBytes);
      sizeBytes += piece.length;
      sum.add(piece);
    }
  });
  return { sizeBytes, checksum: sum.end() };
}

/** Descriptions of all dead letters of a WAL directory, by name; empty when there are none. */
export function listDeadLetters(fileSystem: FileSystem, walDirectory: string): DeadLetter[] {
  const directory = `${walDirectory}/${DEAD_LETTER_DIRECTORY}`;
  if (!fileSystem.exists(directory)) return [];
  const names = fileSystem.list(directory).filter((name) => name.endsWith('.json'));
  return names.map((name) => {
    const bytes = fileSystem.readFile(`${directory}/${name}`);
    return JSON.parse(new TextDecoder().decode(bytes)) as DeadLetter;
  });
}
