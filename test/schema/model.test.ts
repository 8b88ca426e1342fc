import { describe, expect, test } from 'bun:test';
import { isTopicSchema, readTopicModel } from '../../src/schema/model.ts';
import { SchemaError } from '../../src/schema/reflection.ts';
import { topicByIdentifier, topicByName, topicIndexByIdentifier, topics } from '../../src/schema/registry.ts';
import { createRegistry } from '../../src/schema/topic-table.ts';
import { allTypes } from '../support/all-types.ts';
import { compileSchema, hasFlatc, topicSchema } from '../support/schemas.ts';

test('the topics of the program and their tables', () => {
  const tables = topics.map(({ topic, table, identifier }) => [topic, table, identifier]);
  expect(tables).toEqual([
    ['backtest_runs', 'backtest_runs', 'BTST'],
    ['fills', 'trades', 'FILL'],
    ['gaps', 'gaps', 'GAPS'],
    ['latency_spans', 'latency_spans', 'LATN'],
    ['market_data', 'market_data', 'MKTD'],
    ['orders', 'orders', 'ORDR'],
    ['risk_log', 'logs', 'RISK'],
  ]);
});

test('the models that were generated are what their reflection files say', () => {
  for (const model of topics) expect(model).toEqual(readTopicModel(model.bfbs));
});

test('a topic is found by the identifier in its frames and by its name', () => {
  for (const [index, model] of topics.entries()) {
    const word = Buffer.from(model.identifier, 'latin1').readUInt32LE(0);
    expect(topicIndexByIdentifier(word)).toBe(index);
    expect(topicIndexByIdentifier(word | 0)).toBe(index);
    expect(topicByIdentifier(word)).toBe(model);
    expect(topicByName(model.topic)).toBe(model);
  }
  expect(topicIndexByIdentifier(0)).toBe(-1);
  expect(topicByIdentifier(0xffffffff)).toBeUndefined();
});

test('two topics with one identifier are refused', () => {
  const [first, second] = [topics[0]!, { ...topics[1]!, identifier: topics[0]!.identifier }];
  expect(() => createRegistry([first, second])).toThrow(/both have identifier "BTST"/);
});

test('defaults, NULL, enums, types and attributes come from the schema', () => {
  const { model } = allTypes;
  const column = (name: string) => model.columns.find((candidate) => candidate.name === name)!;
  expect(model).toMatchObject({ topic: 'all_types', table: 'all_kinds', identifier: 'ALLT', ttlDays: 7 });
  expect(model).toMatchObject({
    partitionBy: 'day',
    orderBy: ['i64_plain', 'text'],
    comment: 'All wire types.',
  });
  expect(model.fingerprint).toBe(Bun.hash.xxHash3(model.bfbs));
  const bits = (name: string) => column(name).defaultBits;
  expect(bits('b_default')).toBe(1n);
  expect(bits('u8_default')).toBe(200n);
  expect(bits('i16_default')).toBe(0x1_0000n - 1234n);
  expect(bits('i32_default')).toBe(0x1_0000_0000n - 70_000n);
  expect(bits('i64_default')).toBe(1n << 63n);
  expect(bits('u64_default')).toBe((1n << 63n) - 1n);
  expect(bits('f32_default')).toBe(0x3fc0_0000n);
  expect(bits('f64_default')).toBe(0xbfd0_0000_0000_0000n);
  expect(bits('wide')).toBe(1n);
  expect(column('tiny').enumValues).toEqual([
    { name: 'minus', value: -1n },
    { name: 'zero', value: 0n },
    { name: 'plus', value: 1n },
  ]);
  expect(column('wide').enumValues!.at(-1)).toEqual({ name: 'top', value: (1n << 64n) - 1n });
  expect(column('small_price')).toMatchObject({
    clickhouseType: 'Decimal(9, 4)',
    unit: '1e-4',
    widthBytes: 4,
  });
  expect(column('milli').clickhouseType).toBe('DateTime64(3)');
  expect(column('i64s')).toMatchObject({ kind: 'array', clickhouseType: "Array(DateTime64(9, 'UTC'))" });
  expect(column('text')).toMatchObject({ required: true, nullable: false, kind: 'string' });
  expect(column('text_null')).toMatchObject({ nullable: true, clickhouseType: 'String' });
  // The deprecated field has no column, but its slot stays taken.
  expect(model.columns.some(({ name }) => name === 'gone')).toBe(false);
  expect(column('f32_default').slot).toBe(column('f32_default').index + 1);
});

describe.skipIf(!hasFlatc)('schemas that cannot be a topic', () => {
  const attributes = (text: string) => topicSchema('', text);
  const base = 'topic: "demo", clickhouse: "demo"';
  const cases: [name: string, schema: string, message: RegExp][] = [
    [
      'struct',
      topicSchema('p: P;', undefined, 'struct P { x: int; }'),
      /field p: a struct or nested table cannot/,
    ],
    [
      'nested table',
      topicSchema('p: P;', undefined, 'table P { x: int; }'),
      /field p: a struct or nested table/,
    ],
    [
      'union',
      topicSchema('p: U;', undefined, 'table P { x: int; } union U { P }'),
      /field p_type: unions cannot/,
    ],
    ['vector of strings', topicSchema('p: [string];'), /field p: a vector of string cannot be a column/],
    [
      'vector of tables',
      topicSchema('p: [P];', undefined, 'table P { x: int; }'),
      /a vector of object cannot/,
    ],
    [
      'wrong size',
      topicSchema('p: int (clickhouse: "Decimal(18, 9)");'),
      /wire type int64, the field is int32/,
    ],
    ['wrong sign', topicSchema('p: long (clickhouse: "UInt64");'), /wire type uint64, the field is int64/],
    [
      'wide decimal',
      topicSchema('p: long (clickhouse: "Decimal(38, 9)");'),
      /not a type that a int64 can be/,
    ],
    ['unknown type', topicSchema('p: long (clickhouse: "Money");'), /Money is not a type/],
    ['enum type', topicSchema(`p: byte (clickhouse: "Enum8('a' = 1)");`), /would break every SELECT/],
    ['Nullable type', topicSchema('p: long (clickhouse: "Nullable(Int64)");'), /write "= null"/],
    ['scalar type for a vector', topicSchema('p: [long] (clickhouse: "Int64");'), /stored as Array/],
    [
      'number type for a string',
      topicSchema('p: string (clickhouse: "UUID");'),
      /stored as String or LowCard/,
    ],
    ['nullable scalar', topicSchema('p: long (nullable);'), /attribute nullable is for strings/],
    [
      'nullable LowCardinality',
      topicSchema('p: string (nullable, clickhouse: "LowCardinality(String)");'),
      /as String/,
    ],
    ['provenance name', topicSchema('seq: long;'), /column name "seq" is taken/],
    [
      'name of an enum alias',
      topicSchema('a: E; a_name: string;', undefined, 'enum E: byte { x }'),
      /"a_name" is taken/,
    ],
    [
      'unknown attribute',
      `attribute "colour"; ${topicSchema('p: long (colour: "red");')}`,
      /unknown attribute "colour"/,
    ],
    ['no order_by', attributes(`${base}, partition_by: "day"`), /"order_by" is missing/],
    [
      'order_by nothing',
      attributes(`${base}, order_by: "nope", partition_by: "day"`),
      /"nope", which is not a column/,
    ],
    [
      'order_by nullable',
      topicSchema('n: long = null;', `${base}, order_by: "n", partition_by: "day"`),
      /nullable or an/,
    ],
    [
      'partition_by',
      attributes(`${base}, order_by: "ts", partition_by: "hour"`),
      /must be "day" or "month", found "hour"/,
    ],
    [
      'ttl_days',
      attributes(`${base}, order_by: "ts", partition_by: "day", ttl_days: "-1"`),
      /whole number of days/,
    ],
    [
      'table name',
      attributes('topic: "demo", clickhouse: "a b", order_by: "ts", partition_by: "day"'),
      /not a plain name/,
    ],
    ['no identifier', topicSchema('').replace(/file_identifier.*\n/, ''), /file_identifier of 4/],
    ['no root type', topicSchema('').replace(/root_type.*\n/, ''), /no root_type/],
  ];
  for (const [name, schema, message] of cases) {
    test(name, () => {
      // An attribute must be declared after the include line.
      const text = schema.replace(/^(attribute .*?;) (include .*?;)/, '$2 $1');
      const bfbs = compileSchema(text);
      expect(() => readTopicModel(bfbs)).toThrow(message);
      expect(() => readTopicModel(bfbs)).toThrow(SchemaError);
    });
  }

  test('a schema without the attribute topic is no topic', () => {
    expect(isTopicSchema(compileSchema(topicSchema('', 'order_by: "ts"')))).toBe(false);
  });
});

test('bytes that are not a reflection file are refused', () => {
  expect(() => readTopicModel(new Uint8Array(0))).toThrow(/identifier "BFBS" expected/);
  expect(() => readTopicModel(new Uint8Array(64))).toThrow(SchemaError);
});

test('a damaged reflection file gives a model or a SchemaError, never another error or a hang', () => {
  const { bfbs } = topics.find(({ topic }) => topic === 'gaps')!;
  const attempt = (bytes: Uint8Array) => {
    try {
      readTopicModel(bytes);
    } catch (error) {
      if (!(error instanceof SchemaError)) throw error;
    }
  };
  for (let end = 0; end < bfbs.length; end += 3) attempt(bfbs.slice(0, end));
  for (let at = 0; at < bfbs.length; at++) {
    for (const value of [0, 0x7f, 0xff]) {
      const copy = bfbs.slice();
      copy[at] = value;
      attempt(copy);
    }
  }
});
