// The columns of a topic's table, in the order of every insert: the topic's own, then the provenance. DDL,
// the comparison with the server, and both encoders follow this one list.

import { RecorderError } from '../errors.ts';
import type { ColumnModel, TopicModel } from '../schema/model.ts';

/** A stored column. `type` is the modern ClickHouse type with Nullable. */
export interface TableColumn {
  name: string;
  type: string;
  codec: string | null;
  comment: string;
  /** The topic's column, null for a column of the provenance. */
  model: ColumnModel | null;
}

/** A column that is computed at SELECT: the names of an enumeration's values. */
export interface AliasColumn {
  name: string;
  expression: string;
  comment: string;
}

const TIME_CODEC = 'Delta(8), ZSTD(1)';

export const PROVENANCE: readonly TableColumn[] = [
  provenance('recorder', 'LowCardinality(String)', null, 'Recorder that took the row'),
  provenance('source', 'LowCardinality(String)', null, 'Producer, or UDP feed, that sent the frame'),
  provenance('session', 'LowCardinality(String)', null, "Producer's session; seq counts within it"),
  provenance('seq', 'UInt64', TIME_CODEC, 'Sequence number of the frame in its session, from 1'),
  provenance(
    'ingest_ts',
    "DateTime64(9, 'UTC')",
    TIME_CODEC,
    'When the recorder read the frame, ns since 1970',
  ),
  provenance('wal_id', 'UInt64', 'ZSTD(1)', 'Write-ahead log that held the row'),
  provenance(
    'wal_lsn',
    'UInt64',
    TIME_CODEC,
    'Number of the row in that log; unique with recorder and wal_id',
  ),
];

function provenance(name: string, type: string, codec: string | null, comment: string): TableColumn {
  return { name, type, codec, comment, model: null };
}

function nullableType(type: string): string {
  const inner = /^LowCardinality\((.*)\)$/.exec(type)?.[1];
  return inner === undefined ? `Nullable(${type})` : `LowCardinality(Nullable(${inner}))`;
}

function commentOf(column: ColumnModel): string {
  return [column.comment, column.unit === null ? '' : `[${column.unit}]`]
    .filter((part) => part !== '')
    .join(' ');
}

/** Stored columns of a topic's table in insert order. */
export function tableColumns(model: TopicModel): TableColumn[] {
  const own = model.columns.map((column) => ({
    name: column.name,
    type: column.nullable ? nullableType(column.clickhouseType) : column.clickhouseType,
    codec: column.codec,
    comment: commentOf(column),
    model: column,
  }));
  const columns = [...own, ...PROVENANCE];
  const names = new Set<string>();
  for (const { name } of columns) {
    if (names.has(name)) {
      throw new RecorderError('schema_invalid', `topic ${model.topic}: two columns are named ${name}`, {
        hint: 'rename the field in the schema: every table has the columns of the provenance as well',
      });
    }
    names.add(name);
  }
  return columns;
}

/** `<name>_name` for every enumeration: unknown values show as their number. */
export function aliasColumns(model: TopicModel): AliasColumn[] {
  const taken = new Set(tableColumns(model).map((column) => column.name));
  const aliases: AliasColumn[] = [];
  for (const column of model.columns) {
    const values = column.enumValues;
    const name = `${column.name}_name`;
    if (values === null || column.kind !== 'fixed' || taken.has(name)) continue;
    const wide = column.scalar === 'uint64' ? 'toUInt64' : 'toInt64';
    const numbers = values.map((entry) => entry.value).join(', ');
    const names = values.map((entry) => quoteString(entry.name)).join(', ');
    const code = quoteName(column.name);
    aliases.push({
      name,
      expression: `transform(${wide}(${code}), [${numbers}], [${names}], toString(${code}))`,
      comment: `Name of ${column.name}, computed at SELECT`,
    });
  }
  return aliases;
}

/** A name in backquotes, as ClickHouse writes it. */
export function quoteName(name: string): string {
  return `\`${name.replaceAll('\\', '\\\\').replaceAll('`', '\\`')}\``;
}

/** A text as a ClickHouse string literal. */
export function quoteString(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
