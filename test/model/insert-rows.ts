// Reads the bodies of inserts, from the column types alone: shares nothing with the encoders.

import type { TopicModel } from '../../src/schema/model.ts';
import type { InsertFormat } from '../../src/sink/group-encoder.ts';
import { tableColumns } from '../../src/sink/table-columns.ts';

export type Cell = string | bigint;

function reader(body: Uint8Array) {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  let offset = 0;
  const length = (): number => {
    let [value, shift] = [0, 0];
    for (;;) {
      const byte = view.getUint8(offset++);
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
      shift += 7;
    }
  };
  const text = (): string => {
    const size = length();
    offset += size;
    if (offset > body.length) throw new Error('a string is cut');
    return Buffer.from(body.buffer, body.byteOffset + offset - size, size).toString('utf8');
  };
  const word = (): bigint => {
    offset += 8;
    return view.getBigUint64(offset - 8, true);
  };
  const byte = (): bigint => BigInt(view.getUint8(offset++));
  const cellOf = (type: string): (() => Cell) => {
    if (/^(?:LowCardinality\()?String\)?$/.test(type)) return text;
    if (/^(?:UInt64|Int64|DateTime64\(9, 'UTC'\))$/.test(type)) return word;
    if (type === 'UInt8') return byte;
    throw new Error(`the model does not read ${type}`);
  };
  return { cellOf, length, text, atEnd: () => offset === body.length };
}

/** Rows of a body of all columns of a topic's table, by column name. */
export function rowsOfBody(
  model: TopicModel,
  body: Uint8Array,
  format: InsertFormat,
): Record<string, Cell>[] {
  return format === 'Native' ? nativeRows(model, body) : rowBinaryRows(model, body);
}

function nativeRows(model: TopicModel, body: Uint8Array): Record<string, Cell>[] {
  const { cellOf, length, text, atEnd } = reader(body);
  const columns = tableColumns(model);
  if (length() !== columns.length) throw new Error('a block has other columns');
  const rows: Record<string, Cell>[] = Array.from({ length: length() }, () => ({}));
  for (const { name, type } of columns) {
    const header = [text(), text()];
    const plain = type.replace(/^LowCardinality\((.*)\)$/, '$1');
    if (header[0] !== name || header[1] !== plain)
      throw new Error(`column ${header} is not ${name} ${plain}`);
    const read = cellOf(type);
    for (const row of rows) row[name] = read();
  }
  if (!atEnd()) throw new Error('bytes behind the block');
  return rows;
}

function rowBinaryRows(model: TopicModel, body: Uint8Array): Record<string, Cell>[] {
  const { cellOf, atEnd } = reader(body);
  const cells = tableColumns(model).map(({ name, type }) => [name, cellOf(type)] as const);
  const rows: Record<string, Cell>[] = [];
  while (!atEnd()) {
    const row: Record<string, Cell> = {};
    for (const [name, read] of cells) row[name] = read();
    rows.push(row);
  }
  return rows;
}
