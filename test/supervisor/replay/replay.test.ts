// Replay from a WAL, its archive and dead letters into real servers: what is there is not sent again.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBlock } from '../../../src/columns/block-codec.ts';
import { realFileSystem } from '../../../src/io/real-file-system.ts';
import type { TopicModel } from '../../../src/schema/model.ts';
import { topicByName, topics } from '../../../src/schema/registry.ts';
import { probeCapabilities } from '../../../src/sink/capabilities.ts';
import type { InsertRequest, SinkClient } from '../../../src/sink/clickhouse-client.ts';
import { listDeadLetters } from '../../../src/sink/dead-letter.ts';
import { createFlusher } from '../../../src/sink/flusher.ts';
import type { FlusherConfig } from '../../../src/sink/flusher-types.ts';
import { ServerError } from '../../../src/sink/server-error.ts';
import { type ReplayOptions, replayTopic } from '../../../src/supervisor/replay/replay.ts';
import { replayDeadLetters } from '../../../src/supervisor/replay/replay-dead-letters.ts';
import { ALL_ROWS } from '../../../src/supervisor/replay/replay-filter.ts';
import { clientOf, flusherConfigFor, type RunningServer, serverKinds } from '../../sink/servers.ts';
import { randomRow, type WalContent, writeWal } from '../../sink/wal-fixture.ts';
import { seededRandom } from '../../support/random.ts';
import { readAll } from '../../support/wal-fixture.ts';

const DRAIN_MS = 20_000;
const DAY_NS = 86_400_000_000_000n;
/** Yesterday at noon: no test crosses midnight by chance, and no TTL is near. */
const T0 = ((BigInt(Date.now()) * 1_000_000n) / DAY_NS) * DAY_NS - DAY_NS / 2n;
const random = seededRandom('replay');
const gaps = topicByName('gaps')!;
const spans = topicByName('latency_spans')!;

function content(topic: TopicModel, rowCount: number, startNs = T0): WalContent {
  const rows = Array.from({ length: rowCount }, () => randomRow(topic, random));
  return { topic, rows, ingestTs: (row) => startNs + BigInt(row) * 1000n };
}

let databases = 0;

for (const kind of serverKinds.filter(({ available }) => available)) {
  describe(`replay on ${kind.name}`, () => {
    let server: RunningServer;
    let walDir: string;
    let database: string;

    beforeAll(async () => {
      server = await kind.start();
    }, 60_000);
    afterAll(() => server.close(), 30_000);
    beforeEach(() => {
      walDir = mkdtempSync(join(tmpdir(), 'recorder-replay-'));
      database = `replay_${databases++}`;
    });
    afterEach(() => rmSync(walDir, { recursive: true, force: true }));

    const flusherConfig = (): FlusherConfig =>
      flusherConfigFor(server.url, {
        walDir,
        database: `${database}_flushed`,
        flushRows: 100,
        flushIntervalMs: 50,
        maxRetries: 0,
      });
    const flush = async (options: { database?: string; connect?: () => SinkClient } = {}) => {
      const { connect } = options;
      const config = { ...flusherConfig(), ...(options.database ? { database: options.database } : {}) };
      const connecting = connect === undefined ? {} : { connect };
      const flusher = createFlusher({ config, topics, report: () => {}, ...connecting });
      flusher.start();
      expect((await flusher.drain(DRAIN_MS)).complete).toBe(true);
    };
    const options = async (extra: Partial<ReplayOptions> = {}): Promise<ReplayOptions> => ({
      fileSystem: realFileSystem,
      dir: walDir,
      client: server.client,
      database,
      capabilities: await probeCapabilities(server.client),
      format: 'Native',
      limits: { rows: 64, bytes: 1 << 20 },
      maxRetries: 8,
      retryBaseMs: 5,
      retryMaxMs: 50,
      id: `replay-${crypto.randomUUID()}`,
      signal: new AbortController().signal,
      dryRun: false,
      onDamage: (damage) => {
        throw new Error(`damage ${damage.reason}`);
      },
      ...extra,
    });
    const lsnsIn = async (topic: TopicModel, where = database) => {
      const rows = await server.client.query<{ lsn: string }>(
        `SELECT wal_lsn AS lsn FROM ${where}.${topic.table} ORDER BY lsn`,
      );
      return rows.map(({ lsn }) => Number(lsn));
    };
    const range = (from: number, end: number) => Array.from({ length: end - from }, (_, i) => from + i);

    test('rows that are there are not sent again, whatever is asked for', async () => {
      await writeWal(walDir, topics, [content(gaps, 150), content(spans, 50), content(gaps, 100)]);
      await flush();
      const some = { ...ALL_ROWS, fromLsn: 20n, endLsn: 70n };
      const dry = await replayTopic(await options({ dryRun: true }), gaps, some);
      expect(dry).toEqual({ selected: 50, present: 0, sent: 50, pending: 0 });
      expect(await replayTopic(await options(), gaps, some)).toEqual(dry);
      expect(await lsnsIn(gaps)).toEqual(range(20, 70));
      const rest = { selected: 250, present: 50, sent: 200, pending: 0 };
      expect(await replayTopic(await options({ dryRun: true }), gaps, ALL_ROWS)).toEqual(rest);
      expect(await replayTopic(await options({ format: 'RowBinary' }), gaps, ALL_ROWS)).toEqual(rest);
      expect(await lsnsIn(gaps)).toEqual([...range(0, 150), ...range(200, 300)]);
      expect(await replayTopic(await options(), gaps, ALL_ROWS)).toMatchObject({ present: 250, sent: 0 });
      // What the flusher sent and what was replayed is the same, cell by cell.
      const sums = `SELECT sum(cityHash64(first_seq, last_seq, line, state, seq, source)) AS h FROM`;
      const [a] = await server.client.query(`${sums} ${database}.gaps`);
      const [b] = await server.client.query(`${sums} ${database}_flushed.gaps`);
      expect(a).toEqual(b);
    }, 60_000);

    test('session, sequence and time choose the same rows as a look at every row', async () => {
      await writeWal(walDir, topics, [content(spans, 120), content(spans, 120, T0 + DAY_NS / 2n)]);
      await flush();
      const rows = readAll(realFileSystem, { dir: walDir }).blocks.flatMap(({ lsn, payload, rowCount }) => {
        const view = openBlock(spans, payload, rowCount);
        return range(0, rowCount).map((row) => ({
          lsn: Number(lsn) + row,
          session: new TextDecoder().decode(view.streams[view.streamIndex[row]!]!.session),
          seq: BigInt(view.seqWords[row * 2]!) + (BigInt(view.seqWords[row * 2 + 1]!) << 32n),
          ns: BigInt(view.ingestTsWords[row * 2]!) + (BigInt(view.ingestTsWords[row * 2 + 1]!) << 32n),
        }));
      });
      const bySeq = { ...ALL_ROWS, source: 'engine', session: 's1', fromSeq: 10n, toSeq: 50n };
      const byTime = { ...ALL_ROWS, fromNs: T0 + 7000n, endNs: T0 + DAY_NS / 2n + 33_000n };
      const expected = [
        rows.filter(({ session, seq }) => session === 's1' && seq >= 10n && seq <= 50n),
        rows.filter(({ ns }) => ns >= byTime.fromNs && ns < byTime.endNs),
      ];
      for (const [index, filter] of [bySeq, byTime].entries()) {
        const name = `${database}_${index}`;
        const counts = await replayTopic(await options({ database: name }), spans, filter);
        expect(counts.sent).toBe(expected[index]!.length);
        expect(await lsnsIn(spans, name)).toEqual(expected[index]!.map(({ lsn }) => lsn));
      }
    }, 60_000);

    test('answers that are lost after the insert do not double rows', async () => {
      await writeWal(walDir, topics, [content(gaps, 200)]);
      await flush();
      let failures = 5;
      const client = clientOf(server.url);
      const insert = async (request: InsertRequest) => {
        await client.insert(request);
        if (failures-- > 0) throw new ServerError('unknown', null, 'ECONNRESET');
      };
      const lossy = Object.create(client, { insert: { value: insert } }) as SinkClient;
      const counts = await replayTopic(await options({ client: lossy }), gaps, ALL_ROWS);
      expect(counts).toMatchObject({ selected: 200, sent: 200 });
      expect(await lsnsIn(gaps)).toEqual(range(0, 200));
      await client.close();
    }, 60_000);

    test('rows that are not delivered yet are left to the flusher', async () => {
      await writeWal(walDir, topics, [content(gaps, 60)]);
      await flush({ database });
      await writeWal(walDir, topics, [content(gaps, 40)]);
      const counts = await replayTopic(await options(), gaps, ALL_ROWS);
      expect(counts).toEqual({ selected: 100, present: 60, sent: 0, pending: 40 });
      await flush({ database });
      expect(await lsnsIn(gaps)).toEqual(range(0, 100));
    }, 60_000);

    /** Refuses every insert into gaps. */
    const refusing = () => {
      const client = clientOf(server.url);
      const insert = async (request: InsertRequest) => {
        if (request.sql.includes('`gaps`')) throw new ServerError('refused', 117, 'no');
        await client.insert(request);
      };
      return Object.create(client, { insert: { value: insert } }) as SinkClient;
    };
    const replayLetters = async (extra: Partial<ReplayOptions> = {}) =>
      (await replayDeadLetters(await options(extra), null, () => {})).map(({ outcome, sent }) => ({
        outcome,
        sent,
      }));
    const setAside = () => join(walDir, 'dead-letter', 'replayed');

    test('lesson 3: dead letters, one copy each, are replayed by one command and set aside', async () => {
      await writeWal(walDir, topics, [content(gaps, 150), content(spans, 10)]);
      await flush({ database, connect: refusing });
      expect(listDeadLetters(realFileSystem, walDir).map(({ rowCount }) => rowCount)).toEqual([100, 50]);
      expect(await lsnsIn(spans)).toEqual(range(150, 160));
      const sent = [100, 50].map((rows) => ({ outcome: 'replayed' as const, sent: rows }));
      expect(await replayLetters({ dryRun: true })).toEqual(sent);
      expect(await lsnsIn(gaps)).toEqual([]);
      expect(await replayLetters()).toEqual(sent);
      expect(await lsnsIn(gaps)).toEqual(range(0, 150));
      expect(listDeadLetters(realFileSystem, walDir)).toEqual([]);
      expect(readdirSync(setAside()).length).toBe(4);
      expect(await replayLetters()).toEqual([]);
    }, 60_000);

    test('a letter whose rows have left the WAL is sent from its body', async () => {
      await writeWal(walDir, topics, [content(gaps, 70)]);
      await flush({ database, connect: refusing });
      for (const name of readdirSync(walDir).filter((file) => file.endsWith('.wal'))) {
        rmSync(join(walDir, name));
      }
      const [letter] = listDeadLetters(realFileSystem, walDir);
      const body = join(walDir, 'dead-letter', letter!.bodyFile);
      const bytes = realFileSystem.readFile(body);
      // Damaged, it stays where it is and nothing is sent.
      writeFileSync(body, bytes.subarray(1));
      expect(await replayLetters()).toEqual([{ outcome: 'failed', sent: 0 }]);
      writeFileSync(body, bytes);
      expect(await replayLetters()).toEqual([{ outcome: 'replayed', sent: 70 }]);
      expect(await lsnsIn(gaps)).toEqual(range(0, 70));
      // A replay that was killed before it set the letter aside finds all rows there.
      for (const name of readdirSync(setAside())) {
        realFileSystem.rename(join(setAside(), name), join(walDir, 'dead-letter', name));
      }
      rmSync(body);
      expect(await replayLetters()).toEqual([{ outcome: 'present', sent: 0 }]);
      expect(await lsnsIn(gaps)).toEqual(range(0, 70));
      expect(existsSync(join(setAside(), `gaps-${letter!.firstLsn}.json`))).toBe(true);
    }, 60_000);

    const hasTokens = kind.name === 'embedded';
    test.skipIf(!hasTokens)(
      'a letter whose token is spent without its rows is sent under others',
      async () => {
        await writeWal(walDir, topics, [content(gaps, 40)]);
        await flush({ database, connect: refusing });
        for (const name of readdirSync(walDir).filter((file) => file.endsWith('.wal'))) {
          rmSync(join(walDir, name));
        }
        const { client, ...rest } = await options();
        const [letter] = listDeadLetters(realFileSystem, walDir);
        const spent = new Set([letter!.token]);
        const insert = async (request: InsertRequest) => {
          const token = request.settings['insert_deduplication_token']!;
          // The letter's, and the first of the replay: "inserted already", says the server.
          if (spent.size < 2) spent.add(token);
          if (!spent.has(token)) await client.insert(request);
        };
        const forgetful = Object.create(client, { insert: { value: insert } }) as SinkClient;
        const replay = { ...rest, client: forgetful, maxRetries: 4, retryBaseMs: 1, retryMaxMs: 2 };
        const [done] = await replayDeadLetters(replay, null, () => {});
        expect(done).toMatchObject({ outcome: 'replayed', sent: 40 });
        expect(await lsnsIn(gaps)).toEqual(range(0, 40));
      },
      60_000,
    );

    test('a letter of which the server has a part gets the rest, from the WAL', async () => {
      await writeWal(walDir, topics, [content(gaps, 90)]);
      await flush({ database, connect: refusing });
      await replayTopic(await options(), gaps, { ...ALL_ROWS, fromLsn: 10n, endLsn: 25n });
      expect(await replayLetters()).toEqual([{ outcome: 'replayed', sent: 75 }]);
      expect(await lsnsIn(gaps)).toEqual(range(0, 90));
    }, 60_000);
  });
}
