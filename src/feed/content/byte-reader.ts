// Bytes of a file, or of a range of it, pulled in chunks; what was read too far can be given back.

import { open } from 'node:fs/promises';

/** Small enough that the inflated form of one chunk (at most 1,032 times as long) stays small. */
const CHUNK_SIZE_BYTES = 16 * 1024;

export interface ByteReader {
  /** Next bytes, null at the end. They are the caller's. */
  next(): Promise<Uint8Array | null>;
  /** Gives bytes back: the next read returns them first. */
  unread(bytes: Uint8Array): void;
  /** Bytes taken and not given back. */
  readonly position: number;
  close(): Promise<void>;
}

/**
 * Opens bytes `start` to `end` (default: all) of a file. @throws the system's error when the file cannot be
 * opened
 */
export async function openByteReader(
  path: string,
  start = 0,
  end = Number.POSITIVE_INFINITY,
): Promise<ByteReader> {
  const handle = await open(path, 'r');
  let offset = start;
  let position = 0;
  let pending: Uint8Array | null = null;
  return {
    get position() {
      return position;
    },
    async next() {
      if (pending !== null) {
        const bytes = pending;
        pending = null;
        position += bytes.length;
        return bytes;
      }
      const wanted = Math.min(CHUNK_SIZE_BYTES, end - offset);
      if (wanted <= 0) return null;
      const chunk = new Uint8Array(wanted);
      const { bytesRead } = await handle.read(chunk, 0, wanted, offset);
      if (bytesRead === 0) return null;
      offset += bytesRead;
      position += bytesRead;
      return chunk.subarray(0, bytesRead);
    },
    unread(bytes) {
      if (bytes.length === 0) return;
      position -= bytes.length;
      pending = pending === null ? bytes : Buffer.concat([bytes, pending]);
    },
    close: () => handle.close(),
  };
}

/** Reads `count` bytes; fewer at the end. */
export async function readUpTo(reader: ByteReader, count: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let have = 0;
  while (have < count) {
    const bytes = await reader.next();
    if (bytes === null) break;
    const taken = bytes.subarray(0, count - have);
    parts.push(taken);
    have += taken.length;
    if (taken.length < bytes.length) reader.unread(bytes.subarray(taken.length));
  }
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}

/** All the reader's bytes. */
export async function* readAll(reader: ByteReader): AsyncGenerator<Uint8Array> {
  for (let bytes = await reader.next(); bytes !== null; bytes = await reader.next()) yield bytes;
}
