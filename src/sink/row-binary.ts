// Encoder of ClickHouse's RowBinary: row by row, no header.
//
//   fixed    its bytes, little-endian
//   String   LEB128 length, bytes
//   Array    LEB128 count, elements
//   Nullable u8: 1 = NULL and nothing follows, 0 = the value follows
//
// The rows are written by a function generated from the model (row-binary-code.ts) in a memory that all
// encoders of a thread use in turns:
//
//   0                what the function is told, see row-binary-code.ts
//   prefixesAt       for each stream: u32 address, u32 length; then recorder, source and session, encoded
//   payloadAt        the block
//   outputAt         the rows

import type { BlockView } from '../columns/block-codec.ts';
import { limits } from '../limits.ts';
import type { TopicModel } from '../schema/model.ts';
import { align8 } from '../wal/format.ts';
import { OVERRUN_BYTES, WasmFunction, WasmMemory } from '../wasm-code.ts';
import { createByteSink, resetSink, writeBytes, writeString } from './byte-sink.ts';
import type { BlockSlice, GroupEncoder, GroupOrigin } from './group-encoder.ts';
import { factsOf, type RowCode, rowCode } from './row-binary-code.ts';

/** Rows that are written in one call take no more than this, unless it is one row. */
const OUTPUT_SIZE_BYTES = 128 * 1024;
/** A larger memory, for a block of frames that are large, is given back after use. */
const KEPT_SIZE_BYTES = 2 * limits.batchBytes;

/** Shared by all encoders of a thread: each call of one begins and ends with nothing in it. */
const memory = new WasmMemory(KEPT_SIZE_BYTES);

/** Makes the RowBinary encoder of a topic: the columns of `tableColumns(model)` in that order. */
export function createRowBinaryEncoder(model: TopicModel): GroupEncoder {
  const code = rowCode(model);
  const run = new WasmFunction(code.module);
  const names = createByteSink(1024);
  return (sink, slices, origin) => {
    for (const slice of slices) {
      const prefixes = streamPrefixes(slice.view, origin, names);
      const longest = prefixes.reduce((most, { length }) => Math.max(most, length), 0);
      const scene = lay(code, slice, prefixes, origin);
      for (let row = slice.fromRow; row < slice.toRow; ) {
        const { count, sizeBytes } = rowsThatFit(code, slice, row, longest);
        // The memory may have grown: only now is it as large as these rows need.
        const bytes = memory.bytes(scene.outputAt + sizeBytes + OVERRUN_BYTES);
        new DataView(bytes.buffer).setBigUint64(8, slice.lsn + BigInt(row), true);
        const end = run.call(memory.current, row, row + count, scene.outputAt);
        writeBytes(sink, bytes.subarray(scene.outputAt, end));
        row += count;
      }
    }
    memory.release();
  };
}

function streamPrefixes(
  view: BlockView,
  origin: GroupOrigin,
  names: ReturnType<typeof createByteSink>,
): Uint8Array[] {
  return view.streams.map(({ source, session }) => {
    resetSink(names);
    writeString(names, origin.recorder);
    writeString(names, source);
    writeString(names, session);
    return names.bytes.slice(0, names.position);
  });
}

/** Lays out the memory for a block. */
function lay(
  code: RowCode,
  { view }: BlockSlice,
  prefixes: readonly Uint8Array[],
  { walId }: GroupOrigin,
): { outputAt: number } {
  const prefixesAt = align8(code.factsSizeBytes);
  const sizeBytes = prefixes.reduce((sum, { length }) => sum + length, prefixes.length * 8);
  const payloadAt = align8(prefixesAt + sizeBytes + OVERRUN_BYTES);
  const outputAt = align8(payloadAt + view.payload.length + OVERRUN_BYTES);
  const bytes = memory.bytes(outputAt);
  const words = new DataView(bytes.buffer);
  words.setBigUint64(0, walId, true);
  factsOf(view, payloadAt - view.payload.byteOffset, prefixesAt).forEach((fact, index) => {
    words.setInt32(code.factAt(index), fact, true);
  });
  let at = prefixesAt + prefixes.length * 8;
  prefixes.forEach((prefix, index) => {
    words.setInt32(prefixesAt + index * 8, at, true);
    words.setInt32(prefixesAt + index * 8 + 4, prefix.length, true);
    bytes.set(prefix, at);
    at += prefix.length;
  });
  bytes.set(view.payload, payloadAt);
  return { outputAt };
}

/** How many rows from `row` on are written at once, and the most bytes that they take. */
function rowsThatFit(
  code: RowCode,
  { view, toRow }: BlockSlice,
  row: number,
  longestPrefix: number,
): { count: number; sizeBytes: number } {
  const bound = (count: number) => {
    let sizeBytes = count * (code.fixedSizeBytes + longestPrefix);
    for (const { model, offsets } of view.columns) {
      if (offsets !== null) sizeBytes += (offsets[row + count]! - offsets[row]!) * model.widthBytes;
    }
    return sizeBytes;
  };
  let count = toRow - row;
  while (count > 1 && bound(count) > OUTPUT_SIZE_BYTES) count = Math.ceil(count / 2);
  return { count, sizeBytes: bound(count) };
}
