// What a ClickHouse server can do, asked of the server itself: an unknown setting, type or clause fails a
// whole statement on an old server. No version numbers are compared.

import type { SqlClient } from './clickhouse-client.ts';

export interface Capabilities {
  /** For messages only. */
  version: string;
  /** Inserts with a token are stored once (22.2 and later). */
  deduplicationTokens: boolean;
  /** Type families that exist. */
  types: ReadonlySet<string>;
  /** LowCardinality is there and not experimental. */
  lowCardinality: boolean;
  columnComments: boolean;
  columnCodecs: boolean;
  tableComments: boolean;
  ttl: boolean;
  /** TTL may be told to drop whole parts only, which costs nothing. */
  ttlOnlyDropsParts: boolean;
  /** Names of the settings that inserts may carry. */
  settings: ReadonlySet<string>;
}

/** What the server said, as asked by `probeCapabilities`. */
export interface ServerFacts {
  version: string;
  settings: ReadonlyMap<string, string>;
  mergeTreeSettings: ReadonlySet<string>;
  types: ReadonlySet<string>;
  /** `table.column` of the database system. */
  systemColumns: ReadonlySet<string>;
}

/** Settings that the program knows how to use; only these are asked for. */
export const PROBED_SETTINGS = [
  'insert_deduplication_token',
  'insert_deduplicate',
  'deduplicate_insert',
  'async_insert',
  'max_insert_block_size',
  'max_insert_block_size_bytes',
  'min_insert_block_size_rows',
  'min_insert_block_size_bytes',
  'input_format_max_block_size_bytes',
  'input_format_parallel_parsing',
  'input_format_native_allow_types_conversion',
  'input_format_null_as_default',
  'allow_experimental_low_cardinality_type',
  'output_format_json_quote_64bit_integers',
] as const;

const PROBED_TYPES = ['DateTime64', 'Date32', 'LowCardinality', 'Decimal', 'Bool', 'IPv4'] as const;

/** Capabilities that follow from a server's answers. */
export function capabilitiesFrom(facts: ServerFacts): Capabilities {
  const { settings, mergeTreeSettings, types, systemColumns } = facts;
  return {
    version: facts.version,
    deduplicationTokens:
      settings.has('insert_deduplication_token') &&
      mergeTreeSettings.has('non_replicated_deduplication_window'),
    types,
    // Where the type is experimental, the setting that allows it is there and off (18.16).
    lowCardinality:
      types.has('LowCardinality') && settings.get('allow_experimental_low_cardinality_type') !== '0',
    columnComments: systemColumns.has('columns.comment'),
    columnCodecs: systemColumns.has('columns.compression_codec'),
    tableComments: systemColumns.has('tables.comment'),
    ttl: mergeTreeSettings.has('merge_with_ttl_timeout'),
    ttlOnlyDropsParts: mergeTreeSettings.has('ttl_only_drop_parts'),
    settings: new Set(settings.keys()),
  };
}

/** Asks a server what it can do. Throws the client's errors when it cannot be reached. */
export async function probeCapabilities(client: SqlClient): Promise<Capabilities> {
  const list = (names: readonly string[]) => names.map((name) => `'${name}'`).join(', ');
  const version = await client.query<{ version: string }>('SELECT version() AS version');
  const settings = await client.query<{ name: string; value: string }>(
    `SELECT name, value FROM system.settings WHERE name IN (${list(PROBED_SETTINGS)})`,
  );
  const mergeTree = await client.query<{ name: string }>('SELECT name FROM system.merge_tree_settings');
  const types = await client.query<{ name: string }>(
    `SELECT name FROM system.data_type_families WHERE name IN (${list(PROBED_TYPES)})`,
  );
  const columns = await client.query<{ table: string; name: string }>(
    "SELECT table, name FROM system.columns WHERE database = 'system' AND table IN ('columns', 'tables')",
  );
  return capabilitiesFrom({
    version: version[0]?.version ?? 'unknown',
    settings: new Map(settings.map((row) => [row.name, row.value])),
    mergeTreeSettings: new Set(mergeTree.map((row) => row.name)),
    types: new Set(types.map((row) => row.name)),
    systemColumns: new Set(columns.map((row) => `${row.table}.${row.name}`)),
  });
}

/** A current server with everything: what `recorder schema ddl` assumes when it is not told otherwise. */
export const MODERN: Capabilities = capabilitiesFrom({
  version: 'modern',
  settings: new Map(
    PROBED_SETTINGS.filter((name) => name !== 'allow_experimental_low_cardinality_type').map((name) => [
      name,
      '',
    ]),
  ),
  mergeTreeSettings: new Set([
    'non_replicated_deduplication_window',
    'merge_with_ttl_timeout',
    'ttl_only_drop_parts',
  ]),
  types: new Set(PROBED_TYPES),
  systemColumns: new Set(['columns.comment', 'columns.compression_codec', 'tables.comment']),
});

/** Debian's clickhouse-server 18.16.1, as it answers; a test compares this with the server. */
export const CLICKHOUSE_18_16: Capabilities = capabilitiesFrom({
  version: '18.16.1',
  settings: new Map([
    ['insert_deduplicate', '1'],
    ['max_insert_block_size', '1048576'],
    ['min_insert_block_size_rows', '1048576'],
    ['min_insert_block_size_bytes', '268435456'],
    ['allow_experimental_low_cardinality_type', '0'],
    ['output_format_json_quote_64bit_integers', '1'],
  ]),
  mergeTreeSettings: new Set(['index_granularity']),
  types: new Set(['LowCardinality', 'Decimal']),
  systemColumns: new Set(['columns.comment']),
});
