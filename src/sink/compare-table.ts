// Compares a server's table with the schema before anything is inserted. A table that was rebuilt by hand and
// lost columns must be an error at start, not rows that vanish for months.

import { RecorderError } from '../errors.ts';
import type { TopicModel } from '../schema/model.ts';
import type { Capabilities } from './capabilities.ts';
import type { SqlClient } from './clickhouse-client.ts';
import { serverType, tableName, wireTwin } from './ddl.ts';
import { quoteName, quoteString, tableColumns } from './table-columns.ts';

/** A column as system.columns shows it. */
export interface ServerColumn {
  name: string;
  type: string;
  default_kind: string;
}

/** One difference that makes inserts impossible or wrong; `found` is null for a missing column. */
export interface ColumnProblem {
  column: string;
  expected: string;
  found: string | null;
  fix: string;
}

/** The server's table cannot take the topic's rows. */
export class TableMismatchError extends RecorderError {
  readonly table: string;
  readonly problems: readonly ColumnProblem[];

  constructor(table: string, problems: readonly ColumnProblem[]) {
    const lines = problems.map(
      ({ column, expected, found }) =>
        `column ${column}: expected ${expected}, ${found === null ? 'it is missing' : `found ${found}`}`,
    );
    super('table_mismatch', `table ${table} does not fit the schema: ${lines.join('; ')}`, {
      hint: `run: ${problems.map((problem) => problem.fix).join('; ')}`,
    });
    this.table = table;
    this.problems = problems;
  }
}

/** A type without what does not change its bytes in an insert: LowCardinality and the time zone. */
function plainType(type: string): string {
  const compact = type.replaceAll(/,\s*/g, ', ');
  const wrapped = /^(LowCardinality|Nullable|Array)\((.*)\)$/.exec(compact);
  if (wrapped !== null) {
    const inner = plainType(wrapped[2]!);
    return wrapped[1] === 'LowCardinality' ? inner : `${wrapped[1]}(${inner})`;
  }
  return compact.replace(/^(DateTime(?:64)?)\((?:(\d), )?'.*'\)$/, (_, name: string, scale?: string) =>
    scale === undefined ? name : `${name}(${scale})`,
  );
}

/**
 * Whether a column of type `found` takes the bytes of `type` and means the same. The wire twin of an old
 * server is accepted everywhere: a table that was made on one stays valid after the server's upgrade.
 */
export function isSameOnWire(type: string, found: string): boolean {
  const plain = plainType(found);
  return plain === plainType(type) || plain === plainType(wireTwin(type));
}

/**
 * Checks that every column of the topic is stored in the server's table with the same bytes.
 * Returns the server's type of each column, in insert order; throws TableMismatchError that names all
 * differences.
 */
export function compareTable(
  model: TopicModel,
  serverColumns: readonly ServerColumn[],
  capabilities: Capabilities,
  database: string,
): string[] {
  const byName = new Map(serverColumns.map((column) => [column.name, column]));
  const table = tableName(model, database);
  const problems: ColumnProblem[] = [];
  const types: string[] = [];
  let previous: string | null = null;
  for (const column of tableColumns(model)) {
    const expected = serverType(column.type, capabilities);
    const found = byName.get(column.name);
    const definition = `${quoteName(column.name)} ${expected}`;
    const computed = found !== undefined && !['', 'DEFAULT'].includes(found.default_kind);
    if (found === undefined) {
      const place: string = previous === null ? '' : ` AFTER ${quoteName(previous)}`;
      const fix = `ALTER TABLE ${table} ADD COLUMN ${definition}${place}`;
      problems.push({ column: column.name, expected, found: null, fix });
    } else if (computed || !isSameOnWire(column.type, found.type)) {
      const shown = computed ? `${found.default_kind} ${found.type}` : found.type;
      const fix = `ALTER TABLE ${table} MODIFY COLUMN ${definition}`;
      problems.push({ column: column.name, expected, found: shown, fix });
    }
    types.push(found?.type ?? expected);
    previous = column.name;
  }
  if (problems.length > 0) throw new TableMismatchError(table, problems);
  return types;
}

/** Columns of a table as the server has them; empty when there is no such table. */
export function readTable(client: SqlClient, database: string, table: string): Promise<ServerColumn[]> {
  return client.query<ServerColumn>(
    'SELECT name, type, default_kind FROM system.columns' +
      ` WHERE database = ${quoteString(database)} AND table = ${quoteString(table)}`,
  );
}
