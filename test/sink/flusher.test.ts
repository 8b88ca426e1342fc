// The flusher from WAL to real servers: everything arrives once, through crashes, outages and refusals.

import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from 'bun:test';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { realFileSystem } from '../../src/io/real-file-system.ts';
import { readTopicModel, type TopicModel } from '../../src/schema/model.ts';
import { topicByName, topics } from '../../src/schema/registry.ts';
import type { InsertRequest, SinkClient } from '../../src/sink/clickhouse-client.ts';
import { listDeadLetters } from '../../src/sink/dead-letter.ts';
import { createFlusher, type Flusher } from '../../src/sink/flusher.ts';
import { createWorkerFlusher } from '../../src/sink/flusher-client.ts';
import type { FlusherConfig, FlusherEvent } from '../../src/sink/flusher-types.ts';
import { ServerError } from '../../src/sink/server-error.ts';
import { seededRandom } from '../support/random.ts';
import { compileSchema, hasFlatc, topicSchema } from '../support/schemas.ts';
import { clientOf, flusherConfigFor, type RunningServer, serverKinds } from './servers.ts';
import { randomRow, type WalContent, writeWal } from './wal-fixture.ts';

setDefaultTimeout(60_000);
const DRAIN_MS = 20_000;
const DAY_NS = 86_400_000_000_000n;
/** Yesterday at noon: no test crosses midnight by chance, and no TTL is near. */
const T0 = ((BigInt(Date.now()) * 1_000_000n) / DAY_NS) * DAY_NS - DAY_NS / 2n;
const random = seededRandom('flusher');
const gaps = topicByName('gaps')!;
const spans = topicByName('latency_spans')!;

function content(topic: TopicModel, rowCount: number, startNs = T0, stepNs = 1_000n): WalContent {
  const rows = Array.from({ length: rowCount }, () => randomRow(topic, random));
  return { topic, rows, ingestTs: (row) => startNs + BigInt(row) * stepNs };
}

let databases = 0;

for (const kind of serverKinds.filter(({ available }) => available)) {
  describe(`flusher on ${kind.name}`, () => {
    let server: RunningServer;
    let walDir: string;
    let config: FlusherConfig;
    let events: FlusherEvent[];

    beforeAll(async () => {
      server = await kind.start();
    }, 60_000);
    afterAll(() => server.close(), 30_000);
    beforeEach(() => {
      walDir = mkdtempSync(join(tmpdir(), 'recorder-flusher-'));
      events = [];
      config = flusherConfigFor(server.url, {
        walDir,
        database: `flusher_${databases++}`,
        flushRows: 100,
        flushIntervalMs: 50,
      });
    });
    afterEach(() => rmSync(walDir, { recursive: true, force: true }));

    const make = (used: readonly TopicModel[], connect?: () => SinkClient): Flusher =>
      createFlusher({
        config,
        topics: used,
        report: (event) => events.push(event),
        ...(connect === undefined ? {} : { connect }),
      });
    const runAll = async (used: readonly TopicModel[], connect?: () => SinkClient) => {
      const flusher = make(used, connect);
      flusher.start();
      return { result: await flusher.drain(DRAIN_MS), stats: flusher.stats() };
    };
    const counts = async (topic: TopicModel) => {
      const sql = `SELECT count() AS rows, uniqExact(wal_lsn) AS lsns FROM ${config.database}.${topic.table}`;
      const [row] = await server.client.query<{ rows: string; lsns: string }>(sql);
      return { rows: Number(row!.rows), lsns: Number(row!.lsns) };
    };
    const partSizes = (topic: TopicModel) =>
      server.client.query<{ rows: string }>(
        'SELECT rows FROM system.parts WHERE level = 0' +
          ` AND database = '${config.database}' AND table = '${topic.table}' ORDER BY name`,
      );
    const failingAfterInsert = (failures: number) => {
      let left = failures;
      return (): SinkClient => {
        const client = clientOf(server.url);
        return Object.create(client, {
          insert: {
            value: async (request: InsertRequest) => {
              await client.insert(request);
              if (left-- > 0) throw new ServerError('unknown', null, 'ECONNRESET');
            },
          },
        }) as SinkClient;
      };
    };

    for (const format of ['RowBinary', 'Native'] as const) {
      test(`every topic arrives once as ${format}, a group a part`, async () => {
        config.format = format;
        const blocks = topics.flatMap((topic) => [content(topic, 70), content(topic, 90)]);
        await writeWal(walDir, topics, blocks);
        const { result, stats } = await runAll(topics);
        expect(result).toEqual({ complete: true, left: [] });
        for (const topic of topics) {
          expect(await counts(topic)).toEqual({ rows: 160, lsns: 160 });
          expect((await partSizes(topic)).map((part) => Number(part.rows))).toEqual([100, 60]);
        }
        expect(stats.topics.map(({ insertedRows }) => insertedRows)).toEqual(topics.map(() => 160n));
      });
    }

    test('rows that come later are tailed, and a second run adds only what is new', async () => {
      await writeWal(walDir, topics, [content(gaps, 10)]);
      const flusher = make([gaps]);
      flusher.start();
      await until(async () => flusher.stats().topics[0]?.insertedRows === 10n);
      await writeWal(walDir, topics, [content(spans, 5), content(gaps, 7)]);
      await until(async () => flusher.stats().topics[0]?.insertedRows === 17n);
      expect((await flusher.drain(DRAIN_MS)).complete).toBe(true);
      await writeWal(walDir, topics, [content(gaps, 3)]);
      const { stats } = await runAll([gaps]);
      expect(stats.topics[0]).toMatchObject({ insertedRows: 20n, deliveredLsn: 25n, state: 'stopped' });
      expect(await counts(gaps)).toEqual({ rows: 20, lsns: 20 });
    });

    test('a group lies in one partition: rows around midnight go to two groups', async () => {
      const midnight = (T0 / DAY_NS + 1n) * DAY_NS;
      await writeWal(walDir, topics, [content(spans, 20, midnight - 10n, 1n)]);
      await runAll([spans]);
      expect(await counts(spans)).toEqual({ rows: 20, lsns: 20 });
      expect((await partSizes(spans)).map((part) => Number(part.rows))).toEqual([10, 10]);
    });

    test('a crash between send and done: the group is sent again and is there once', async () => {
      await writeWal(walDir, topics, [content(gaps, 60), content(spans, 30)]);
      await runAll([gaps, spans]);
      // The log as it was before the outcome was written.
      const path = join(walDir, 'flush.log');
      const kept = readFileSync(path, 'utf8')
        .split('\n')
        .filter((line) => !/"type":"(close|state)"/.test(line));
      writeFileSync(path, kept.join('\n'));
      config.format = 'Native';
      const { result, stats } = await runAll([gaps, spans]);
      expect(result.complete).toBe(true);
      expect(stats.topics.map(({ insertedRows }) => insertedRows)).toEqual([60n, 30n]);
      expect(await counts(gaps)).toEqual({ rows: 60, lsns: 60 });
      expect(await counts(spans)).toEqual({ rows: 30, lsns: 30 });
    });

    test('a crash with a group of many small blocks under way: it is read whole again', async () => {
      config.flushRows = 10_000;
      const blocks = Array.from({ length: 200 }, (_, index) =>
        content(spans, 2, T0 + BigInt(index) * 10_000n),
      );
      await writeWal(walDir, [spans], blocks);
      await runAll([spans]);
      const path = join(walDir, 'flush.log');
      const lines = readFileSync(path, 'utf8').split('\n');
      writeFileSync(path, lines.filter((line) => !/"type":"(close|state)"/.test(line)).join('\n'));
      expect((await runAll([spans])).result.complete).toBe(true);
      expect(events.filter(({ kind: found }) => found === 'failed')).toEqual([]);
      expect(await counts(spans)).toEqual({ rows: 400, lsns: 400 });
    });

    test('answers that are lost after the insert do not double rows', async () => {
      await writeWal(walDir, topics, [content(gaps, 250)]);
      const { result } = await runAll([gaps], failingAfterInsert(5));
      expect(result.complete).toBe(true);
      expect(await counts(gaps)).toEqual({ rows: 250, lsns: 250 });
      expect(events.filter(({ kind }) => kind === 'retry').length).toBeGreaterThan(0);
    });

    for (const format of ['RowBinary', 'Native'] as const) {
      test(`a ${format} group sent in many pieces is one part, once, also after a lost answer`, async () => {
        config = { ...config, format, flushRows: 100_000, flushBytes: 1 << 26 };
        const orders = topicByName('orders')!;
        await writeWal(
          walDir,
          topics,
          [0, 1, 2].map(() => content(orders, 800)),
        );
        const { result } = await runAll([orders], failingAfterInsert(1));
        expect(result.complete).toBe(true);
        expect(await counts(orders)).toEqual({ rows: 2400, lsns: 2400 });
        expect((await partSizes(orders)).map((part) => Number(part.rows))).toEqual([2400]);
        // As a token says it, without asking what is there.
        const log = readFileSync(join(walDir, 'flush.log'), 'utf8');
        const group = JSON.parse(/\{"type":"open".*\}/.exec(log)![0]) as { token: string };
        expect(group.token).toContain(':orders:0-2399:');
      });
    }

    test('a lost flush log: the server says where to go on', async () => {
      await writeWal(walDir, topics, [content(gaps, 130)]);
      await runAll([gaps]);
      rmSync(join(walDir, 'flush.log'));
      await writeWal(walDir, topics, [content(gaps, 40)]);
      const { result } = await runAll([gaps]);
      expect(result.complete).toBe(true);
      expect(await counts(gaps)).toEqual({ rows: 170, lsns: 170 });
      expect(events).toContainEqual({ kind: 'resumed_from_server', topic: 'gaps', nextLsn: 130n, rows: 130 });
    });

    test('a table that lost a column blocks its topic alone, until it is put right', async () => {
      await runAllEmpty();
      await server.client.command(`ALTER TABLE ${config.database}.gaps DROP COLUMN line`);
      await writeWal(walDir, topics, [content(gaps, 10), content(spans, 10)]);
      const flusher = make([gaps, spans]);
      flusher.start();
      await until(async () => flusher.stats().topics[1]?.insertedRows === 10n);
      await until(async () => events.some(({ kind }) => kind === 'blocked'));
      const blocked = events.find((event) => event.kind === 'blocked')!;
      expect(blocked).toMatchObject({ topic: 'gaps', code: 'table_mismatch' });
      const { message } = blocked as { message: string };
      expect(message).toContain('column line: expected');
      const alter = /ALTER TABLE [^;)]*String\)? AFTER `last_seq`/.exec(message)![0];
      await server.client.command(alter);
      expect((await flusher.drain(DRAIN_MS)).complete).toBe(true);
      expect(await counts(gaps)).toEqual({ rows: 10, lsns: 10 });
    });

    test('a refused group becomes a dead letter; the topic and the others go on', async () => {
      await writeWal(walDir, topics, [content(gaps, 10), content(spans, 10)]);
      let refusals = 2;
      const { result, stats } = await runAll([gaps, spans], () => {
        const client = clientOf(server.url);
        const insert = async (request: InsertRequest) => {
          const broken = request.sql.includes('`gaps`') && refusals-- > 0;
          const sql = broken ? request.sql.replace('`line`', '`no_such_column`') : request.sql;
          await client.insert({ ...request, sql });
        };
        return Object.create(client, { insert: { value: insert } }) as SinkClient;
      });
      expect(result.complete).toBe(true);
      expect(stats.topics.map(({ deadRows, insertedRows }) => [deadRows, insertedRows])).toEqual([
        [10n, 0n],
        [0n, 10n],
      ]);
      const [letter] = listDeadLetters(realFileSystem, walDir);
      expect(letter).toMatchObject({ topic: 'gaps', rowCount: 10, attempts: 2 });
      // What lies in the dead letter is whole: it can be inserted by hand.
      const body = realFileSystem.readFile(join(walDir, 'dead-letter', letter!.bodyFile));
      await server.client.insert({ sql: letter!.sql, body, queryId: crypto.randomUUID(), settings: {} });
      expect(await counts(gaps)).toEqual({ rows: 10, lsns: 10 });
    });

    test.skipIf(!hasFlatc)('rows of an older schema, and of a topic that is gone, arrive too', async () => {
      const older = readTopicModel(compileSchema(topicSchema('a: string; b: int = null;')));
      const newer = readTopicModel(
        compileSchema(topicSchema('a: string; b: int = null; c: [long]; d: double;')),
      );
      await writeWal(walDir, [older, gaps], [content(older, 10), content(gaps, 4)]);
      await writeWal(walDir, [newer], [content(newer, 6)]);
      const { result } = await runAll([newer]);
      expect(result).toEqual({ complete: true, left: [] });
      expect(await counts(newer)).toEqual({ rows: 16, lsns: 16 });
      expect(await counts(gaps)).toEqual({ rows: 4, lsns: 4 });
      // One schema a group: the older rows are a part of their own.
      expect((await partSizes(newer)).map((part) => Number(part.rows))).toEqual([10, 6]);
    });

    test('a drain that runs out of time says what is left', async () => {
      await writeWal(walDir, topics, [content(gaps, 30), content(spans, 5)]);
      config.clickhouse = { ...config.clickhouse, urls: ['http://127.0.0.1:1'] };
      const flusher = make([gaps, spans]);
      flusher.start();
      const result = await flusher.drain(200);
      expect(result.complete).toBe(false);
      expect(result.left).toEqual([
        { topic: 'gaps', rows: 30n },
        { topic: 'latency_spans', rows: 5n },
      ]);
      expect(events.some((event) => event.kind === 'retry' && event.outcome === 'unavailable')).toBe(true);
    });

    test('a drain with nothing to deliver does not wait for a server that is down', async () => {
      await writeWal(walDir, topics, []);
      config.clickhouse = { ...config.clickhouse, urls: ['http://127.0.0.1:1'] };
      const flusher = make([gaps]);
      flusher.start();
      await until(async () => events.some(({ kind }) => kind === 'retry'));
      expect(await flusher.drain(1e9)).toEqual({ complete: true, left: [] });
    });

    test('a server that is down is tried until another of the list answers', async () => {
      await writeWal(walDir, topics, [content(gaps, 30)]);
      config.clickhouse = { ...config.clickhouse, urls: ['http://127.0.0.1:1', server.url] };
      const { result } = await runAll([gaps]);
      expect(result.complete).toBe(true);
      expect(await counts(gaps)).toEqual({ rows: 30, lsns: 30 });
    });

    test('the Worker does the same', async () => {
      await writeWal(walDir, topics, [content(gaps, 120)]);
      const flusher = createWorkerFlusher({ config, topics: [gaps], report: (event) => events.push(event) });
      flusher.start();
      const result = await flusher.drain(DRAIN_MS);
      expect(events.filter((event) => event.kind === 'failed')).toEqual([]);
      expect(result).toEqual({ complete: true, left: [] });
      expect(flusher.stats().topics[0]).toMatchObject({ insertedRows: 120n, insertedGroups: 2 });
      expect(await counts(gaps)).toEqual({ rows: 120, lsns: 120 });
      expect(existsSync(join(walDir, 'flusher', 'lock'))).toBe(false);
    });

    async function runAllEmpty(): Promise<void> {
      await writeWal(walDir, topics, []);
      await runAll([gaps, spans]);
    }
  });
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + DRAIN_MS;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error('the expected state was not reached');
    await Bun.sleep(10);
  }
}
