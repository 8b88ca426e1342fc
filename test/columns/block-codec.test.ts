import { describe, expect, test } from 'bun:test';
import {
  commitRow,
  createBatch,
  ingestTsAt,
  resetBatch,
  seqAt,
  streamIndexAt,
} from '../../src/columns/batch.ts';
import {
  BlockFormatError,
  blockSizeBytes,
  encodeBlock,
  ingestTimes,
  openBlock,
} from '../../src/columns/block-codec.ts';
import { createFrameBuilder } from '../../src/schema/build-frame.ts';
import { createExtractor } from '../../src/schema/extractor.ts';
import { topicByName, topics } from '../../src/schema/registry.ts';
import { allTypes } from '../support/all-types.ts';
import { randomRow } from '../support/frames.ts';
import { seededRandom } from '../support/random.ts';

const gaps = topicByName('gaps')!;
const streams = [
  { source: Buffer.from('udp'), session: Buffer.from('A1') },
  { source: Buffer.from(''), session: Buffer.from('B') },
];

/** Two rows of `gaps`, from two streams. */
function gapsBatch() {
  const builder = createFrameBuilder(gaps);
  const extract = createExtractor(gaps);
  const batch = createBatch(gaps, 10);
  const add = (row: Record<string, unknown>, stream: number, seqHigh: number) => {
    const frame = builder.build(row);
    expect(extract(new DataView(frame.buffer), frame, 0, frame.length, batch)).toBe(0);
    commitRow(batch, stream, 7, seqHigh, 0x89abcdef, 0x17a0);
  };
  add({ first_seq: 3, last_seq: 0xfedcba9876543210n, line: '10.0.0.1:5', detected_ts: -1, state: 1 }, 42, 0);
  add({ first_seq: 0x1_0000_0000n, line: 'é', state: 255 }, 7, 1);
  return batch;
}

/** The payload of gapsBatch, written down by hand from the table in block-codec.ts. */
const gapsPayload = Buffer.from(
  [
    '01000000 05000000 02000000 0e000000', // version, 5 columns, 2 streams, stream table of 14 bytes
    '0300 0200 756470 4131', // "udp", "A1"
    '0000 0100 42 0000', // "", "B", padding
    '00000000 01000000', // stream indexes
    '0700000000000000 0700000001000000', // seq
    'efcdab89a0170000 efcdab89a0170000', // ingest_ts
    '0300000000000000 0000000001000000', // first_seq
    '1032547698badcfe 0000000000000000', // last_seq
    '00000000 0a000000 0c000000 00000000', // line: offsets 0, 10, 12, padding
    '31302e302e302e313a35 c3a9 00000000', // "10.0.0.1:5", "é", padding
    'ffffffffffffffff 0000000000000000', // detected_ts
    '01 ff 000000000000', // state, padding
  ]
    .join('')
    .replaceAll(' ', ''),
  'hex',
);

/** A copy that begins at an 8-aligned address. */
const aligned = (bytes: Uint8Array) => new Uint8Array(bytes);

test('the payload is what the table in the source says, byte for byte', () => {
  const batch = gapsBatch();
  expect(blockSizeBytes(batch, streams)).toBe(gapsPayload.length);
  const payload = new Uint8Array(gapsPayload.length).fill(0x55);
  encodeBlock(batch, streams, payload);
  expect(Buffer.from(payload).toString('hex')).toBe(gapsPayload.toString('hex'));
});

test('a payload is read in place', () => {
  const payload = aligned(gapsPayload);
  const view = openBlock(gaps, payload, 2);
  expect(view.streams.map(({ source, session }) => `${source}/${session}`)).toEqual([
    '117,100,112/65,49',
    '/66',
  ]);
  expect([...view.streamIndex]).toEqual([0, 1]);
  expect([...view.seqWords]).toEqual([7, 0, 7, 1]);
  expect([...view.ingestTsWords]).toEqual([0x89abcdef, 0x17a0, 0x89abcdef, 0x17a0]);
  const [first, , line, , state] = view.columns;
  expect([...(first!.values as Uint32Array)]).toEqual([3, 0, 0, 1]);
  expect([...line!.offsets!]).toEqual([0, 10, 12]);
  expect(new TextDecoder().decode(line!.bytes)).toBe('10.0.0.1:5é');
  expect([...(state!.values as Uint8Array)]).toEqual([1, 255]);
  for (const column of view.columns) expect(column.bytes.buffer).toBe(payload.buffer);
});

test('the provenance of a batch can be read back', () => {
  const batch = gapsBatch();
  expect(batch.streamIds).toEqual([42, 7]);
  expect([0, 1].map((row) => streamIndexAt(batch, row))).toEqual([0, 1]);
  expect([0, 1].map((row) => seqAt(batch, row))).toEqual([7n, 0x1_0000_0007n]);
  expect(ingestTsAt(batch, 1)).toBe(0x17a0_89ab_cdefn);
});

test('many streams that alternate keep one index each', () => {
  const batch = createBatch(gaps, 64);
  const frame = createFrameBuilder(gaps).build({ first_seq: 1 });
  const extract = createExtractor(gaps);
  for (const id of [5, 9, 5, 5, 100_000, 9, 0, 5]) {
    extract(new DataView(frame.buffer), frame, 0, frame.length, batch);
    commitRow(batch, id, 1, 0, 0, 0);
  }
  expect(batch.streamIds).toEqual([5, 9, 100_000, 0]);
  expect(Array.from({ length: 8 }, (_, row) => streamIndexAt(batch, row))).toEqual([0, 1, 0, 0, 2, 1, 3, 0]);
});

test('an empty batch is a block without rows', () => {
  const batch = gapsBatch();
  resetBatch(batch);
  const payload = new Uint8Array(blockSizeBytes(batch, []));
  encodeBlock(batch, [], payload);
  expect(openBlock(gaps, payload, 0).rowCount).toBe(0);
});

describe('a payload that is not a block of the topic is refused', () => {
  const cases: [name: string, change: (payload: Uint8Array, view: DataView) => void, message: RegExp][] = [
    ['other layout version', (_, view) => view.setUint32(0, 2, true), /byte 0: layout version 2, 1 expected/],
    ['other column count', (_, view) => view.setUint32(4, 6, true), /byte 4: 6 columns, gaps has 5/],
    [
      'stream count too small',
      (_, view) => view.setUint32(8, 1, true),
      /stream table is longer than its streams/,
    ],
    [
      'stream count too large',
      (_, view) => view.setUint32(8, 3, true),
      /stream 2 goes past the stream table/,
    ],
    ['stream table too large', (_, view) => view.setUint32(12, 0xffff_ffff, true), /goes past the end/],
    ['stream name too long', (_, view) => view.setUint16(16, 500, true), /stream 0 goes past/],
    [
      'stream index of no stream',
      (_, view) => view.setUint32(36, 2, true),
      /byte 36: row 1 has stream 2 of 2/,
    ],
    ['first offset not 0', (_, view) => view.setUint32(104, 1, true), /line: the first offset is not 0/],
    [
      'offsets that fall',
      (_, view) => view.setUint32(108, 13, true),
      /byte 108: line: the offsets fall at row 1/,
    ],
    [
      'data past the end',
      (_, view) => view.setUint32(112, 0x7fff_ffff, true),
      /line data .* goes past the end/,
    ],
  ];
  for (const [name, change, message] of cases) {
    test(name, () => {
      const payload = aligned(gapsPayload);
      change(payload, new DataView(payload.buffer));
      expect(() => openBlock(gaps, payload, 2)).toThrow(message);
      expect(() => openBlock(gaps, payload, 2)).toThrow(BlockFormatError);
    });
  }

  test('every truncation, a longer payload, another row count', () => {
    for (let end = 0; end < gapsPayload.length; end++) {
      expect(() => openBlock(gaps, aligned(gapsPayload.subarray(0, end)), 2)).toThrow(BlockFormatError);
    }
    expect(() => openBlock(gaps, aligned(Buffer.concat([gapsPayload, Buffer.alloc(8)])), 2)).toThrow(
      /left over/,
    );
    for (const rows of [0, 1, 3, 1000, 0xffff_ffff]) {
      expect(() => openBlock(gaps, aligned(gapsPayload), rows)).toThrow(BlockFormatError);
    }
  });

  test('the times alone: every truncation before their end, another version, another row count', () => {
    const { ingestTsWords } = openBlock(gaps, aligned(gapsPayload), 2);
    const timesEnd = ingestTsWords.byteOffset + ingestTsWords.byteLength;
    for (let end = 0; end <= gapsPayload.length; end++) {
      const read = () => ingestTimes(aligned(gapsPayload.subarray(0, end)), 2);
      if (end < timesEnd) expect(read).toThrow(BlockFormatError);
      else expect(read()).toEqual(ingestTsWords);
    }
    expect(() => ingestTimes(aligned(gapsPayload), 0xffff_ffff)).toThrow(BlockFormatError);
    const other = aligned(gapsPayload);
    other[0] = 2;
    expect(() => ingestTimes(other, 2)).toThrow(/layout version 2/);
  });

  test('a payload that is not 8-aligned in memory', () => {
    const shifted = new Uint8Array(gapsPayload.length + 4).subarray(4);
    expect(() => openBlock(gaps, shifted, 2)).toThrow(/not 8-aligned/);
  });
});

for (const model of [...topics, allTypes.model]) {
  test(`${model.topic}: random rows survive the block, and mutated blocks never read out of bounds`, () => {
    const random = seededRandom(`block ${model.topic}`);
    const builder = createFrameBuilder(model);
    const extract = createExtractor(model);
    const batch = createBatch(model, 50);
    const rows = Array.from({ length: 41 }, () => randomRow(model, random));
    for (const [i, row] of rows.entries()) {
      const frame = builder.build(row);
      expect(extract(new DataView(frame.buffer), frame, 0, frame.length, batch)).toBe(0);
      commitRow(batch, i % 2, i, 0, random.u32(), random.u32());
    }
    const payload = new Uint8Array(blockSizeBytes(batch, streams));
    encodeBlock(batch, streams, payload);
    const view = openBlock(model, payload, rows.length);
    expect(ingestTimes(payload, rows.length)).toEqual(view.ingestTsWords);
    for (const column of view.columns) {
      const { name, widthBytes } = column.model;
      rows.forEach((row, i) => {
        const given = row[name];
        if (column.nulls !== null) expect(column.nulls[i]).toBe(given === undefined ? 1 : 0);
        const start = column.offsets === null ? i * widthBytes : column.offsets[i]! * widthBytes;
        const end = column.offsets === null ? start + widthBytes : column.offsets[i + 1]! * widthBytes;
        const expected = expectedBytes(
          given ?? (column.offsets === null ? column.model.defaultBits : []),
          widthBytes,
        );
        expect(Buffer.compare(column.bytes.subarray(start, end), expected)).toBe(0);
      });
    }
    for (let i = 0; i < 500; i++) {
      const mutated = payload.slice();
      new DataView(mutated.buffer).setUint32(random.int(0, payload.length / 4 - 1) * 4, random.u32(), true);
      for (const read of [openBlock.bind(null, model), ingestTimes]) {
        try {
          read(mutated, rows.length);
        } catch (error) {
          expect(error).toBeInstanceOf(BlockFormatError);
        }
      }
    }
  });
}

/** Little-endian bytes of a cell's value, made from its bits one byte at a time. */
function expectedBytes(value: unknown, widthBytes: number): Uint8Array {
  if (value instanceof Uint8Array) return value;
  const list = Array.isArray(value) ? (value as bigint[]) : [value as bigint];
  return Uint8Array.from(
    list.flatMap((bits) =>
      Array.from({ length: widthBytes }, (_, i) => Number((bits >> BigInt(i * 8)) & 0xffn)),
    ),
  );
}
