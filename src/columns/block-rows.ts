// Rows of a block as plain objects that JSON can hold, for dump, tap and error texts. Exact: nothing is
// rounded.
//
//   Decimal                decimal text with all its digits: '123.456789012'
//   DateTime64, DateTime   ISO 8601 in UTC with the column's digits: '2024-01-02T03:04:05.000000006Z'
//   Date, Date32           '2024-01-02'
//   64-bit integers        number while |value| < 2^53, decimal text beyond
//   floats                 number; 'NaN', 'Infinity', '-Infinity' as text
//   bool                   true, false
//   enum                   its name; the number where the schema does not know it
//   string                 text; bytes that are not UTF-8 show as U+FFFD, `<column>_hex` then holds all bytes
//   array                  array of the above
//   NULL                   null

import type { ColumnModel } from '../schema/model.ts';
import type { BlockColumn, BlockView } from './block-codec.ts';

/** What a row has from its block and segment, not from its columns. */
export interface RowOrigin {
  /** LSN of the block's first row. */
  lsn: bigint;
  recorder: string;
  walId: bigint;
}

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder('utf-8', { ignoreBOM: true });

/** Row `index` of a block, the topic's columns first and then the provenance. */
export function rowAt(view: BlockView, index: number, origin: RowOrigin): Record<string, unknown> {
  const row: Record<string, unknown> = {};
  for (const column of view.columns) addCell(row, column, index);
  const stream = view.streams[view.streamIndex[index]!]!;
  row['recorder'] = origin.recorder;
  addText(row, 'source', stream.source);
  addText(row, 'session', stream.session);
  row['seq'] = integerCell(wordsAt(view.seqWords, index));
  row['ingest_ts'] = dateTimeCell(BigInt.asIntN(64, wordsAt(view.ingestTsWords, index)), 9);
  row['wal_id'] = integerCell(origin.walId);
  row['wal_lsn'] = integerCell(origin.lsn + BigInt(index));
  return row;
}

function wordsAt(words: Uint32Array, index: number): bigint {
  return (BigInt(words[index * 2 + 1]!) << 32n) | BigInt(words[index * 2]!);
}

function addText(row: Record<string, unknown>, name: string, bytes: Uint8Array): void {
  try {
    row[name] = strict.decode(bytes);
  } catch {
    row[name] = lenient.decode(bytes);
    row[`${name}_hex`] = bytes.toHex();
  }
}

/** One cell as `rowAt` shows it; of a text that is not UTF-8 without the bytes. */
export function cellOf(column: BlockColumn, index: number): unknown {
  const row: Record<string, unknown> = {};
  addCell(row, column, index);
  return row[column.model.name];
}

function addCell(row: Record<string, unknown>, column: BlockColumn, index: number): void {
  const { model, nulls, offsets, bytes } = column;
  if (nulls !== null && nulls[index] === 1) {
    row[model.name] = null;
  } else if (offsets === null) {
    row[model.name] = valueCell(model, bytes, index);
  } else {
    const [start, end] = [offsets[index]!, offsets[index + 1]!];
    if (model.kind === 'string') addText(row, model.name, bytes.subarray(start, end));
    else row[model.name] = Array.from({ length: end - start }, (_, i) => valueCell(model, bytes, start + i));
  }
}

/** Value `element` of a column's values or of its array data. */
function valueCell(model: ColumnModel, bytes: Uint8Array, element: number): unknown {
  const view = new DataView(bytes.buffer, bytes.byteOffset + element * model.widthBytes, model.widthBytes);
  if (model.scalar === 'float32') return floatCell(view.getFloat32(0, true));
  if (model.scalar === 'float64') return floatCell(view.getFloat64(0, true));
  const value = integerOf(model, view);
  if (model.scalar === 'bool') return value !== 0n;
  const known = model.enumValues?.find((candidate) => candidate.value === value);
  if (known !== undefined) return known.name;
  return typedCell(model.clickhouseType, value);
}

function integerOf(model: ColumnModel, view: DataView): bigint {
  switch (model.scalar) {
    case 'int8':
      return BigInt(view.getInt8(0));
    case 'int16':
      return BigInt(view.getInt16(0, true));
    case 'uint16':
      return BigInt(view.getUint16(0, true));
    case 'int32':
      return BigInt(view.getInt32(0, true));
    case 'uint32':
      return BigInt(view.getUint32(0, true));
    case 'int64':
      return view.getBigInt64(0, true);
    case 'uint64':
      return view.getBigUint64(0, true);
    default:
      return BigInt(view.getUint8(0));
  }
}

/** Formatters by type: parsing the type's text for every cell took most of the time. */
const formats = new Map<string, (value: bigint) => unknown>();

function typedCell(clickhouseType: string, value: bigint): unknown {
  let format = formats.get(clickhouseType);
  if (format === undefined) {
    format = formatOf(clickhouseType);
    formats.set(clickhouseType, format);
  }
  return format(value);
}

function formatOf(clickhouseType: string): (value: bigint) => unknown {
  const type = /^Array\((.*)\)$/.exec(clickhouseType)?.[1] ?? clickhouseType;
  const decimal = /^Decimal\(\d+, (\d+)\)$/.exec(type);
  if (decimal !== null) return (value) => decimalCell(value, Number(decimal[1]));
  const dateTime64 = /^DateTime64\((\d)/.exec(type);
  if (dateTime64 !== null) return (value) => dateTimeCell(value, Number(dateTime64[1]));
  if (type.startsWith('DateTime')) return (value) => dateTimeCell(value, 0);
  if (type === 'Date' || type === 'Date32') return dateCell;
  return integerCell;
}

function integerCell(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}

function floatCell(value: number): number | string {
  return Number.isFinite(value) ? value : String(value);
}

function decimalCell(value: bigint, scale: number): string {
  if (scale === 0) return value.toString();
  const digits = (value < 0n ? -value : value).toString().padStart(scale + 1, '0');
  return `${value < 0n ? '-' : ''}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}

/** A day as YYYY-MM-DD; the number itself beyond the years that a Date can hold. */
function dateCell(days: bigint): string | number {
  const date = new Date(Number(days) * 86_400_000);
  return Number.isNaN(date.getTime()) ? Number(days) : date.toISOString().replace(/T.*/, '');
}

/** A time in ticks of 10^-digits s as ISO 8601; decimal text beyond the years that a Date can hold. */
function dateTimeCell(ticks: bigint, digits: number): string {
  const perSecond = 10n ** BigInt(digits);
  const fraction = ((ticks % perSecond) + perSecond) % perSecond;
  const date = new Date(Number((ticks - fraction) / perSecond) * 1000);
  if (Number.isNaN(date.getTime())) return ticks.toString();
  const text = date.toISOString().replace(/\.\d+Z$/, '');
  return digits === 0 ? `${text}Z` : `${text}.${fraction.toString().padStart(digits, '0')}Z`;
}
