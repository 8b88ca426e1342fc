// What is needed to insert into one table: made once a topic and connection, after the table has been made
// and checked.

import type { TopicModel } from '../schema/model.ts';
import type { Capabilities } from './capabilities.ts';
import type { SinkClient } from './clickhouse-client.ts';
import { compareTable, readTable, type ServerColumn } from './compare-table.ts';
import { createDatabase, createTable, tableName } from './ddl.ts';
import type { GroupEncoder, InsertFormat } from './group-encoder.ts';
import { createNativeEncoder } from './native.ts';
import { createRowBinaryEncoder } from './row-binary.ts';
import { quoteName, quoteString, tableColumns } from './table-columns.ts';

export interface TablePlan {
  model: TopicModel;
  /** Quoted, with the database. */
  table: string;
  capabilities: Capabilities;
  insertSql(format: InsertFormat): string;
  encoder(format: InsertFormat): GroupEncoder;
  /** SQL condition: ingest_ts lies in [start, end), ns since 1970; lets the server skip partitions. */
  ingestBetween(startNs: bigint, endNs: bigint): string;
}

/**
 * Makes the database and the table where they are absent. Returns the table's columns. Throws ServerError.
 */
export async function ensureTable(
  client: SinkClient,
  model: TopicModel,
  capabilities: Capabilities,
  database: string,
): Promise<ServerColumn[]> {
  // Looked for first: a user without the right to create can still insert into what an operator has made.
  const existing = await readTable(client, database, model.table);
  if (existing.length > 0) return existing;
  await client.command(createDatabase(database));
  await client.command(createTable(model, capabilities, database));
  return await readTable(client, database, model.table);
}

/**
 * Checks the server's table against the model, which may be older than the program's own.
 * Throws TableMismatchError.
 */
export function planTable(
  model: TopicModel,
  columns: readonly ServerColumn[],
  capabilities: Capabilities,
  database: string,
): TablePlan {
  const serverTypes = compareTable(model, columns, capabilities, database);
  const names = tableColumns(model).map((column) => column.name);
  const list = names.map(quoteName).join(', ');
  const table = tableName(model, database);
  const encoders: Partial<Record<InsertFormat, GroupEncoder>> = {};
  const isInteger = serverTypes[names.indexOf('ingest_ts')] === 'Int64';
  const time = (ns: bigint) =>
    isInteger ? String(ns) : `fromUnixTimestamp64Nano(toInt64(${quoteString(String(ns))}))`;
  return {
    model,
    table,
    capabilities,
    insertSql: (format) => `INSERT INTO ${table} (${list}) FORMAT ${format}`,
    encoder(format) {
      encoders[format] ??=
        format === 'Native' ? createNativeEncoder(model, serverTypes) : createRowBinaryEncoder(model);
      return encoders[format];
    },
    ingestBetween: (start, end) => `ingest_ts >= ${time(start)} AND ingest_ts < ${time(end)}`,
  };
}

/**
 * Settings of an insert of one group: one block, one part, stored once.
 * Only settings that the server has: one that it does not know fails the whole insert.
 */
export function insertSettings(
  capabilities: Capabilities,
  token: string,
  rowCount: number,
): Record<string, string> {
  const wanted: Record<string, string> = {
    insert_deduplication_token: token,
    insert_deduplicate: '1',
    deduplicate_insert: 'enable',
    // On by default from 26.3: the server would answer for a buffer that it shares with other inserts.
    async_insert: '0',
    // One block an insert: nothing may split it, whatever the user's profile says.
    max_insert_block_size: String(Math.max(rowCount, 1_048_576)),
    max_insert_block_size_bytes: '0',
    // Native comes in several blocks: the server puts them together until it has all rows.
    min_insert_block_size_rows: String(Math.max(rowCount, 1)),
    min_insert_block_size_bytes: '0',
    input_format_max_block_size_bytes: '0',
    input_format_parallel_parsing: '0',
    // Native at revision 0 carries LowCardinality(String) as String.
    input_format_native_allow_types_conversion: '1',
  };
  return Object.fromEntries(Object.entries(wanted).filter(([name]) => capabilities.settings.has(name)));
}
