// Stored values in the notation in which the foreign producers print what they sent (README.md): from a
// block's columns, and from a ClickHouse table by SQL.

import type { BlockColumn, BlockView } from '../../src/columns/block-codec.ts';
import type { ColumnModel } from '../../src/schema/model.ts';

/** A value as a producer prints it. */
export type StoredValue = string | string[] | null;

/** One line of a producer's output. */
export interface SentFrame {
  seq: number;
  topic: string;
  case: string;
  values: Record<string, StoredValue>;
}

/** Reads the output of a producer. */
export function sentFrames(output: string): SentFrame[] {
  return output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as SentFrame);
}

const isFloat = (model: ColumnModel) => model.scalar === 'float32' || model.scalar === 'float64';

function scalarText(model: ColumnModel, bytes: Uint8Array): string {
  const bits = Buffer.from(bytes).reverse().toString('hex');
  if (isFloat(model)) return `bits:${bits}`;
  const value = BigInt(`0x${bits}`);
  return String(model.scalar.startsWith('int') ? BigInt.asIntN(bytes.length * 8, value) : value);
}

function cellText({ model, nulls, offsets, bytes }: BlockColumn, row: number): StoredValue {
  if (nulls !== null && nulls[row] === 1) return null;
  const width = model.widthBytes;
  if (offsets === null) return scalarText(model, bytes.subarray(row * width, (row + 1) * width));
  const data = bytes.subarray(offsets[row]! * width, offsets[row + 1]! * width);
  if (model.kind === 'string') return `hex:${data.toHex()}`;
  return Array.from({ length: data.length / width }, (_, i) =>
    scalarText(model, data.subarray(i * width, (i + 1) * width)),
  );
}

/** All of a row's columns. */
export function storedInBlock(view: BlockView, row: number): Record<string, StoredValue> {
  return Object.fromEntries(view.columns.map((column) => [column.model.name, cellText(column, row)]));
}

/**
 * Expression that gives the column's value as text; `storedInTable` reads it. `serverType`: from
 * system.columns.
 */
export function storedValueSql(model: ColumnModel, serverType: string): string {
  const { name } = model;
  if (model.kind === 'string') return `hex(${name})`;
  if (model.kind === 'array') return `arrayMap(x -> toString(x), ${name})`;
  // Little-endian bytes, zeros at the end left out: works for every float on every version.
  if (isFloat(model)) return `hex(reinterpretAsString(${name}))`;
  if (serverType.includes('DateTime64')) return `toString(reinterpretAsInt64(${name}))`;
  if (serverType.includes('Date32')) return `toString(toInt32(${name}))`;
  if (serverType.includes('Bool')) return `toString(toUInt8(${name}))`;
  return `toString(${name})`;
}

/** Value of a column from what `storedValueSql` gave. */
export function storedInTable(model: ColumnModel, raw: string | string[] | null): StoredValue {
  if (raw === null) return null;
  if (Array.isArray(raw)) return raw.map((text) => integerText(model, text));
  if (model.kind === 'string') return `hex:${raw.toLowerCase()}`;
  if (isFloat(model)) {
    const bytes = Buffer.alloc(model.widthBytes);
    bytes.write(raw, 'hex');
    return `bits:${bytes.reverse().toString('hex')}`;
  }
  return integerText(model, raw);
}

/** Decimal(18, 9) comes as decimal text: back to units of 1e-9. */
function integerText(model: ColumnModel, text: string): string {
  if (!model.clickhouseType.includes('Decimal')) return text;
  const [whole = '', fraction = ''] = text.replace('-', '').split('.');
  const units = BigInt(whole + fraction.padEnd(9, '0'));
  // 18.16 shows the least Decimal without its sign; 2^63 itself does not fit, so it can only be that one.
  return String(BigInt.asIntN(64, text.startsWith('-') ? -units : units));
}
