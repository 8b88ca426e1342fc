// Rows to FlatBuffers frames, for the simulator, the importers and the tests. Driven by the model through
// flatbuffers' own Builder: the frames are what any producer with flatc's classes would send.

import { Builder } from 'flatbuffers';
import { assert } from '../errors.ts';
import type { ColumnModel, TopicModel } from './model.ts';

/**
 * One row by column name. Integers as number or bigint, bool as boolean, number or bigint; a float as number,
 * or as bigint of its raw bits (a NaN's payload does not survive a number); a string as string or as its
 * bytes; an array as anything array-like. null and undefined leave the field out.
 */
export type Row = Record<string, unknown>;

export interface FrameBuilder {
  /** A frame without its size prefix; the bytes are the caller's. */
  build(row: Row): Uint8Array;
  /** The same with the u32 size in front, as on a stream. */
  buildSizePrefixed(row: Row): Uint8Array;
}

const CACHED_STRINGS = 4096;
const encoder = new TextEncoder();
const bits = new DataView(new ArrayBuffer(8));

/** Makes a builder for a topic; `forceDefaults` writes scalars that equal their default too. */
export function createFrameBuilder(
  model: TopicModel,
  options: { forceDefaults?: boolean } = {},
): FrameBuilder {
  const builder = new Builder(1024);
  const forceDefaults = options.forceDefaults ?? false;
  const slotCount = Math.max(...model.columns.map((column) => column.slot)) + 1;
  const variable = model.columns.filter((column) => column.kind !== 'fixed');
  // Widest first: no padding between the fields of a table.
  const byWidth = [...model.columns].sort((a, b) => inlineWidth(b) - inlineWidth(a) || a.slot - b.slot);
  const offsets = new Int32Array(model.columns.length);
  const encodeText = createTextCache();

  const write = (row: Row, sizePrefixed: boolean): Uint8Array => {
    builder.clear();
    for (const column of variable) {
      const value = row[column.name];
      const absent = value === null || value === undefined;
      assert(!(absent && column.required), `${model.topic}.${column.name} is required`);
      if (absent) offsets[column.index] = 0;
      else if (column.kind === 'string') {
        offsets[column.index] = builder.createString(
          value instanceof Uint8Array ? value : encodeText(String(value)),
        );
      } else offsets[column.index] = addVector(builder, column, value as ArrayLike<number | bigint>);
    }
    builder.startObject(slotCount);
    for (const column of byWidth) {
      if (column.kind === 'fixed') {
        const value = row[column.name];
        if (value === null || value === undefined) continue;
        const written = addScalar(builder, column, value as number | bigint | boolean, forceDefaults);
        if (written) builder.slot(column.slot);
      } else if (offsets[column.index] !== 0) {
        builder.addOffset(offsets[column.index]!);
        builder.slot(column.slot);
      }
    }
    builder.finish(builder.endObject(), model.identifier, sizePrefixed);
    return builder.asUint8Array().slice();
  };
  return { build: (row) => write(row, false), buildSizePrefixed: (row) => write(row, true) };
}

function inlineWidth(column: ColumnModel): number {
  return column.kind === 'fixed' ? column.widthBytes : 4;
}

/** UTF-8 of texts that come again and again (symbols, venues); emptied when it is full. */
function createTextCache(): (text: string) => Uint8Array {
  const cache = new Map<string, Uint8Array>();
  return (text) => {
    let bytes = cache.get(text);
    if (bytes === undefined) {
      bytes = encoder.encode(text);
      if (cache.size >= CACHED_STRINGS) cache.clear();
      cache.set(text, bytes);
    }
    return bytes;
  };
}

/** Puts the value's raw bits into `bits`, low bytes first. */
function setBits(column: ColumnModel, value: number | bigint | boolean): void {
  if (typeof value === 'bigint') bits.setBigInt64(0, BigInt.asIntN(64, value), true);
  else if (column.scalar === 'float32') bits.setFloat32(0, Number(value), true);
  else if (column.scalar === 'float64') bits.setFloat64(0, Number(value), true);
  else {
    const number = Number(value);
    bits.setInt32(0, number | 0, true);
    if (column.widthBytes === 8) {
      // `| 0` takes the low 32 bits of any integer below 2^53, as ToInt32 does.
      bits.setInt32(4, Math.floor(number / 0x1_0000_0000) | 0, true);
    }
  }
}

function addScalar(
  builder: Builder,
  column: ColumnModel,
  value: number | bigint | boolean,
  forceDefaults: boolean,
): boolean {
  setBits(column, value);
  if (!forceDefaults && !column.nullable && equalsDefault(column)) return false;
  writeBits(builder, column.widthBytes);
  return true;
}

function equalsDefault(column: ColumnModel): boolean {
  const word = Number(column.defaultBits & 0xffff_ffffn) | 0;
  switch (column.widthBytes) {
    case 1:
      return ((bits.getInt8(0) ^ word) & 0xff) === 0;
    case 2:
      return ((bits.getInt16(0, true) ^ word) & 0xffff) === 0;
    case 4:
      return bits.getInt32(0, true) === word;
    case 8:
      return (
        bits.getInt32(0, true) === word && bits.getInt32(4, true) === (Number(column.defaultBits >> 32n) | 0)
      );
  }
}

function writeBits(builder: Builder, widthBytes: 1 | 2 | 4 | 8): void {
  builder.prep(widthBytes, 0);
  if (widthBytes === 1) builder.writeInt8(bits.getInt8(0));
  else if (widthBytes === 2) builder.writeInt16(bits.getInt16(0, true));
  else {
    if (widthBytes === 8) builder.writeInt32(bits.getInt32(4, true));
    builder.writeInt32(bits.getInt32(0, true));
  }
}

function addVector(builder: Builder, column: ColumnModel, values: ArrayLike<number | bigint>): number {
  builder.startVector(column.widthBytes, values.length, column.widthBytes);
  for (let i = values.length - 1; i >= 0; i--) {
    setBits(column, values[i]!);
    writeBits(builder, column.widthBytes);
  }
  return builder.endVector();
}
