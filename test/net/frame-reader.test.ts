import { describe, expect, test } from 'bun:test';
import {
  type FrameHandler,
  FrameReader,
  MAX_SKIPPED_FRAME_BYTES,
  SAMPLE_BYTES,
} from '../../src/net/frame-reader.ts';
import { type SeededRandom, seededRandom } from '../support/random.ts';
import { prefix, prefixed, testFrame } from './recording-sink.ts';

const MAX_FRAME_BYTES = 512;

interface Found {
  kind: string;
  sizeBytes: number;
  content: string;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** What a stream holds, read from the whole of it at once: the model that the reader is held against. */
function readWhole(stream: Uint8Array): { found: Found[]; isBroken: boolean; restBytes: number } {
  const found: Found[] = [];
  const buffer = Buffer.from(stream);
  let position = 0;
  while (position + 4 <= buffer.length) {
    const size = buffer.readUInt32LE(position);
    if (size > 64 * 1024 * 1024) return { found, isBroken: true, restBytes: 0 };
    if (position + 4 + size > buffer.length) break;
    const body = buffer.subarray(position + 4, position + 4 + size);
    const kind = size < 8 ? 'too_short' : size > MAX_FRAME_BYTES ? 'too_large' : 'frame';
    found.push({ kind, sizeBytes: size, content: hex(body.subarray(0, SAMPLE_BYTES)) });
    position += 4 + size;
  }
  return { found, isBroken: false, restBytes: buffer.length - position };
}

/** What the reader finds when the stream comes in `chunks`. */
function readChunks(chunks: Uint8Array[]): { found: Found[]; isBroken: boolean; restBytes: number } {
  const found: Found[] = [];
  let isBroken = false;
  const reader = new FrameReader(
    {
      frame: (bytes, view, start, end) => {
        expect(view.getUint8(start)).toBe(bytes[start]!);
        found.push({ kind: 'frame', sizeBytes: end - start, content: hex(bytes.subarray(start, end)) });
      },
      malformed: (reason, bytes, start, end, sizeBytes) => {
        if (reason === 'bad_length') isBroken = true;
        else found.push({ kind: reason, sizeBytes, content: hex(bytes.subarray(start, end)) });
      },
    },
    MAX_FRAME_BYTES,
  );
  for (const chunk of chunks) {
    // A chunk is never used after the call: spoil it, as another reader of the buffer might.
    const copy = new Uint8Array(chunk);
    const intact = reader.push(copy);
    copy.fill(0xee);
    expect(intact).toBe(!isBroken);
  }
  return { found, isBroken, restBytes: isBroken ? 0 : reader.partialBytes };
}

function randomStream(random: SeededRandom, frames: number): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let i = 0; i < frames; i++) {
    const kind = random.int(0, 9);
    const size = kind === 0 ? random.int(0, 7) : kind === 1 ? random.int(513, 6000) : random.int(8, 512);
    parts.push(prefix(size), random.bytes(size));
  }
  return Buffer.concat(parts);
}

function cut(stream: Uint8Array, positions: number[]): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  let from = 0;
  for (const position of [...positions, stream.length]) {
    chunks.push(stream.subarray(from, position));
    from = position;
  }
  return chunks;
}

const mixed = Buffer.concat([
  prefixed(testFrame(1, 8), testFrame(2, 33), new Uint8Array(3), testFrame(3, 512)),
  prefix(0),
  prefixed(new Uint8Array(700).fill(7), testFrame(4), new Uint8Array(7), testFrame(5, 9)),
  prefixed(new Uint8Array(5000).fill(9), testFrame(6)),
]);

describe('FrameReader', () => {
  test('finds every frame when the stream comes byte by byte', () => {
    expect(readChunks([...mixed].map((byte) => Uint8Array.of(byte)))).toEqual(readWhole(mixed));
    expect(readWhole(mixed).found.filter(({ kind }) => kind === 'frame').length).toBe(6);
  });

  test('finds every frame when the stream is cut once, at every place', () => {
    const expected = readWhole(mixed);
    for (let at = 0; at <= mixed.length; at++) expect(readChunks(cut(mixed, [at]))).toEqual(expected);
  });

  test('finds every frame when a short stream is cut twice, at every pair of places', () => {
    const stream = Buffer.concat([prefixed(testFrame(1, 8), new Uint8Array(5), testFrame(2, 13))]);
    const expected = readWhole(stream);
    for (let a = 0; a <= stream.length; a++) {
      for (let b = a; b <= stream.length; b++) expect(readChunks(cut(stream, [a, b]))).toEqual(expected);
    }
  });

  test('agrees with the model at every truncation', () => {
    for (let length = 0; length < mixed.length; length += 7) {
      const stream = mixed.subarray(0, length);
      expect(readChunks(cut(stream, [length >> 1]))).toEqual(readWhole(stream));
    }
  });

  test('agrees with the model for random streams in random chunks', () => {
    const random = seededRandom('frame-reader');
    for (let round = 0; round < 60; round++) {
      const stream = randomStream(random, 40);
      if (random.int(0, 3) === 0)
        new DataView(stream.buffer, stream.byteOffset).setUint8(random.int(0, 999), 255);
      const positions = Array.from({ length: random.int(0, 30) }, () => random.int(0, stream.length));
      expect(
        readChunks(
          cut(
            stream,
            positions.sort((a, b) => a - b),
          ),
        ),
      ).toEqual(readWhole(stream));
    }
  });

  test('hands on a whole frame where it lies, without a copy', () => {
    const stream = prefixed(testFrame(1), testFrame(2));
    const seen: Uint8Array[] = [];
    const handler: FrameHandler = { frame: (bytes) => seen.push(bytes), malformed: () => {} };
    new FrameReader(handler).push(stream);
    expect(seen).toHaveLength(2);
    for (const bytes of seen) expect(bytes).toBe(stream);
  });

  for (const size of [2 ** 31, MAX_SKIPPED_FRAME_BYTES + 1, 0xffff_ffff]) {
    test(`ends the stream at a length prefix of ${size}, wherever it is cut`, () => {
      const good = prefixed(testFrame(1));
      const stream = Buffer.concat([good, prefix(size), prefixed(testFrame(2))]);
      for (let at = 0; at <= stream.length; at++) {
        const { found, isBroken } = readChunks(cut(stream, [at]));
        expect(isBroken).toBe(true);
        expect(found).toHaveLength(1);
      }
    });
  }

  for (const size of [0, 3, 7]) {
    test(`passes over a length prefix of ${size} and goes on`, () => {
      const stream = Buffer.concat([prefix(size), new Uint8Array(size), prefixed(testFrame(1))]);
      const { found, isBroken } = readChunks([stream]);
      expect(isBroken).toBe(false);
      expect(found.map(({ kind }) => kind)).toEqual(['too_short', 'frame']);
    });
  }

  test('holds memory for what has come, not for what a prefix claims', () => {
    const readers = Array.from({ length: 200 }, () => {
      const reader = new FrameReader({ frame: () => {}, malformed: () => {} }, MAX_SKIPPED_FRAME_BYTES);
      reader.push(Buffer.concat([prefix(MAX_SKIPPED_FRAME_BYTES), new Uint8Array(100)]));
      return reader;
    });
    for (const reader of readers) expect(reader.partial().buffer.byteLength).toBeLessThan(10_000);
  });

  test('takes nothing more once it is stopped, not even from the same chunk', () => {
    const seen: number[] = [];
    const reader: FrameReader = new FrameReader({
      frame: (_bytes, view, start) => {
        seen.push(view.getUint32(start, true));
        reader.stop();
      },
      malformed: () => {},
    });
    expect(reader.push(prefixed(testFrame(1), testFrame(2)))).toBe(false);
    expect(reader.push(prefixed(testFrame(3)))).toBe(false);
    expect(seen).toEqual([1]);
  });
});
