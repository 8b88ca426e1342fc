// Random rows of any topic, and a WAL that holds them, for the tests of the sink.

import { type Batch, commitRow, createBatch } from '../../src/columns/batch.ts';
import {
  type BlockView,
  blockSizeBytes,
  encodeBlock,
  openBlock,
  type StreamName,
} from '../../src/columns/block-codec.ts';
import { assert } from '../../src/errors.ts';
import { realFileSystem } from '../../src/io/real-file-system.ts';
import { createFrameBuilder, type Row } from '../../src/schema/build-frame.ts';
import { createExtractor } from '../../src/schema/extractor.ts';
import type { ColumnModel, ScalarType, TopicModel } from '../../src/schema/model.ts';
import { openWal } from '../../src/wal/open.ts';
import type { SeededRandom } from '../support/random.ts';

const text = new TextEncoder();
export const RECORDER = 'rec-ü';
export const STREAMS: StreamName[] = [
  { source: text.encode('engine'), session: text.encode('s1') },
  { source: text.encode('udp'), session: Uint8Array.of(0xff, 0x00, 0x27, 0x5c, 0x0a) },
];

const EDGES: Record<ScalarType, bigint[]> = {
  bool: [0n, 1n],
  int8: [-128n, 127n, 0n],
  uint8: [0n, 255n],
  int16: [-32768n, 32767n],
  uint16: [0n, 65535n],
  int32: [-(2n ** 31n), 2n ** 31n - 1n, 0n, -1n],
  uint32: [0n, 2n ** 32n - 1n],
  int64: [-(2n ** 63n), 2n ** 63n - 1n, 0n, -1n],
  uint64: [0n, 2n ** 64n - 1n],
  // Bits: zeros, infinities, NaNs with payloads.
  float32: [0n, 0x8000_0000n, 0x7f80_0000n, 0x7fc0_1234n],
  float64: [0n, 1n << 63n, 0x7ff0_0000_0000_0000n, 0x7ff8_0000_dead_beefn, 0xfff4_0000_0000_0001n],
};

function randomScalar(type: ScalarType, random: SeededRandom): bigint | boolean {
  if (type === 'bool') return random.int(0, 1) === 1;
  if (random.int(0, 3) === 0) return random.pick(EDGES[type]);
  const bits = (BigInt(random.u32()) << 32n) | BigInt(random.u32());
  if (type.startsWith('float')) return type === 'float32' ? bits & 0xffff_ffffn : bits;
  const width = Number(/\d+$/.exec(type)![0]);
  return type.startsWith('u') ? BigInt.asUintN(width, bits) : BigInt.asIntN(width, bits);
}

function randomValue(column: ColumnModel, random: SeededRandom): unknown {
  if (!column.required && random.int(0, 4) === 0) return null;
  if (column.kind === 'string') return random.bytes(random.pick([0, 1, 5, 12, 48, 49, 127, 128, 300]));
  if (column.kind === 'fixed') return randomScalar(column.scalar, random);
  return Array.from({ length: random.pick([0, 1, 3, 7, 130]) }, () => randomScalar(column.scalar, random));
}

/** A row with any bytes, edges of every type, and absent values. */
export function randomRow(model: TopicModel, random: SeededRandom): Row {
  return Object.fromEntries(model.columns.map((column) => [column.name, randomValue(column, random)]));
}

/**
 * Rows as a batch, by way of frames and the extractor, as in the program. `ingestTs` gives the time of each
 * row.
 */
export function batchOf(model: TopicModel, rows: readonly Row[], ingestTs: (row: number) => bigint): Batch {
  const batch = createBatch(model, Math.max(rows.length, 1));
  const builder = createFrameBuilder(model);
  const extract = createExtractor(model);
  for (const [index, row] of rows.entries()) {
    const frame = builder.build(row);
    const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
    const code = extract(view, frame, 0, frame.length, batch);
    assert(code === 0, `the row was not extracted: ${code}`);
    const ts = BigInt.asUintN(64, ingestTs(index));
    commitRow(
      batch,
      index % 3 === 2 ? 1 : 0,
      index + 1,
      index % 5 === 0 ? 7 : 0,
      Number(ts & 0xffff_ffffn),
      Number(ts >> 32n),
    );
  }
  return batch;
}

/** The streams of a batch made by `batchOf`. */
export function streamsOf(batch: Batch): StreamName[] {
  return batch.streamIds.map((id) => STREAMS[id]!);
}

/** The rows as a block, without a WAL. */
export function blockOf(
  model: TopicModel,
  rows: readonly Row[],
  ingestTs: (row: number) => bigint,
): BlockView {
  const batch = batchOf(model, rows, ingestTs);
  const payload = new Uint8Array(blockSizeBytes(batch, streamsOf(batch)));
  encodeBlock(batch, streamsOf(batch), payload);
  return openBlock(model, payload, rows.length);
}

export interface WalContent {
  topic: TopicModel;
  rows: readonly Row[];
  ingestTs: (row: number) => bigint;
}

/**
 * Appends blocks to the WAL in `dir` (made if absent), synced. Returns its id and the LSN after the last row.
 */
export async function writeWal(
  dir: string,
  topics: readonly TopicModel[],
  blocks: readonly WalContent[],
): Promise<{ walId: bigint; nextLsn: bigint }> {
  const wal = await openWal({
    dir,
    recorder: RECORDER,
    topics,
    fileSystem: realFileSystem,
    segmentSizeBytes: 1 << 20,
  });
  for (const { topic, rows, ingestTs } of blocks) {
    const batch = batchOf(topic, rows, ingestTs);
    const streams = streamsOf(batch);
    wal.append({
      topicIndex: topics.indexOf(topic),
      rowCount: rows.length,
      payloadSizeBytes: blockSizeBytes(batch, streams),
      firstSeq: 1n,
      lastSeq: BigInt(rows.length),
      firstStream: 0,
      lastStream: 0,
      streamCount: streams.length,
      firstIngestTs: ingestTs(0),
      lastIngestTs: ingestTs(rows.length - 1),
      inTimeOrder: rows.every((_, row) => row === 0 || ingestTs(row - 1) <= ingestTs(row)),
      encode: (target) => encodeBlock(batch, streams, target),
    });
  }
  await wal.sync();
  const { walId, nextLsn } = wal;
  await wal.close();
  return { walId, nextLsn };
}
