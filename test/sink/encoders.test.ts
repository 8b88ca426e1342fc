// The encoders against the engine's own bytes: what we insert comes back byte for byte, and what the engine
// writes for rows that it was given as SQL text is what we would have sent.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import type { Row } from '../../src/schema/build-frame.ts';
import type { ColumnModel, TopicModel } from '../../src/schema/model.ts';
import { topics as ownTopics } from '../../src/schema/registry.ts';
import { createByteSink, writtenBytes } from '../../src/sink/byte-sink.ts';
import { type Capabilities, probeCapabilities } from '../../src/sink/capabilities.ts';
import type { BlockSlice, InsertFormat } from '../../src/sink/group-encoder.ts';
import { quoteName, quoteString, tableColumns } from '../../src/sink/table-columns.ts';
import { ensureTable, insertSettings, planTable, type TablePlan } from '../../src/sink/table-plan.ts';
import { allTypes } from '../support/all-types.ts';
import { type SeededRandom, seededRandom } from '../support/random.ts';
import { answerBytes, type RunningServer, serverKinds } from './servers.ts';
import { blockOf, RECORDER, randomRow, STREAMS } from './wal-fixture.ts';

/** The program's topics, and one with every kind of field that a schema can have. */
const topics = [...ownTopics, allTypes.model];
const FORMATS: InsertFormat[] = ['RowBinary', 'Native'];
const WAL_ID = 0xfedc_ba98_7654_3210n;
const NOW_NS = BigInt(Date.now()) * 1_000_000n;
const ORIGIN = { recorder: new TextEncoder().encode(RECORDER), walId: WAL_ID };

function encode(plan: TablePlan, format: InsertFormat, slices: BlockSlice[]): Uint8Array<ArrayBuffer> {
  const sink = createByteSink(16);
  plan.encoder(format)(sink, slices, ORIGIN);
  return writtenBytes(sink).slice();
}

/**
 * The engine writes LowCardinality into Native as such; an insert carries plain strings, so they are asked
 * for.
 */
function selectSql(plan: TablePlan, format: InsertFormat): string {
  const items = tableColumns(plan.model).map(({ name, type }) =>
    type === 'LowCardinality(String)'
      ? `CAST(${quoteName(name)}, 'String') AS ${quoteName(name)}`
      : quoteName(name),
  );
  return `SELECT ${items.join(', ')} FROM ${plan.table} ORDER BY wal_lsn FORMAT ${format}`;
}

/** Three blocks, cut, with LSNs that are not in one run and pass a multiple of 2^32. */
function randomSlices(model: TopicModel, random: SeededRandom): BlockSlice[] {
  let lsn = 2n ** 32n - 60n;
  return [40, 1, 70].map((count, index) => {
    const rows = Array.from({ length: count }, () => randomRow(model, random));
    const view = blockOf(model, rows, (row) => NOW_NS + BigInt(index * 1000 + row));
    const slice = { view, lsn, fromRow: index === 2 ? 5 : 0, toRow: index === 0 ? count - 3 : count };
    lsn += BigInt(count + 10);
    return slice;
  });
}

for (const kind of serverKinds.filter(({ available }) => available)) {
  describe(`encoders on ${kind.name}`, () => {
    let server: RunningServer;
    let capabilities: Capabilities;
    beforeAll(async () => {
      server = await kind.start();
      capabilities = await probeCapabilities(server.client);
    }, 60_000);
    afterAll(() => server.close(), 30_000);

    const planFor = async (model: TopicModel, database: string) => {
      const columns = await ensureTable(server.client, model, capabilities, database);
      return planTable(model, columns, capabilities, database);
    };

    for (const model of topics) {
      for (const format of FORMATS) {
        test(`${model.topic} as ${format} comes back byte for byte`, async () => {
          const plan = await planFor(model, `back_${format.toLowerCase()}`);
          const slices = randomSlices(model, seededRandom(`${kind.name} ${model.topic} ${format}`));
          const body = encode(plan, format, slices);
          const settings = insertSettings(capabilities, 'token', 200);
          await server.client.insert({
            sql: plan.insertSql(format),
            body,
            queryId: crypto.randomUUID(),
            settings,
          });
          for (const read of FORMATS) {
            expect(await answerBytes(server.url, selectSql(plan, read))).toEqual(encode(plan, read, slices));
          }
        });
      }

      // SQL text is made for the types that the program's own topics use.
      if (model === allTypes.model) continue;
      test(`${model.topic}: the engine writes rows of SQL text as we do`, async () => {
        const plan = await planFor(model, 'sql_text');
        const random = seededRandom(`${kind.name} ${model.topic} text`);
        const rows = Array.from({ length: 20 }, () => plainRow(model, random));
        const ingestTs = (row: number) => NOW_NS + BigInt(row) * 1_000_003n;
        const tuples = rows.map((row, index) =>
          sqlTuple(model, row, index, ingestTs(index), kind.name === '18.16'),
        );
        const insert = plan.insertSql('RowBinary').replace('FORMAT RowBinary', 'VALUES ');
        await answerBytes(server.url, insert + tuples.join(', '));
        const slices = [{ view: blockOf(model, rows, ingestTs), lsn: 0n, fromRow: 0, toRow: rows.length }];
        for (const format of FORMATS) {
          expect(await answerBytes(server.url, selectSql(plan, format))).toEqual(
            encode(plan, format, slices),
          );
        }
      });
    }

    test('codes outside an enumeration are stored and shown as numbers', async () => {
      const model = topics.find(({ topic }) => topic === 'orders')!;
      const plan = await planFor(model, 'enums');
      const view = blockOf(model, [{ side: 1 }, { side: 200 }], () => NOW_NS);
      const body = encode(plan, 'RowBinary', [{ view, lsn: 0n, fromRow: 0, toRow: 2 }]);
      await server.client.insert({ sql: plan.insertSql('RowBinary'), body, queryId: 'enums', settings: {} });
      const rows = await server.client.query(`SELECT side, side_name FROM ${plan.table} ORDER BY wal_lsn`);
      expect(rows).toEqual([
        { side: 1, side_name: 'buy' },
        { side: 200, side_name: '200' },
      ]);
    });
  });
}

/**
 * A row whose values have an exact SQL text: decimals within their 18 digits, finite floats, times that have
 * a date.
 */
function plainRow(model: TopicModel, random: SeededRandom): Row {
  const value = (column: ColumnModel): unknown => {
    if (column.nullable && random.int(0, 1) === 0) return null;
    if (column.kind === 'string') return random.bytes(random.int(0, 20));
    const one = () => {
      if (column.clickhouseType.includes('DateTime64')) return NOW_NS + BigInt(random.u32());
      if (column.scalar === 'bool') return random.int(0, 1) === 1;
      if (column.scalar.startsWith('float')) return random.int(-1000, 1000) / 8;
      return BigInt(random.int(column.scalar.startsWith('u') || column.widthBytes === 4 ? 0 : -120, 120));
    };
    return column.kind === 'array' ? Array.from({ length: random.int(0, 4) }, one) : one();
  };
  return Object.fromEntries(model.columns.map((column) => [column.name, value(column)]));
}

function bytesText(bytes: Uint8Array): string {
  return `'${[...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}'`;
}

function timeText(ns: bigint, isOld: boolean): string {
  if (isOld) return String(ns);
  const seconds = new Date(Number(ns / 1_000_000_000n) * 1000).toISOString().slice(0, 19).replace('T', ' ');
  return quoteString(`${seconds}.${String(ns % 1_000_000_000n).padStart(9, '0')}`);
}

function scalarText(type: string, value: unknown, isOld: boolean): string {
  if (type.includes('DateTime64')) return timeText(value as bigint, isOld);
  if (type === 'Date32' && !isOld) {
    return quoteString(new Date(Number(value) * 86_400_000).toISOString().slice(0, 10));
  }
  if (type.includes('Decimal')) {
    const units = value as bigint;
    const digits = String(units < 0n ? -units : units).padStart(10, '0');
    return `${units < 0n ? '-' : ''}${digits.slice(0, -9)}.${digits.slice(-9)}`;
  }
  return typeof value === 'boolean' ? String(Number(value)) : String(value);
}

function sqlTuple(model: TopicModel, row: Row, index: number, ingestTs: bigint, isOld: boolean): string {
  const own = model.columns.map((column) => {
    const value = row[column.name];
    if (value === null) return 'NULL';
    if (column.kind === 'string') return bytesText(value as Uint8Array);
    const text = (item: unknown) => scalarText(column.clickhouseType, item, isOld);
    return column.kind === 'array' ? `[${(value as unknown[]).map(text).join(', ')}]` : text(value);
  });
  const stream = STREAMS[index % 3 === 2 ? 1 : 0]!;
  const seq = BigInt(index + 1) + (index % 5 === 0 ? 7n << 32n : 0n);
  const provenance = [
    bytesText(ORIGIN.recorder),
    bytesText(stream.source),
    bytesText(stream.session),
    String(seq),
    timeText(ingestTs, isOld),
    String(WAL_ID),
    String(index),
  ];
  return `(${[...own, ...provenance].join(', ')})`;
}
