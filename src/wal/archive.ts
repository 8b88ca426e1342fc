// Copies of segments in another directory, made and checked before the originals go. The copies of one WAL
// lie together and are a WAL directory that `wal verify`, `wal dump` and `wal replay` can read.

import { RecorderError } from '../errors.ts';
import type { FileHandle, FileSystem } from '../io/file-system.ts';
import { replaceFile } from '../io/file-system.ts';
import { segmentsAmong } from './format.ts';
import { TRIM_FILE } from './retention.ts';

const CHUNK_BYTES = 1024 * 1024;

/** A copy cannot be made, or is not what was copied; the original stays. */
export class ArchiveError extends RecorderError {
  constructor(message: string, cause?: unknown) {
    super('wal_archive', message, { cause, hint: 'the segment is kept until it has been archived' });
  }
}

/** Directory of a WAL's copies under the configured one. */
export function archiveOf(archiveDir: string, walId: bigint): string {
  return `${archiveDir}/${walId.toString(16).padStart(16, '0')}`;
}

/**
 * Copies a finished segment to `target`, synced and read again; a copy that is there already is checked.
 * Throws ArchiveError and the errors of the file system.
 */
export async function archiveSegment(
  fileSystem: FileSystem,
  dir: string,
  segment: { name: string; baseLsn: bigint },
  target: string,
): Promise<void> {
  const { name } = segment;
  const wanted = await checksumOf(fileSystem, `${dir}/${name}`);
  if (fileSystem.exists(`${target}/${name}`)) {
    const found = await checksumOf(fileSystem, `${target}/${name}`);
    if (found === wanted) return;
    throw new ArchiveError(`${target}/${name} is there and is another segment`);
  }
  fileSystem.mkdir(target);
  // The archive begins here: what came before is not missing.
  if (segmentsAmong(fileSystem.list(target)).length === 0) {
    const content = JSON.stringify({ keptFromLsn: segment.baseLsn.toString() });
    replaceFile(fileSystem, target, TRIM_FILE, new TextEncoder().encode(content));
  }
  const temporary = `${target}/${name}.new`;
  await copy(fileSystem, `${dir}/${name}`, temporary);
  if ((await checksumOf(fileSystem, temporary)) !== wanted) {
    throw new ArchiveError(`the copy of ${name} in ${target} is not what was written`);
  }
  fileSystem.rename(temporary, `${target}/${name}`);
  await fileSystem.syncDirectory(target);
}

async function copy(fileSystem: FileSystem, from: string, to: string): Promise<void> {
  if (fileSystem.exists(to)) fileSystem.unlink(to);
  const source = fileSystem.open(from, 'read');
  try {
    const target = fileSystem.open(to, 'create');
    try {
      for await (const { bytes, offset } of chunksOf(source)) await target.writeAsync(bytes, offset);
      await target.sync();
    } finally {
      target.close();
    }
  } finally {
    source.close();
  }
}

/** Size and checksum of a file's content, as text. */
async function checksumOf(fileSystem: FileSystem, path: string): Promise<string> {
  const file = fileSystem.open(path, 'read');
  try {
    let sum = 0n;
    for await (const { bytes } of chunksOf(file)) sum = Bun.hash.xxHash3(bytes, sum);
    return `${file.sizeBytes()}:${sum}`;
  } finally {
    file.close();
  }
}

/** The file in parts; a part is valid until the next one. Other work runs between them. */
async function* chunksOf(file: FileHandle): AsyncGenerator<{ bytes: Uint8Array; offset: number }> {
  const buffer = new Uint8Array(CHUNK_BYTES);
  for (let offset = 0; ; offset += CHUNK_BYTES) {
    const count = file.read(buffer, offset);
    if (count > 0) yield { bytes: buffer.subarray(0, count), offset };
    if (count < CHUNK_BYTES) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}
