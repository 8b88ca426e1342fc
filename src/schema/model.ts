// The model of a topic: what all other stages know of a schema. Read from the reflection file (.bfbs) that
// flatc makes of schemas/<topic>.fbs, when code is generated and when an old WAL segment is opened; immutable
// from then on.

import { canonicalType, defaultClickhouseType, scalarWidthBytes, typeProblem } from './clickhouse-type.ts';
import { type ReflectedField, readReflection, SchemaError } from './reflection.ts';

export type ScalarType =
  | 'bool'
  | 'int8'
  | 'uint8'
  | 'int16'
  | 'uint16'
  | 'int32'
  | 'uint32'
  | 'int64'
  | 'uint64'
  | 'float32'
  | 'float64';

export interface ColumnModel {
  name: string;
  /** Position among the topic's columns, from 0, in the order of field ids; deprecated fields have none. */
  index: number;
  /** vtable slot (field id). */
  slot: number;
  kind: 'fixed' | 'string' | 'array';
  /** Type of a fixed value, element type of an array, 'uint8' for a string. */
  scalar: ScalarType;
  /** Bytes of the scalar; 1 for a string. */
  widthBytes: 1 | 2 | 4 | 8;
  /** A scalar with "= null", or a string with the attribute nullable. */
  nullable: boolean;
  /** A frame without the field is malformed. */
  required: boolean;
  /** Raw bits of the default, zero-extended to 64. */
  defaultBits: bigint;
  enumValues: { name: string; value: bigint }[] | null;
  /** Canonical modern type without Nullable: "DateTime64(9, 'UTC')", 'Array(Decimal(18, 9))' … */
  clickhouseType: string;
  codec: string | null;
  unit: string | null;
  comment: string;
}

export interface TopicModel {
  topic: string;
  table: string;
  /** Full name of the FlatBuffers table, for example 'hft.MarketData'. */
  typeName: string;
  /** File identifier, 4 ASCII characters. */
  identifier: string;
  orderBy: string[];
  partitionBy: 'day' | 'month';
  ttlDays: number | null;
  comment: string;
  columns: ColumnModel[];
  bfbs: Uint8Array;
  /** XXH3-64 of bfbs. */
  fingerprint: bigint;
}

/** Columns that every table has after the topic's own, in this order. */
export const provenanceColumns = [
  'recorder',
  'source',
  'session',
  'seq',
  'ingest_ts',
  'wal_id',
  'wal_lsn',
] as const;

const namePattern = /^[A-Za-z_][A-Za-z0-9_]*$/;
const topicAttributes = ['topic', 'clickhouse', 'order_by', 'partition_by', 'ttl_days'];
const fieldAttributes = ['clickhouse', 'codec', 'unit', 'nullable'];
const builtinAttributes = ['id', 'required', 'deprecated', 'original_order', 'key', 'hash', 'shared'];

/** Whether the reflection file describes a topic: its root table has the attribute `topic`. */
export function isTopicSchema(bfbs: Uint8Array): boolean {
  return readReflection(bfbs).root?.attributes.has('topic') ?? false;
}

/**
 * Reads a topic from its reflection file.
 * @throws SchemaError for a field that cannot be a column, a wrong attribute, or a ClickHouse type whose size
 * differs
 */
export function readTopicModel(bfbs: Uint8Array): TopicModel {
  const { root, fileIdentifier } = readReflection(bfbs);
  if (root === null) throw new SchemaError('the schema has no root_type: a topic needs one');
  const fail = (message: string): never => {
    throw new SchemaError(`table ${root.name}: ${message}`);
  };
  checkAttributes(root.attributes, topicAttributes, fail);
  const topic = root.attributes.get('topic') ?? fail('attribute "topic" is missing');
  const table = root.attributes.get('clickhouse') ?? fail('attribute "clickhouse" (table name) is missing');
  if (!namePattern.test(topic)) fail(`topic "${topic}" is not a plain name (letters, digits, underscores)`);
  if (!namePattern.test(table))
    fail(`table name "${table}" is not a plain name (letters, digits, underscores)`);
  if (!/^[\x21-\x7e]{4}$/.test(fileIdentifier))
    fail('a file_identifier of 4 printable ASCII characters is needed');

  const columns = root.fields
    .filter((field) => !field.deprecated)
    .map((field, index) => readColumn(root.name, field, index));
  if (columns.length === 0) fail('it has no columns');
  checkColumnNames(columns, fail);
  return {
    topic,
    table,
    typeName: root.name,
    identifier: fileIdentifier,
    orderBy: readOrderBy(root.attributes.get('order_by'), columns, fail),
    partitionBy: readPartitionBy(root.attributes.get('partition_by'), fail),
    ttlDays: readTtlDays(root.attributes.get('ttl_days'), fail),
    comment: root.documentation,
    columns,
    bfbs,
    fingerprint: Bun.hash.xxHash3(bfbs),
  };
}

/** The file identifier as the little-endian u32 at byte 4 of a frame. */
export function identifierWord(identifier: string): number {
  const [a, b, c, d] = [0, 1, 2, 3].map((i) => identifier.charCodeAt(i)) as [number, number, number, number];
  return (a | (b << 8) | (c << 16) | (d << 24)) >>> 0;
}

type Fail = (message: string) => never;

function checkAttributes(attributes: Map<string, string>, known: string[], fail: Fail): void {
  for (const name of attributes.keys()) {
    if (known.includes(name) || builtinAttributes.includes(name)) continue;
    fail(`unknown attribute "${name}"; known are ${known.join(', ')}`);
  }
}

function checkColumnNames(columns: ColumnModel[], fail: Fail): void {
  const taken = new Set<string>(provenanceColumns);
  for (const column of columns) {
    const names = column.enumValues === null ? [column.name] : [column.name, `${column.name}_name`];
    for (const name of names) {
      if (taken.has(name))
        fail(`column name "${name}" is taken (every table has ${provenanceColumns.join(', ')})`);
      taken.add(name);
    }
  }
}

function readOrderBy(text: string | undefined, columns: ColumnModel[], fail: Fail): string[] {
  if (text === undefined) return fail('attribute "order_by" is missing');
  const names = text.split(',').map((name) => name.trim());
  for (const name of names) {
    if ((provenanceColumns as readonly string[]).includes(name)) continue;
    const column = columns.find((candidate) => candidate.name === name);
    if (column === undefined) return fail(`order_by names "${name}", which is not a column`);
    if (column.nullable || column.kind === 'array') fail(`order_by column "${name}" is nullable or an array`);
  }
  return names;
}

function readPartitionBy(text: string | undefined, fail: Fail): 'day' | 'month' {
  if (text === 'day' || text === 'month') return text;
  return fail(`attribute "partition_by" must be "day" or "month", found ${JSON.stringify(text ?? null)}`);
}

function readTtlDays(text: string | undefined, fail: Fail): number | null {
  if (text === undefined) return null;
  if (!/^[1-9]\d{0,5}$/.test(text))
    fail(`attribute "ttl_days" must be a whole number of days, found "${text}"`);
  return Number(text);
}

function readColumn(tableName: string, field: ReflectedField, index: number): ColumnModel {
  const fail = (message: string): never => {
    throw new SchemaError(`table ${tableName}, field ${field.name}: ${message}`);
  };
  checkAttributes(field.attributes, fieldAttributes, fail);
  if (!namePattern.test(field.name)) fail('not a plain name (letters, digits, underscores)');
  const { kind, scalar } = shapeOf(field, fail);
  const given = field.attributes.get('clickhouse');
  const fallback = kind === 'string' ? 'String' : defaultClickhouseType(scalar);
  const type = canonicalType(given ?? (kind === 'array' ? `Array(${fallback})` : fallback));
  const problem = typeProblem(type, kind, scalar);
  if (problem !== null) fail(`clickhouse type "${type}": ${problem}`);
  const nullableAttribute = field.attributes.has('nullable');
  if (nullableAttribute && kind !== 'string')
    fail('attribute nullable is for strings; a scalar is written "= null"');
  const nullable = kind === 'string' ? nullableAttribute : kind === 'fixed' && field.optional;
  if (nullable && field.required) fail('a required field cannot be nullable');
  if (nullable && type.startsWith('LowCardinality')) fail('a nullable string is stored as String');
  return {
    name: field.name,
    index,
    slot: field.id,
    kind,
    scalar,
    widthBytes: scalarWidthBytes(scalar),
    nullable,
    required: field.required,
    defaultBits: kind === 'fixed' ? defaultBitsOf(field, scalar) : 0n,
    enumValues: kind === 'fixed' ? enumValuesOf(field, scalar) : null,
    clickhouseType: type,
    codec: field.attributes.get('codec') ?? null,
    unit: field.attributes.get('unit') ?? null,
    comment: field.documentation,
  };
}

function shapeOf(field: ReflectedField, fail: Fail): { kind: ColumnModel['kind']; scalar: ScalarType } {
  if (field.baseType === 'string') return { kind: 'string', scalar: 'uint8' };
  if (field.enumType?.isUnion) fail('unions cannot be columns');
  if (isScalar(field.baseType)) return { kind: 'fixed', scalar: field.baseType };
  if (field.baseType === 'vector') {
    if (isScalar(field.elementType)) return { kind: 'array', scalar: field.elementType };
    return fail(`a vector of ${field.elementType} cannot be a column: only vectors of scalars can`);
  }
  const what = field.baseType === 'object' ? 'a struct or nested table' : `a field of type ${field.baseType}`;
  return fail(`${what} cannot be a column: scalars, enums, strings and vectors of scalars can`);
}

function isScalar(type: string): type is ScalarType {
  return type === 'bool' || /^(u?int(8|16|32|64)|float(32|64))$/.test(type);
}

function enumValuesOf(field: ReflectedField, scalar: ScalarType): ColumnModel['enumValues'] {
  if (field.enumType === null) return null;
  // The reflection file holds every enum value as a signed 64-bit integer.
  const unsigned = scalar === 'uint64';
  return field.enumType.values.map(({ name, value }) => ({
    name,
    value: unsigned ? BigInt.asUintN(64, value) : value,
  }));
}

function defaultBitsOf(field: ReflectedField, scalar: ScalarType): bigint {
  const view = new DataView(new ArrayBuffer(8));
  if (scalar === 'float32') view.setFloat32(0, field.defaultReal, true);
  else if (scalar === 'float64') view.setFloat64(0, field.defaultReal, true);
  else return BigInt.asUintN(scalarWidthBytes(scalar) * 8, field.defaultInteger);
  return view.getBigUint64(0, true);
}
