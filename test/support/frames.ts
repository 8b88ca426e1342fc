// Random rows, the frames made of them, and the faults put into frames; shared by the tests of schema and
// columns.

import { expect } from 'bun:test';
import { type Batch, commitRow, resetBatch } from '../../src/columns/batch.ts';
import { blockSizeBytes, encodeBlock, type StreamName } from '../../src/columns/block-codec.ts';
import type { Row } from '../../src/schema/build-frame.ts';
import type { Extract } from '../../src/schema/extractor.ts';
import type { GeneratedClass, GenericRow } from '../../src/schema/generic.ts';
import type { ColumnModel, TopicModel } from '../../src/schema/model.ts';
import { generatedClassOf } from '../../src/schema/registry.ts';
import { allTypes } from './all-types.ts';
import type { SeededRandom } from './random.ts';

export const testStream: StreamName = { source: Buffer.from('engine'), session: Buffer.from('s1') };

/** Bits of a scalar: extremes as often as random bits. */
function randomBits(column: ColumnModel, random: SeededRandom): bigint {
  const width = BigInt(column.widthBytes * 8);
  const all = (1n << width) - 1n;
  if (column.scalar === 'bool') return BigInt(random.int(0, 1));
  const special = [0n, 1n, all, all >> 1n, 1n << (width - 1n), column.defaultBits];
  // NaNs with payload, quiet and signalling, and infinity.
  if (column.scalar === 'float64')
    special.push(0x7ff8_dead_beef_0001n, 0x7ff0_0000_0000_0001n, 0x7ff0n << 48n);
  if (column.scalar === 'float32') special.push(0x7fc0_1234n, 0x7f80_0001n, 0x7f80_0000n);
  if (random.int(0, 1) === 0) return random.pick(special);
  return BigInt.asUintN(Number(width), (BigInt(random.u32()) << 32n) | BigInt(random.u32()));
}

/** A random row: every column present, absent, empty or extreme. Scalars are raw bits (bigint). */
export function randomRow(model: TopicModel, random: SeededRandom): Row {
  const row: Row = {};
  for (const column of model.columns) {
    if (!column.required && random.int(0, 3) === 0) continue;
    if (column.kind === 'fixed') row[column.name] = randomBits(column, random);
    else {
      const length = random.int(0, 9) === 0 ? random.int(200, 600) : random.int(0, 20);
      row[column.name] =
        column.kind === 'string'
          ? random.bytes(length)
          : Array.from({ length }, () => randomBits(column, random));
    }
  }
  return row;
}

/**
 * Extracts one frame as the only row of `batch`, which is emptied first. Returns the code, and the block with
 * that row where the frame was accepted.
 */
export function extractOne(
  extract: Extract,
  batch: Batch,
  bytes: Uint8Array,
  start = 0,
  end = bytes.length,
): { code: number; block: Uint8Array | null } {
  resetBatch(batch);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const code = extract(view, bytes, start, end, batch);
  if (code !== 0) return { code, block: null };
  commitRow(batch, 1, 1, 0, 0, 0);
  return { code, block: blockOf(batch) };
}

/** flatc's class of a topic of the program, or of the test topic with all types. */
export function classOf(model: TopicModel): GeneratedClass {
  return model === allTypes.model ? allTypes.generatedClass : generatedClassOf(model);
}

/** Bits of a value that flatc's class gave; a NaN is a NaN whatever its payload, numbers cannot carry it. */
function comparable(column: ColumnModel, value: unknown): unknown {
  if (typeof value === 'boolean') return BigInt(value);
  if (!column.scalar.startsWith('float'))
    return BigInt.asUintN(column.widthBytes * 8, BigInt(value as number));
  const view = new DataView(new ArrayBuffer(8));
  if (typeof value === 'bigint') view.setBigUint64(0, value, true);
  else if (column.scalar === 'float32') view.setFloat32(0, value as number, true);
  else view.setFloat64(0, value as number, true);
  const number = column.scalar === 'float32' ? view.getFloat32(0, true) : view.getFloat64(0, true);
  return Number.isNaN(number) ? 'NaN' : view.getBigUint64(0, true);
}

/** Fails unless a row decoded by flatc's class says what randomRow put in. */
export function expectRow(model: TopicModel, row: Row, decoded: GenericRow): void {
  for (const column of model.columns) {
    const given = row[column.name];
    const found = decoded[column.name];
    if (column.kind === 'string') {
      expect(found === null ? null : [...(found as Uint8Array)]).toEqual(
        given === undefined ? null : [...(given as Uint8Array)],
      );
    } else if (column.kind === 'array') {
      const list = (given ?? []) as bigint[];
      expect((found as bigint[]).map((value) => comparable(column, value))).toEqual(
        list.map((value) => comparable(column, value)),
      );
    } else if (given === undefined && column.nullable) expect(found).toBeNull();
    else expect(comparable(column, found)).toBe(comparable(column, given ?? column.defaultBits));
  }
}

/** The batch as a block payload; its rows come from one stream for each id. */
export function blockOf(batch: Batch): Uint8Array {
  const streams = batch.streamIds.map(() => testStream);
  const payload = new Uint8Array(blockSizeBytes(batch, streams));
  payload.fill(0xaa);
  encodeBlock(batch, streams, payload);
  return payload;
}

/** Writes a number of the given width at a position, little-endian. */
export function patched(frame: Uint8Array, at: number, value: number, widthBytes: 1 | 2 | 4): Uint8Array {
  const copy = frame.slice();
  const view = new DataView(copy.buffer);
  if (widthBytes === 1) view.setUint8(at, value & 0xff);
  else if (widthBytes === 2) view.setUint16(at, value & 0xffff, true);
  else view.setUint32(at, value >>> 0, true);
  return copy;
}

/** A random row with exactly these columns: frames of such rows have one vtable. */
export function rowOf(model: TopicModel, kind: readonly string[], random: SeededRandom): Row {
  const row: Row = {};
  for (let missing = [...kind]; missing.length > 0; missing = kind.filter((name) => !(name in row))) {
    const some = randomRow(model, random);
    for (const name of missing) if (name in some) row[name] = some[name];
  }
  return row;
}
