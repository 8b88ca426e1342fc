// Files as they are given (plain, gz, zip, directories) to texts. The container is told by its first bytes.

import type { Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FeedError } from '../feed-error.ts';
import type { FeedReport } from '../feed-report.ts';
import { type ByteReader, openByteReader, readAll, readUpTo } from './byte-reader.ts';
import { gunzip } from './inflate.ts';
import { listZip, openZipEntry, readZipEntry, type ZipEntry } from './zip.ts';

/** One text: a file, or an entry of an archive. */
export interface TextFile {
  /** Path of the file on disk. */
  path: string;
  /** Name that says what it holds: of the zip entry, or of the file without `.gz`. */
  name: string;
  /** What messages call it. */
  label: string;
  /**
   * Found in a directory or an archive, not named on the command line: may be skipped when it is of another
   * kind.
   */
  found: boolean;
  /** Bytes on disk. */
  sizeBytes: number;
  /** Opens it for one reading. */
  open(): Promise<OpenText>;
}

export interface OpenText {
  /** Bytes of `sizeBytes` read so far. */
  readBytes(): number;
  /** Uncompressed bytes. Throws FeedError after the last good byte. */
  chunks: AsyncGenerator<Uint8Array>;
  close(): Promise<void>;
}

/** Containers and formats by their first bytes. A kind that is not read is refused by its name. */
const MAGICS: readonly { bytes: readonly number[]; offset?: number; kind: string }[] = [
  { bytes: [0x1f, 0x8b], kind: 'gzip' },
  { bytes: [0x50, 0x4b, 3, 4], kind: 'zip' },
  { bytes: [0x50, 0x4b, 5, 6], kind: 'zip' },
  { bytes: [0x28, 0xb5, 0x2f, 0xfd], kind: 'zstd data' },
  { bytes: [0xfd, 0x37, 0x7a, 0x58, 0x5a], kind: 'xz data' },
  { bytes: [0x42, 0x5a, 0x68], kind: 'bzip2 data' },
  { bytes: [0x37, 0x7a, 0xbc, 0xaf], kind: 'a 7z archive' },
  { bytes: [0x50, 0x41, 0x52, 0x31], kind: 'a Parquet file' },
  { bytes: [0x75, 0x73, 0x74, 0x61, 0x72], offset: 257, kind: 'a tar archive' },
  { bytes: [0xff, 0xfe], kind: 'UTF-16 text' },
  { bytes: [0xfe, 0xff], kind: 'UTF-16 text' },
];
const MAGIC_SIZE_BYTES = 262;

function kindOf(head: Uint8Array): string {
  for (const { bytes, offset = 0, kind } of MAGICS) {
    if (bytes.every((byte, i) => head[offset + i] === byte)) return kind;
  }
  return head.includes(0) ? 'binary data' : 'text';
}

/**
 * Lists the texts that the paths hold; a directory stands for all files below it, by name.
 * @throws FeedError for a path that is not there or cannot be read, and for containers that are not supported
 */
export async function listTextFiles(paths: readonly string[], report: FeedReport): Promise<TextFile[]> {
  const texts: TextFile[] = [];
  for (const path of paths) {
    const status = await stat(path).catch((cause: unknown) => {
      throw new FeedError('feed_not_found', `${path}: cannot be read`, { cause });
    });
    if (!status.isDirectory()) texts.push(...(await textsOfFile(path, false, report)));
    else {
      for (const file of await filesBelow(path)) {
        try {
          texts.push(...(await textsOfFile(file, true, report)));
        } catch (error) {
          if (!(error instanceof FeedError) || error.code !== 'feed_wrong_format') throw error;
          report.note(`${error.message}; skipped`);
        }
      }
    }
  }
  return texts;
}

async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true });
  entries.sort((a: Dirent, b: Dirent) => (a.name < b.name ? -1 : 1));
  const files: string[] = [];
  for (const entry of entries) {
    const path = join(directory, entry.name);
    if (entry.name.startsWith('.')) continue;
    if (entry.isDirectory()) files.push(...(await filesBelow(path)));
    else if (entry.isFile() || (entry.isSymbolicLink() && (await stat(path)).isFile())) files.push(path);
  }
  return files;
}

async function textsOfFile(path: string, found: boolean, report: FeedReport): Promise<TextFile[]> {
  const status = await stat(path);
  // A pipe cannot be looked at first and read from the start afterwards.
  if (!status.isFile()) throw new FeedError('feed_unreadable', `${path}: is not a regular file`);
  const sizeBytes = status.size;
  const reader = await openByteReader(path).catch((cause: unknown) => {
    throw new FeedError('feed_unreadable', `${path}: cannot be read`, { cause });
  });
  const head = await readUpTo(reader, MAGIC_SIZE_BYTES).finally(() => reader.close());
  const kind = kindOf(head);
  if (kind === 'zip') return textsOfZip(path, sizeBytes, found, report);
  if (kind !== 'text' && kind !== 'gzip') throw wrongContainer(path, kind);
  const decode = kind === 'gzip' ? gunzip : readAll;
  const open = async (): Promise<OpenText> => {
    const source = await openByteReader(path);
    return opened(source, decode(source, path), path);
  };
  return [{ path, name: basename(path).replace(/\.gz$/i, ''), label: path, found, sizeBytes, open }];
}

async function textsOfZip(
  path: string,
  sizeBytes: number,
  found: boolean,
  report: FeedReport,
): Promise<TextFile[]> {
  const { entries, damage } = await listZip(path, path);
  if (damage !== null) report.problem(damage);
  if (entries.length === 0) report.note(`${path}: the zip archive has no files`);
  return entries.map((entry: ZipEntry) => {
    const label = `${path}: ${entry.name}`;
    const open = async (): Promise<OpenText> => {
      const source = await openZipEntry(path, entry);
      return opened(source, readZipEntry(source, entry, label), label);
    };
    const entrySize = Math.min(entry.compressedSize, sizeBytes - entry.dataStart);
    return { path, name: entry.name, label, found: found || entries.length > 1, sizeBytes: entrySize, open };
  });
}

function opened(source: ByteReader, chunks: AsyncGenerator<Uint8Array>, label: string): OpenText {
  return { readBytes: () => source.position, chunks: checked(chunks, label), close: () => source.close() };
}

/** A container inside a container is not looked into: it is named and refused. */
async function* checked(chunks: AsyncGenerator<Uint8Array>, label: string): AsyncGenerator<Uint8Array> {
  let first = true;
  for await (const chunk of chunks) {
    const kind = first ? kindOf(chunk.subarray(0, MAGIC_SIZE_BYTES)) : 'text';
    if (kind !== 'text') throw wrongContainer(label, kind);
    first = false;
    yield chunk;
  }
}

function wrongContainer(label: string, kind: string): FeedError {
  return new FeedError('feed_wrong_format', `${label}: is ${kind}; expected text, gzip or zip`);
}

/** Names of the directories above a file, nearest first. */
export function directoriesAbove(path: string): string[] {
  const names: string[] = [];
  for (let directory = dirname(path); ; directory = dirname(directory)) {
    const name = basename(directory);
    if (name === '' || name === '.') return names;
    names.push(name);
  }
}
