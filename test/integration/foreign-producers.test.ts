// Producers in C++ and Python that share no code with the recorder, through the whole program into both
// kinds of server in both formats: every value of every frame is what SQL reads, extremes included.

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { rmSync } from 'node:fs';
import type { TopicModel } from '../../src/schema/model.ts';
import { topics } from '../../src/schema/registry.ts';
import {
  buildProducers,
  LANGUAGES,
  missingTools,
  runProducer,
  temporaryDirectory,
} from '../producers/foreign.ts';
import {
  type SentFrame,
  type StoredValue,
  storedInTable,
  storedValueSql,
} from '../producers/stored-values.ts';
import { hasClickHouse18, startClickHouse18 } from '../support/clickhouse-server.ts';
import { startTestServer } from '../support/embedded.ts';
import { startRecorderProcess, temporaryHome } from '../support/recorder-process.ts';

const ROWS = 900;
const missing = missingTools();
const has18 = hasClickHouse18();
const directory = missing ? '' : temporaryDirectory();

let modern: Awaited<ReturnType<typeof startTestServer>>;
let old: Awaited<ReturnType<typeof startClickHouse18>> | undefined;
beforeAll(async () => {
  if (missing) return;
  buildProducers(directory);
  modern = await startTestServer();
  if (has18) old = await startClickHouse18();
}, 180_000);
afterAll(async () => {
  await modern?.close();
  await old?.stop();
  if (directory !== '') rmSync(directory, { recursive: true, force: true });
});

async function query<T>(url: string, text: string): Promise<T[]> {
  const response = await fetch(url, { method: 'POST', body: `${text} FORMAT JSON`, keepalive: false });
  const body = await response.text();
  if (!response.ok) throw new Error(body);
  return (JSON.parse(body) as { data: T[] }).data;
}

type Stored = Map<number, Record<string, StoredValue>>;

/** All rows of a topic and session by seq, as they are stored. */
async function storedRows(
  url: string,
  database: string,
  model: TopicModel,
  session: string,
): Promise<Stored> {
  const columnTypes = await query<{ name: string; type: string }>(
    url,
    `SELECT name, type FROM system.columns WHERE database = '${database}' AND table = '${model.table}'`,
  );
  const types = new Map(columnTypes.map(({ name, type }) => [name, type]));
  const expressions = model.columns.map(
    (column) => `${storedValueSql(column, types.get(column.name)!)} AS v${column.index}`,
  );
  const rows = await query<Record<string, string | string[] | null>>(
    url,
    `SELECT seq, ${expressions.join(', ')} FROM ${database}.${model.table} WHERE session = '${session}'`,
  );
  return new Map(
    rows.map((row) => {
      const values = model.columns.map((column): [string, StoredValue] => [
        column.name,
        storedInTable(column, row[`v${column.index}`] ?? null),
      ]);
      return [Number(row['seq']), Object.fromEntries(values)];
    }),
  );
}

/** Cases that each topic must have been sent with; random ones come on top. */
const CASES = [
  'absent',
  'defaults_written',
  'defaults_omitted',
  'min',
  'max',
  'nan',
  'negative_zero',
  'bytes',
  'arrays',
];

for (const [server, format] of [
  ['modern', 'RowBinary'],
  ['modern', 'Native'],
  ['18.16', 'RowBinary'],
  ['18.16', 'Native'],
] as const) {
  test.skipIf(missing || (server === '18.16' && !has18))(
    `${server}, ${format}: every value of every frame arrives`,
    async () => {
      const { url } = server === 'modern' ? modern : old!;
      const database = `foreign_${format.toLowerCase()}`;
      using home = temporaryHome();
      const flags = [
        '--clickhouse-host',
        url,
        '--clickhouse-database',
        database,
        '--clickhouse-format',
        format,
      ];
      const recorder = await startRecorderProcess(home.path, { flags });
      try {
        const sent: SentFrame[][] = [];
        // A plain connection gets a session of its own: they come in the order of the connections.
        for (const language of LANGUAGES)
          sent.push(await runProducer(directory, language, recorder.socket, ROWS));
        sent.push(
          await runProducer(
            directory,
            'Python',
            recorder.socket,
            ROWS,
            '--session',
            'strategy',
            'run-1',
            '--seed',
            '9',
          ),
        );
        expect((await recorder.end('SIGTERM')).code).toBe(0);
        const sessions = await query<{ session: string }>(
          url,
          `SELECT session, min(wal_lsn) AS first FROM ${database}.market_data
           GROUP BY session ORDER BY first`,
        );
        expect(sessions).toHaveLength(3);
        for (const [i, frames] of sent.entries()) {
          for (const model of topics) {
            if (model.topic === 'gaps') continue;
            const stored = await storedRows(url, database, model, sessions[i]!.session);
            const own = frames.filter(({ topic }) => topic === model.topic);
            expect(own.map((frame) => frame.case)).toEqual(expect.arrayContaining(CASES));
            expect(stored.size).toBe(own.length);
            for (const { seq, values } of own)
              expect({ seq, ...stored.get(seq) }).toEqual({ seq, ...values });
          }
        }
      } finally {
        await recorder.end('SIGKILL');
      }
    },
    120_000,
  );
}
