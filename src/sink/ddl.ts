// CREATE statements from a topic's model and a server's capabilities.
//
// Tables are partitioned by the recorder's clock, so that an insert group lies in one partition and is stored
// whole or not at all. Where a server lacks a type, its wire twin is used (DateTime64 → Int64): the inserted
// bytes are the same.

import type { TopicModel } from '../schema/model.ts';
import type { Capabilities } from './capabilities.ts';
import { aliasColumns, quoteName, quoteString, type TableColumn, tableColumns } from './table-columns.ts';

/**
 * Inserts that a table remembers for deduplication. A group is retried at once and alone in its topic, so few
 * are needed; other recorders insert into the same table, so not too few.
 */
export const DEDUPLICATION_WINDOW = 10_000;

/** Same bytes, for servers that do not have the type; applied from the outside in. */
const WIRE_TWINS: readonly [family: string, pattern: RegExp, twin: string][] = [
  ['DateTime64', /^DateTime64\(.*\)$/, 'Int64'],
  ['Date32', /^Date32$/, 'Int32'],
  ['Bool', /^Bool$/, 'UInt8'],
  ['IPv4', /^IPv4$/, 'UInt32'],
];

/** The type that a server without any of the newer types would have. */
export function wireTwin(type: string): string {
  return serverType(type, { lowCardinality: false, types: new Set() });
}

/** Type of a column on a server with these capabilities; `type` is the modern type. */
export function serverType(
  type: string,
  capabilities: Pick<Capabilities, 'lowCardinality' | 'types'>,
): string {
  const wrapped = /^(LowCardinality|Nullable|Array)\((.*)\)$/.exec(type);
  if (wrapped !== null) {
    const inner = serverType(wrapped[2]!, capabilities);
    return wrapped[1] === 'LowCardinality' && !capabilities.lowCardinality
      ? inner
      : `${wrapped[1]}(${inner})`;
  }
  const twin = WIRE_TWINS.find(([family, pattern]) => pattern.test(type) && !capabilities.types.has(family));
  return twin === undefined ? type : twin[2];
}

/** `database.table`, quoted. */
export function tableName(model: TopicModel, database: string): string {
  return `${quoteName(database)}.${quoteName(model.table)}`;
}

export function createDatabase(database: string): string {
  return `CREATE DATABASE IF NOT EXISTS ${quoteName(database)}`;
}

function columnLine(column: TableColumn, capabilities: Capabilities): string {
  const parts = [quoteName(column.name), serverType(column.type, capabilities)];
  if (capabilities.columnComments && column.comment !== '')
    parts.push(`COMMENT ${quoteString(column.comment)}`);
  if (capabilities.columnCodecs && column.codec !== null) parts.push(`CODEC(${column.codec})`);
  return parts.join(' ');
}

function aliasLines(model: TopicModel, capabilities: Capabilities): string[] {
  return aliasColumns(model).map(({ name, expression, comment }) => {
    const shown = capabilities.columnComments ? ` COMMENT ${quoteString(comment)}` : '';
    return `${quoteName(name)} String ALIAS ${expression}${shown}`;
  });
}

/** `ingest_ts` as the server's own time type. */
function ingestTime(capabilities: Capabilities): string {
  return capabilities.types.has('DateTime64')
    ? 'toDateTime(ingest_ts)'
    : "toDateTime(intDiv(ingest_ts, 1000000000), 'UTC')";
}

/** CREATE TABLE IF NOT EXISTS for a topic, without a closing semicolon. */
export function createTable(model: TopicModel, capabilities: Capabilities, database: string): string {
  const lines = [
    ...tableColumns(model).map((column) => columnLine(column, capabilities)),
    ...aliasLines(model, capabilities),
  ];
  // DateTime64 itself is the partition's argument where it exists, so that queries on ingest_ts skip
  // partitions.
  const time = capabilities.types.has('DateTime64') ? 'ingest_ts' : ingestTime(capabilities);
  const clauses = [
    'ENGINE = MergeTree',
    `PARTITION BY ${model.partitionBy === 'day' ? 'toYYYYMMDD' : 'toYYYYMM'}(${time})`,
    `ORDER BY (${model.orderBy.map(quoteName).join(', ')})`,
  ];
  const settings: string[] = [];
  if (capabilities.ttl && model.ttlDays !== null) {
    clauses.push(`TTL ${ingestTime(capabilities)} + INTERVAL ${model.ttlDays} DAY`);
    if (capabilities.ttlOnlyDropsParts) settings.push('ttl_only_drop_parts = 1');
  }
  if (capabilities.deduplicationTokens) {
    settings.push(`non_replicated_deduplication_window = ${DEDUPLICATION_WINDOW}`);
  }
  if (settings.length > 0) clauses.push(`SETTINGS ${settings.join(', ')}`);
  if (capabilities.tableComments && model.comment !== '')
    clauses.push(`COMMENT ${quoteString(model.comment)}`);
  const name = tableName(model, database);
  return `CREATE TABLE IF NOT EXISTS ${name}\n(\n  ${lines.join(',\n  ')}\n)\n${clauses.join('\n')}`;
}
