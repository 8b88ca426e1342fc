// Deflate streams and gzip members. Damage is an error only after everything before it was yielded.

import { crc32, createInflateRaw } from 'node:zlib';
import { FeedError } from '../feed-error.ts';
import { type ByteReader, readUpTo } from './byte-reader.ts';

/** Reads one deflate stream from the reader and leaves what comes after it unread. */
export async function* inflateRaw(reader: ByteReader, label: string): AsyncGenerator<Uint8Array> {
  const engine = createInflateRaw();
  const inflated: Uint8Array[] = [];
  let ended = false;
  let failure: Error | null = null;
  let wake = () => {};
  // A stream that fails after its end, or ends inside a write, never calls the write's callback in Bun: any
  // of the three wakes the loop.
  engine.on('data', (chunk: Uint8Array) => inflated.push(chunk));
  engine.on('end', () => {
    ended = true;
    wake();
  });
  engine.on('error', (error: Error) => {
    failure = error;
    wake();
  });
  const settled = (start: (done: () => void) => void) =>
    new Promise<void>((resolve) => {
      wake = resolve;
      start(resolve);
    });
  try {
    let given = 0;
    while (!ended && failure === null) {
      const chunk = await reader.next();
      if (chunk === null) await settled(() => engine.end());
      else {
        await settled((done) => engine.write(chunk, () => done()));
        given += chunk.length;
        if (ended) reader.unread(chunk.subarray(chunk.length - (given - engine.bytesWritten)));
      }
      yield* inflated.splice(0);
    }
  } finally {
    engine.destroy();
  }
  if (failure !== null) throw damage(label, failure);
}

function damage(label: string, failure: Error & { code?: string }): FeedError {
  if (failure.code === 'Z_BUF_ERROR')
    return new FeedError('feed_truncated', `${label}: ends in the middle of its compressed data`, {
      hint: 'the file is truncated; what could be read was sent',
    });
  return new FeedError('feed_corrupt', `${label}: its compressed data is damaged`, { cause: failure });
}

/** Adds up length and CRC-32 of the chunks that pass through. */
export function createChecksum(): { add(chunk: Uint8Array): void; crc: number; sizeBytes: number } {
  return {
    crc: 0,
    sizeBytes: 0,
    add(chunk) {
      this.crc = crc32(chunk, this.crc);
      this.sizeBytes += chunk.length;
    },
  };
}

const FLAG_HEADER_CRC = 2;
const FLAG_EXTRA = 4;
const FLAG_NAME = 8;
const FLAG_COMMENT = 16;

/** Reads a gzip file with any number of members (RFC 1952); zeros after the last one are padding. */
export async function* gunzip(reader: ByteReader, label: string): AsyncGenerator<Uint8Array> {
  for (let member = 0; await readMemberHeader(reader, label, member); member++) {
    const sum = createChecksum();
    for await (const chunk of inflateRaw(reader, label)) {
      sum.add(chunk);
      yield chunk;
    }
    const trailer = await readUpTo(reader, 8);
    if (trailer.length < 8) throw truncated(label);
    const view = new DataView(trailer.buffer, trailer.byteOffset, 8);
    if (view.getUint32(0, true) !== sum.crc || view.getUint32(4, true) !== sum.sizeBytes % 2 ** 32)
      throw new FeedError('feed_corrupt', `${label}: checksum of the uncompressed data does not match`, {
        hint: 'its rows were sent, but some of them may be wrong',
      });
  }
}

function truncated(label: string): FeedError {
  return new FeedError('feed_truncated', `${label}: ends in the middle of a gzip header or trailer`, {
    hint: 'the file is truncated; what could be read was sent',
  });
}

/** Skips a member's header. False at the end of the file. */
async function readMemberHeader(reader: ByteReader, label: string, member: number): Promise<boolean> {
  const header = await readUpTo(reader, 10);
  if (header.length === 0) return false;
  if (header[0] !== 0x1f || header[1] !== 0x8b) {
    if (member > 0 && header.every((byte) => byte === 0)) return false;
    throw new FeedError('feed_corrupt', `${label}: what follows its last gzip member is not gzip`, {
      hint: 'the rows before it were sent',
    });
  }
  if (header.length < 10) throw truncated(label);
  if (header[2] !== 8) throw new FeedError('feed_corrupt', `${label}: unknown gzip method ${header[2]}`);
  const flags = header[3]!;
  if (flags & FLAG_EXTRA) {
    const size = await readUpTo(reader, 2);
    if (size.length < 2) throw truncated(label);
    await readUpTo(reader, size[0]! + size[1]! * 256);
  }
  if (flags & FLAG_NAME) await skipText(reader, label);
  if (flags & FLAG_COMMENT) await skipText(reader, label);
  if (flags & FLAG_HEADER_CRC) await readUpTo(reader, 2);
  return true;
}

async function skipText(reader: ByteReader, label: string): Promise<void> {
  for (let bytes = await reader.next(); bytes !== null; bytes = await reader.next()) {
    const end = bytes.indexOf(0);
    if (end < 0) continue;
    reader.unread(bytes.subarray(end + 1));
    return;
  }
  throw truncated(label);
}
