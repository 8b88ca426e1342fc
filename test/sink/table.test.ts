// DDL, capabilities and the comparison of tables, in general and on the servers.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import type { TopicModel } from '../../src/schema/model.ts';
import { topicByName, topics } from '../../src/schema/registry.ts';
import {
  type Capabilities,
  CLICKHOUSE_18_16,
  MODERN,
  probeCapabilities,
} from '../../src/sink/capabilities.ts';
import {
  compareTable,
  isSameOnWire,
  readTable,
  type ServerColumn,
  TableMismatchError,
} from '../../src/sink/compare-table.ts';
import { createTable, serverType } from '../../src/sink/ddl.ts';
import { nativeType } from '../../src/sink/native.ts';
import { aliasColumns, tableColumns } from '../../src/sink/table-columns.ts';
import { ensureTable } from '../../src/sink/table-plan.ts';
import { answerBytes, type RunningServer, serverKinds } from './servers.ts';

const marketData = topicByName('market_data')!;
const MODERN_TIME = "DateTime64(9, 'UTC')";

const serverColumns = (model: TopicModel, capabilities: Capabilities): ServerColumn[] =>
  tableColumns(model).map(({ name, type }) => ({
    name,
    type: serverType(type, capabilities),
    default_kind: '',
  }));

describe('tables', () => {
  test('types follow from the capabilities', () => {
    const cases: [string, string][] = [
      [MODERN_TIME, 'Int64'],
      [`Nullable(${MODERN_TIME})`, 'Nullable(Int64)'],
      [`Array(${MODERN_TIME})`, 'Array(Int64)'],
      ['Nullable(Date32)', 'Nullable(Int32)'],
      ['LowCardinality(String)', 'String'],
      ['LowCardinality(Nullable(String))', 'Nullable(String)'],
      ['Array(Decimal(18, 9))', 'Array(Decimal(18, 9))'],
      ['Bool', 'UInt8'],
      ['Float64', 'Float64'],
    ];
    for (const [type, old] of cases) {
      expect(serverType(type, MODERN)).toBe(type);
      expect(serverType(type, CLICKHOUSE_18_16)).toBe(old);
    }
    expect(nativeType('LowCardinality(Nullable(String))')).toBe('Nullable(String)');
    expect(nativeType(`Nullable(${MODERN_TIME})`)).toBe(`Nullable(${MODERN_TIME})`);
  });

  test('a type fits when bytes and meaning are the same', () => {
    const same: [string, string][] = [
      ['LowCardinality(String)', 'String'],
      ['String', 'LowCardinality(String)'],
      [MODERN_TIME, 'DateTime64(9)'],
      [MODERN_TIME, "DateTime64(9, 'Europe/Paris')"],
      [MODERN_TIME, 'Int64'],
      [`Nullable(${MODERN_TIME})`, 'Nullable(Int64)'],
      ['Nullable(Date32)', 'Nullable(Int32)'],
      ['Decimal(18, 9)', 'Decimal(18,9)'],
    ];
    for (const [expected, found] of same)
      expect([expected, found, isSameOnWire(expected, found)]).toEqual([expected, found, true]);
    const other: [string, string][] = [
      ['Int64', MODERN_TIME],
      [MODERN_TIME, "DateTime64(6, 'UTC')"],
      ['Decimal(18, 9)', 'Int64'],
      ['Decimal(18, 9)', 'Decimal(18, 6)'],
      ['Nullable(Int64)', 'Int64'],
      ['Float64', 'Float32'],
      ['UInt8', "Enum8('a' = 1)"],
      ['Array(Int64)', 'Int64'],
    ];
    for (const [expected, found] of other)
      expect([expected, found, isSameOnWire(expected, found)]).toEqual([expected, found, false]);
  });

  test('a mismatch names table, column, both types, and the ALTER to run', () => {
    const columns = serverColumns(marketData, MODERN).filter(({ name }) => name !== 'volume');
    columns.find(({ name }) => name === 'price')!.type = 'Int64';
    columns.find(({ name }) => name === 'suspicious')!.default_kind = 'ALIAS';
    columns.push({ name: 'own_addition', type: 'String', default_kind: '' });
    let error: unknown;
    try {
      compareTable(marketData, columns, MODERN, 'hft');
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(TableMismatchError);
    const { message, hint, problems } = error as TableMismatchError;
    expect(problems.map(({ column, expected, found }) => [column, expected, found])).toEqual([
      ['price', 'Decimal(18, 9)', 'Int64'],
      ['volume', 'Decimal(18, 9)', null],
      ['suspicious', 'UInt8', 'ALIAS UInt8'],
    ]);
    expect(message).toContain('`hft`.`market_data`');
    expect(message).toContain('column price: expected Decimal(18, 9), found Int64');
    expect(message).toContain('column volume: expected Decimal(18, 9), it is missing');
    expect(hint).toContain('ALTER TABLE `hft`.`market_data` MODIFY COLUMN `price` Decimal(18, 9)');
    expect(hint).toContain(
      'ALTER TABLE `hft`.`market_data` ADD COLUMN `volume` Decimal(18, 9) AFTER `price`',
    );
  });

  test('every column has its unit in the comment, and texts are escaped', () => {
    const sql = createTable(marketData, MODERN, 'hft');
    expect(sql).toContain(
      "`price` Decimal(18, 9) COMMENT 'Trade price; 0 in rows that are not trades [quote currency",
    );
    expect(sql).toContain('PARTITION BY toYYYYMMDD(ingest_ts)');
    expect(sql).toContain('TTL toDateTime(ingest_ts) + INTERVAL 730 DAY');
    expect(sql).toContain('non_replicated_deduplication_window = 10000');
    expect(createTable({ ...marketData, comment: "a 'b' \\ c" }, MODERN, 'hft')).toContain(
      "COMMENT 'a \\'b\\' \\\\ c'",
    );
    const old = createTable(marketData, CLICKHOUSE_18_16, 'hft');
    for (const absent of ['CODEC', 'TTL', 'LowCardinality', 'DateTime64', 'SETTINGS'])
      expect(old).not.toContain(absent);
  });
});

for (const kind of serverKinds.filter(({ available }) => available)) {
  describe(`tables on ${kind.name}`, () => {
    let server: RunningServer;
    let capabilities: Capabilities;
    beforeAll(async () => {
      server = await kind.start();
      capabilities = await probeCapabilities(server.client);
    }, 60_000);
    afterAll(() => server.close(), 30_000);

    test('the capabilities that are assumed without a server are those of the server', () => {
      const assumed = kind.name === '18.16' ? CLICKHOUSE_18_16 : MODERN;
      expect({ ...capabilities, version: '', settings: [] }).toEqual({
        ...assumed,
        version: '',
        settings: [],
      });
      expect([...capabilities.settings].toSorted()).toEqual([...assumed.settings].toSorted());
    });

    test('all tables are made as the schemas say, and making them again changes nothing', async () => {
      for (const model of topics) {
        await ensureTable(server.client, model, capabilities, 'made');
        await server.client.command(createTable(model, capabilities, 'made'));
        const columns = await readTable(server.client, 'made', model.table);
        const expected = serverColumns(model, capabilities);
        expect(columns.filter((column) => column.default_kind === '')).toEqual(expected);
        expect(columns.filter((column) => column.default_kind === 'ALIAS').map(({ name }) => name)).toEqual(
          aliasColumns(model).map(({ name }) => name),
        );
        expect(compareTable(model, columns, capabilities, 'made')).toEqual(expected.map(({ type }) => type));
      }
    });

    test('the proposed ALTERs mend a table', async () => {
      const columns = await ensureTable(server.client, marketData, capabilities, 'mended');
      expect(compareTable(marketData, columns, capabilities, 'mended')).toHaveLength(
        columns.length - aliasColumns(marketData).length,
      );
      await server.client.command('ALTER TABLE mended.market_data DROP COLUMN volume');
      await server.client.command('ALTER TABLE mended.market_data MODIFY COLUMN trade_id UInt32');
      const broken = await readTable(server.client, 'mended', 'market_data');
      let problems: TableMismatchError['problems'] = [];
      try {
        compareTable(marketData, broken, capabilities, 'mended');
      } catch (error) {
        problems = (error as TableMismatchError).problems;
      }
      expect(problems.map(({ column }) => column).toSorted()).toEqual(['trade_id', 'volume']);
      for (const { fix } of problems) await server.client.command(fix);
      const mended = await readTable(server.client, 'mended', 'market_data');
      compareTable(marketData, mended, capabilities, 'mended');
    });

    test('a refused statement says so with the code of the server', async () => {
      const failure = server.client.query('SELECT * FROM nothing.here');
      await expect(failure).rejects.toMatchObject({ outcome: 'refused', code: 'clickhouse_refused' });
      const unknown = await server.client.command('SELECT FROM WHERE').catch((error) => error);
      expect(unknown).toMatchObject({ outcome: 'refused', clickhouseCode: 62 });
    });

    test('64-bit integers come exactly', async () => {
      const [row] = await server.client.query<{ a: string }>('SELECT toUInt64(18446744073709551615) AS a');
      expect(row!.a).toBe('18446744073709551615');
      expect(new TextDecoder().decode(await answerBytes(server.url, 'SELECT 1'))).toBe('1\n');
    });
  });
}
