// Zip archives: by their central directory, or, where a truncated file has lost it, by the local headers
// from the front.

import { openPromise } from 'yauzl';
import { FeedError } from '../feed-error.ts';
import { type ByteReader, openByteReader, readAll, readUpTo } from './byte-reader.ts';
import { createChecksum, inflateRaw } from './inflate.ts';

const STORED = 0;
const DEFLATED = 8;
const LOCAL_HEADER = 0x04034b50;
const DATA_DESCRIPTOR = 0x08074b50;
const FLAG_ENCRYPTED = 1;
const FLAG_SIZES_FOLLOW = 8;

/** One entry of a zip archive, located. */
export interface ZipEntry {
  name: string;
  method: number;
  encrypted: boolean;
  dataStart: number;
  compressedSize: number;
  /** Of the uncompressed data; null where the archive's end, which says them, is missing. */
  crc: number | null;
  sizeBytes: number | null;
}

/**
 * Lists the entries of an archive, without directories. A file that has lost its central directory is
 * listed as far as its local headers can be followed, and `damage` says so.
 */
export async function listZip(
  path: string,
  label: string,
): Promise<{ entries: ZipEntry[]; damage: FeedError | null }> {
  let cause: unknown;
  try {
    return { entries: await listCentralDirectory(path), damage: null };
  } catch (error) {
    cause = error;
  }
  const entries = await listLocalHeaders(path);
  const damage = new FeedError(
    'feed_truncated',
    `${label}: the zip archive has no readable directory at its end`,
    {
      hint: 'the file is truncated or damaged; what could be read was sent',
      cause,
    },
  );
  return { entries, damage };
}

async function listCentralDirectory(path: string): Promise<ZipEntry[]> {
  const zip = await openPromise(path, { lazyEntries: true, autoClose: false });
  try {
    const entries: ZipEntry[] = [];
    for await (const entry of zip.eachEntry()) {
      if (entry.fileName.endsWith('/')) continue;
      const { fileDataStart } = await zip.readLocalFileHeaderPromise(entry, { minimal: true });
      entries.push({
        name: entry.fileName,
        method: entry.compressionMethod,
        encrypted: entry.isEncrypted(),
        dataStart: fileDataStart,
        compressedSize: entry.compressedSize,
        crc: entry.crc32,
        sizeBytes: entry.uncompressedSize,
      });
    }
    return entries;
  } finally {
    zip.close();
  }
}

async function listLocalHeaders(path: string): Promise<ZipEntry[]> {
  const entries: ZipEntry[] = [];
  const reader = await openByteReader(path);
  try {
    for (;;) {
      const header = await readUpTo(reader, 30);
      if (header.length < 30) return entries;
      const view = new DataView(header.buffer, header.byteOffset, 30);
      if (view.getUint32(0, true) !== LOCAL_HEADER) return entries;
      const flags = view.getUint16(6, true);
      const nameBytes = await readUpTo(reader, view.getUint16(26, true));
      await readUpTo(reader, view.getUint16(28, true));
      const sizesFollow = (flags & FLAG_SIZES_FOLLOW) !== 0;
      const entry: ZipEntry = {
        name: new TextDecoder().decode(nameBytes),
        method: view.getUint16(8, true),
        encrypted: (flags & FLAG_ENCRYPTED) !== 0,
        dataStart: reader.position,
        compressedSize: sizesFollow ? Number.POSITIVE_INFINITY : view.getUint32(18, true),
        crc: sizesFollow ? null : view.getUint32(14, true),
        sizeBytes: sizesFollow ? null : view.getUint32(22, true),
      };
      if (!entry.name.endsWith('/')) entries.push(entry);
      if (!(await skipEntry(reader, entry))) return entries;
    }
  } finally {
    await reader.close();
  }
}

/** Moves to the next local header; false where it cannot be found. */
async function skipEntry(reader: ByteReader, entry: ZipEntry): Promise<boolean> {
  if (Number.isFinite(entry.compressedSize)) {
    const target = reader.position + entry.compressedSize;
    while (reader.position < target) {
      if ((await readUpTo(reader, Math.min(65_536, target - reader.position))).length === 0) return false;
    }
    return true;
  }
  if (entry.method !== DEFLATED || entry.encrypted) return false;
  try {
    for await (const _ of inflateRaw(reader, entry.name)) {
      // Only the end of the data is wanted.
    }
  } catch {
    return false;
  }
  entry.compressedSize = reader.position - entry.dataStart;
  const descriptor = await readUpTo(reader, 12);
  if (descriptor.length < 12) return false;
  const signed =
    new DataView(descriptor.buffer, descriptor.byteOffset, 4).getUint32(0, true) === DATA_DESCRIPTOR;
  return !signed || (await readUpTo(reader, 4)).length === 4;
}

/** Opens an entry's compressed bytes, for `readZipEntry`. */
export function openZipEntry(path: string, entry: ZipEntry): Promise<ByteReader> {
  return openByteReader(path, entry.dataStart, entry.dataStart + entry.compressedSize);
}

/**
 * The entry's uncompressed bytes; `reader` as from `openZipEntry`.
 * @throws FeedError for methods that are not supported, and after the last good byte for truncated or
 * damaged data
 */
export async function* readZipEntry(
  reader: ByteReader,
  entry: ZipEntry,
  label: string,
): AsyncGenerator<Uint8Array> {
  if (entry.encrypted) throw new FeedError('feed_unreadable', `${label}: is encrypted`);
  if (entry.method !== STORED && entry.method !== DEFLATED)
    throw new FeedError(
      'feed_unreadable',
      `${label}: zip compression method ${entry.method} is not supported`,
      {
        hint: 'pack it again with deflate',
      },
    );
  const sum = createChecksum();
  const chunks = entry.method === STORED ? readAll(reader) : inflateRaw(reader, label);
  for await (const chunk of chunks) {
    sum.add(chunk);
    yield chunk;
  }
  if (entry.sizeBytes !== null && sum.sizeBytes < entry.sizeBytes)
    throw new FeedError(
      'feed_truncated',
      `${label}: ${sum.sizeBytes} of ${entry.sizeBytes} bytes are there`,
      {
        hint: 'what could be read was sent',
      },
    );
  if (entry.crc !== null && (sum.crc !== entry.crc || sum.sizeBytes !== entry.sizeBytes))
    throw new FeedError('feed_corrupt', `${label}: checksum of the uncompressed data does not match`, {
      hint: 'its rows were sent, but some of them may be wrong',
    });
}
