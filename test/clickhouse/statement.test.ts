import { describe, expect, test } from 'bun:test';
import { planStatement, showClientQueryIds } from '../../src/clickhouse/statement.ts';

/** Plan of an insert as [head, format, data]. */
function insertParts(text: string): [string, string, string] {
  const plan = planStatement(text);
  if (plan.kind !== 'insert') throw new Error(`planned as ${plan.kind}`);
  return [text.slice(0, plan.headLength), plan.format, text.slice(plan.dataOffset)];
}

describe('an insert is cut where its data begins', () => {
  const cases: [string, [string, string, string]][] = [
    ['INSERT INTO t FORMAT RowBinary\n\x00\n\x01', ['INSERT INTO t ', 'RowBinary', '\x00\n\x01']],
    ['insert into t format Native \t\n\n\n', ['insert into t ', 'Native', '\n\n']],
    ['INSERT INTO t FORMAT RowBinary', ['INSERT INTO t ', 'RowBinary', '']],
    ['INSERT INTO t FORMAT CSV\r\n1,2', ['INSERT INTO t ', 'CSV', '1,2']],
    ['INSERT INTO t FORMAT CSV;\n1,2', ['INSERT INTO t ', 'CSV', '1,2']],
    ['INSERT INTO t FORMAT JSONEachRow {"a":1}', ['INSERT INTO t ', 'JSONEachRow', '{"a":1}']],
    ["INSERT INTO t VALUES (1,'FORMAT x')", ['INSERT INTO t ', 'Values', " (1,'FORMAT x')"]],
    ['INSERT INTO `format x` (`values`) FORMAT TSV\na', ['INSERT INTO `format x` (`values`) ', 'TSV', 'a']],
    [
      "INSERT INTO t (a, values) SETTINGS insert_deduplication_token='a FORMAT b' FORMAT RowBinary\nx",
      ["INSERT INTO t (a, values) SETTINGS insert_deduplication_token='a FORMAT b' ", 'RowBinary', 'x'],
    ],
    [
      "-- FORMAT no\n/* VALUES */ INSERT INTO t SETTINGS x='it''s \\' VALUES' FORMAT TSV\n",
      ["-- FORMAT no\n/* VALUES */ INSERT INTO t SETTINGS x='it''s \\' VALUES' ", 'TSV', ''],
    ],
  ];
  for (const [text, expected] of cases) {
    test(JSON.stringify(text), () => expect(insertParts(text)).toEqual(expected));
  }

  test('whatever the data is', () => {
    for (const data of ["'", '"', '`', '/*', '--', '$a$', ';', '\x00\xff', 'FORMAT CSV\n']) {
      expect(insertParts(`INSERT INTO t FORMAT RowBinary\n${data}`)[2]).toBe(data);
    }
  });
});

test('an insert without data of its own is a query, or is refused', () => {
  expect(planStatement('INSERT INTO t SELECT 1 FORMAT CSV').kind).toBe('query');
  expect(planStatement('INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x').kind).toBe('query');
  expect(planStatement("INSERT INTO t FROM INFILE 'a' FORMAT CSV").kind).toBe('query');
  expect(planStatement("INSERT INTO t SELECT * FROM input('a UInt8') FORMAT CSV\n1").kind).toBe(
    'insert_input',
  );
  expect(planStatement('INSERT INTO t').kind).toBe('insert_without_data');
  expect(planStatement('INSERT INTO t (a, b)').kind).toBe('insert_without_data');
});

test('a query tells its output format and whether another statement follows', () => {
  expect(planStatement('SELECT 1')).toMatchObject({ kind: 'query', format: null });
  expect(planStatement('SELECT 1 FORMAT Native')).toMatchObject({ format: 'Native' });
  expect(planStatement("SELECT 'FORMAT CSV' -- FORMAT TSV\n")).toMatchObject({ format: null });
  expect(planStatement('SELECT 1 FORMAT CSV SETTINGS max_threads = 1;\n -- end')).toMatchObject({
    format: 'CSV',
  });
  expect(planStatement("SELECT ';' ; SELECT 2").kind).toBe('multiple');
  expect(planStatement(' /* nothing */ -- at all').kind).toBe('empty');
});

test('unclosed quotes and comments end with the text', () => {
  for (const text of [
    "SELECT 'a",
    'SELECT `a',
    'SELECT /* a',
    'SELECT -- a',
    "SELECT 'a\\",
    'SELECT $tag$ x',
  ]) {
    expect(planStatement(text).kind).toBe('query');
  }
});

test('query ids of clients are shown where system.processes is read, and nowhere else', () => {
  const shown = showClientQueryIds(
    "SELECT query_id FROM system.processes AS p WHERE query_id = 'system.processes'",
  );
  expect(shown).toStartWith("SELECT query_id FROM (SELECT * REPLACE (if(Settings['log_comment'] != ''");
  expect(shown).toEndWith(" FROM system.processes) AS p WHERE query_id = 'system.processes'");
  for (const text of [
    'DESCRIBE TABLE system.processes',
    'SELECT system.processes',
    "SELECT 'FROM system.processes'",
  ]) {
    expect(showClientQueryIds(text)).toBe(text);
  }
});
