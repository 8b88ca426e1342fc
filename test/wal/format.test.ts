// The layout on disk against committed files, read here by offsets of this test's own: what the program
// writes and reads may only change together with the format's version.

import { describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { realFileSystem } from '../../src/io/real-file-system.ts';
import {
  checksum,
  decodeRecordHeader,
  decodeSegmentHeader,
  encodeRecordHeader,
  encodeSegmentHeader,
  firstNonZero,
  parseSegmentName,
  type RecordHeader,
  type SegmentHeader,
  segmentName,
} from '../../src/wal/format.ts';
import { decodeSegmentMeta, encodeSegmentMeta } from '../../src/wal/segment-meta.ts';
import { verifyWal } from '../../src/wal/verify.ts';
import { readAll } from '../support/wal-fixture.ts';

const DIR = join(import.meta.dir, '../golden/wal');
const FIRST = '0000000000000000.wal';
const SECOND = '0000000100000005.wal';
const WAL_ID = 0xd6eea0ef371ee274n;

const golden = (name: string) => realFileSystem.readFile(join(DIR, name));
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset);

/** The payload of a golden block, as it was made. */
const payload = (length: number, topicIndex: number) =>
  new Uint8Array(length).map((_, index) => (index * 7 + topicIndex) & 255);

test('checksums are XXH3-64 with seed 0: values of ClickHouse, xxh3()', () => {
  const of = (content: string) => checksum(new TextEncoder().encode(content));
  expect(of('')).toBe(0x2d06800538d394c2n);
  expect(of('recorder')).toBe(0xa29dc9b870c13572n);
  expect(of('0123456789abcdef'.repeat(16))).toBe(0x2d039bbef8ae3c63n);
  expect(of('x'.repeat(1_000_000))).toBe(0xef02eeb2d3625399n);
});

describe('golden segment', () => {
  test('header lies at its offsets', () => {
    const bytes = golden(FIRST);
    const at = view(bytes);
    expect(text(bytes.subarray(0, 8))).toBe('RECWAL01');
    expect(at.getUint32(8, true)).toBe(1);
    expect(at.getUint32(12, true)).toBe(480);
    expect(at.getBigUint64(16, true)).toBe(WAL_ID);
    expect(at.getBigUint64(24, true)).toBe(0n);
    expect(at.getBigUint64(32, true)).toBe(0n);
    expect(at.getBigUint64(40, true)).toBe(checksum(bytes.subarray(64, 480)));
    expect(at.getBigUint64(48, true)).toBe(0n);
    expect(at.getBigUint64(56, true)).toBe(checksum(bytes.subarray(0, 56)));
    expect(JSON.parse(text(bytes.subarray(64, 480)))).toMatchObject({
      recorder: 'golden',
      host: 'golden-host',
      topics: [
        { topic: 'ticks', table: 'market_data', fingerprint: 'fedcba9876543210', rowsBefore: '0' },
        { topic: 'fills', table: 'trades', fingerprint: '0000000000000001', bfbs: btoa('schema of fills') },
      ],
      previousBaseLsn: null,
      gapBefore: null,
    });
  });

  test('the second says how it follows the first, and where the streams stood', () => {
    const bytes = golden(SECOND);
    const header = decodeSegmentHeader(bytes) as SegmentHeader;
    expect(header).toMatchObject({ walId: WAL_ID, baseLsn: 0x1_0000_0005n });
    const meta = decodeSegmentMeta(text(bytes.subarray(64, header.headerSizeBytes)));
    expect(meta.streams).toEqual([
      {
        source: new TextEncoder().encode('engine'),
        session: Uint8Array.of(0xff, 0, 0x41),
        lastSeq: 2n ** 64n - 1n,
      },
    ]);
    expect(meta.previousBaseLsn).toBe(0n);
    expect(meta.topics.map(({ rowsBefore }) => rowsBefore)).toEqual([2n ** 32n + 2n, 3n]);
    expect(header.prevChecksum).toBe(view(golden(FIRST)).getBigUint64(4064 - 3000 - 8, true));
  });

  test('records lie at their offsets', () => {
    const bytes = golden(FIRST);
    const at = (offset: number) => view(bytes.subarray(480 + offset));
    const first = at(0);
    expect(text(bytes.subarray(480, 484))).toBe('RBLK');
    expect(first.getUint32(4, true)).toBe(64);
    expect(first.getBigUint64(8, true)).toBe(0n);
    expect(first.getBigUint64(16, true)).toBe(0xfedcba9876543210n);
    expect(first.getUint32(24, true)).toBe(3);
    expect(first.getUint16(28, true)).toBe(0);
    expect(first.getUint16(30, true)).toBe(0);
    expect(first.getBigUint64(32, true)).toBe(1n);
    expect(first.getBigUint64(40, true)).toBe(2n ** 64n - 1n);
    expect(first.getUint16(48, true)).toBe(0);
    expect(first.getUint16(50, true)).toBe(65535);
    expect(first.getUint32(52, true)).toBe(70_000);
    expect(first.getBigInt64(56, true)).toBe(-1n);
    expect(first.getBigInt64(64, true)).toBe(1_700_000_000_123_456_789n);
    expect(first.getBigUint64(72, true)).toBe(WAL_ID);
    expect(first.getBigUint64(80, true)).toBe(view(bytes).getBigUint64(56, true));
    expect(first.getBigUint64(88, true)).toBe(checksum(payload(64, 0)));
    expect(first.getBigUint64(96, true)).toBe(0n);
    expect(first.getBigUint64(104, true)).toBe(0n);
    expect(first.getBigUint64(112, true)).toBe(0n);
    expect(first.getBigUint64(120, true)).toBe(checksum(bytes.subarray(480, 600)));
    expect(bytes.slice(608, 672)).toEqual(payload(64, 0));

    const second = at(192);
    expect(second.getUint16(28, true)).toBe(1);
    expect(second.getUint16(30, true)).toBe(1);
    expect(second.getBigUint64(80, true)).toBe(first.getBigUint64(120, true));
    expect(second.getBigUint64(88, true)).toBe(0x2d06800538d394c2n);
    const third = at(320);
    expect(third.getUint32(24, true)).toBe(2 ** 32 - 1);
    expect(third.getBigUint64(96, true)).toBe(4n);
  });

  test('what is decoded is encoded to the same bytes', () => {
    for (const [name, offsets] of [
      [FIRST, [480, 672, 800, 936]],
      [SECOND, [584]],
    ] as const) {
      const bytes = golden(name);
      const header = decodeSegmentHeader(bytes) as SegmentHeader;
      const json = text(bytes.subarray(64, header.headerSizeBytes));
      expect(encodeSegmentMeta(decodeSegmentMeta(json))).toBe(json.trimEnd());
      expect(encodeSegmentHeader(header, json.trimEnd())).toEqual(bytes.slice(0, header.headerSizeBytes));
      for (const offset of offsets) {
        const record = bytes.slice(offset, offset + 128);
        const target = new Uint8Array(128).fill(0xee);
        encodeRecordHeader(target, decodeRecordHeader(record) as RecordHeader);
        expect(target).toEqual(record);
      }
    }
  });

  test('the order of times is one more word, which no older log has', () => {
    const record = golden(FIRST).slice(480, 608);
    const header = decodeRecordHeader(record) as RecordHeader;
    expect(header.inTimeOrder).toBe(false);
    const target = new Uint8Array(128);
    encodeRecordHeader(target, { ...header, inTimeOrder: true });
    expect(target.slice(0, 104)).toEqual(record.slice(0, 104));
    expect(target.slice(104, 120)).toEqual(Uint8Array.from({ length: 16 }, (_, at) => Number(at === 0)));
    expect((decodeRecordHeader(target) as RecordHeader).inTimeOrder).toBe(true);
  });

  test('padding is one more word, and shorter than a page', () => {
    const record = golden(FIRST).slice(480, 608);
    const header = decodeRecordHeader(record) as RecordHeader;
    expect(header.paddingSizeBytes).toBe(0);
    const target = new Uint8Array(128);
    encodeRecordHeader(target, { ...header, paddingSizeBytes: 4088 });
    expect(target.slice(0, 108)).toEqual(record.slice(0, 108));
    expect(view(target).getUint32(108, true)).toBe(4088);
    expect((decodeRecordHeader(target) as RecordHeader).paddingSizeBytes).toBe(4088);
    for (const paddingSizeBytes of [4, 4096]) {
      encodeRecordHeader(target, { ...header, paddingSizeBytes });
      expect(decodeRecordHeader(target)).toBe('bad_header');
    }
  });

  test('reads and verifies', () => {
    const { blocks, damages } = readAll(realFileSystem, { dir: DIR });
    expect(damages).toEqual([]);
    expect(blocks.map(({ lsn, rowCount, topic, endsGroup }) => [lsn, rowCount, topic, endsGroup])).toEqual([
      [0n, 3, 'ticks', false],
      [3n, 1, 'fills', true],
      [4n, 2 ** 32 - 1, 'ticks', true],
      [2n ** 32n + 3n, 2, 'fills', true],
      [2n ** 32n + 5n, 7, 'fills', true],
    ]);
    expect(blocks.map(({ payload: bytes }) => bytes.length)).toEqual([64, 0, 8, 3000, 16]);
    expect(blocks[3]!.payload).toEqual(payload(3000, 1));
    expect(verifyWal(realFileSystem, DIR)).toMatchObject({
      damaged: [],
      segments: 2,
      blocks: 5,
      walId: WAL_ID,
    });
  });
});

test('segment names sort as their LSNs, and nothing else is one', () => {
  for (const lsn of [0n, 1n, 0xabcdefn, 2n ** 64n - 1n]) expect(parseSegmentName(segmentName(lsn))).toBe(lsn);
  for (const name of [
    '0.wal',
    '00000000000000000.wal',
    '000000000000000G.wal',
    '0000000000000000.wal.torn-1',
    'lock',
  ]) {
    expect(parseSegmentName(name)).toBeNull();
  }
});

test('the first byte that is not zero is found wherever it is', () => {
  for (let start = 0; start < 8; start++) {
    for (let length = 0; length < 24; length++) {
      const bytes = new Uint8Array(40).subarray(start, start + length);
      expect(firstNonZero(bytes)).toBe(-1);
      for (let index = 0; index < length; index++) {
        bytes[index] = 1;
        expect(firstNonZero(bytes)).toBe(index);
        bytes[index] = 0;
      }
    }
  }
});
