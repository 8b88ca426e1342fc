// A disk that another program fills, under producers of their own for market data and for fills: what stops,
// in which order, what goes on, and who says so. Real processes, a real file system.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { hasChromium, openPage, startBrowser } from '../support/browser.ts';
import { startTestServer, type TestServer } from '../support/embedded.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { seededRandom } from '../support/random.ts';
import {
  type RecorderProcess,
  reconcile,
  sql,
  startRecorderProcess,
  until,
} from '../support/recorder-process.ts';
import { canMountDisk, mountDisk, type SmallDisk } from '../support/small-disk.ts';
import { startTopicProducer, type TopicProducer } from '../support/topic-producer.ts';

const MIB = 2 ** 20;
const TIMEOUT_MS = 120_000;
const SEGMENT_BYTES = 4 * MIB;
const LEVELS = ['warn', 'critical', 'halt', 'ok'] as const;
const SETTINGS = {
  HFT_WAL_SEGMENT_BYTES: String(SEGMENT_BYTES),
  HFT_DISK_WARN_BYTES: '48MiB',
  HFT_DISK_CRITICAL_BYTES: '24MiB',
  HFT_DISK_HALT_BYTES: '8MiB',
  HFT_WAL_RESERVE_BYTES: '8MiB',
  HFT_FLUSH_RETRY_MAX_MS: '300',
};
const random = seededRandom('filling disk');

describe.skipIf(!canMountDisk())('a disk that fills up', () => {
  let server: TestServer;
  let browser: Browser | null = null;
  beforeAll(async () => {
    server = await startTestServer();
    if (hasChromium()) browser = await startBrowser();
  }, 60_000);
  afterAll(async () => {
    await browser?.close();
    await server.close();
  }, 30_000);

  async function startOn(disk: SmallDisk, clickhouseUrl: string, database: string) {
    const home = join(disk.path, 'home');
    mkdirSync(home, { recursive: true });
    const env = { ...SETTINGS, HFT_CLICKHOUSE_HOST: clickhouseUrl, HFT_CLICKHOUSE_DATABASE: database };
    const recorder = await startRecorderProcess(home, { env });
    return { recorder, url: /metrics and health on (\S+)/.exec(recorder.log())![1]! };
  }

  async function metricOf(url: string, name: string): Promise<number> {
    const text = await (await fetch(`${url}/metrics`)).text();
    return Number(
      text
        .split('\n')
        .find((line) => line.startsWith(`${name} `))
        ?.split(' ')[1] ?? Number.NaN,
    );
  }

  const atLevel = (url: string, level: string, recorder: RecorderProcess) =>
    until(
      async () => (await metricOf(url, `recorder_disk_level{level="${level}"}`)) === 1,
      () => `level ${level}\n${recorder.log()}`,
    );

  /** Waits until the producer has got `rows` more acknowledged. */
  const moreAcked = async (producer: TopicProducer, rows: number, recorder: RecorderProcess) => {
    const before = producer.acked;
    await until(
      () => producer.acked >= before + rows,
      () => `${producer.source}: ${producer.acked} of ${before + rows}\n${recorder.log()}`,
    );
  };

  /** Each change as the log, /metrics, the health, the page and ClickHouse tell it: once. */
  async function expectToldOnce(url: string, page: Page | null, recorder: RecorderProcess): Promise<void> {
    for (const level of LEVELS)
      expect(await metricOf(url, `recorder_disk_level_changes_total{level="${level}"}`)).toBe(1);
    const told = recorder.log().match(/disk level (warn|critical|halt)/g);
    expect([...(told ?? [])]).toEqual(
      ['warn', 'critical', 'halt', 'halt'].map((level) => `disk level ${level}`),
    );
    const { recent } = (await (await fetch(`${url}/health`)).json()) as {
      recent: { kind: string; condition: { tag: string } }[];
    };
    const kinds = recent.filter(({ condition }) => condition.tag === 'disk_pressure').map(({ kind }) => kind);
    expect(kinds).toEqual(['raised', 'changed', 'changed', 'cleared']);
    if (page === null) return;
    const lines = () => page.locator('#events li', { hasText: 'disk_pressure' }).allTextContents();
    await until(async () => (await lines()).length === 4, 'four lines on the page');
    expect((await lines()).map((line) => /disk level (\w+)/.exec(line)![1])).toEqual([
      'halt',
      'halt',
      'critical',
      'warn',
    ]);
  }

  test(
    'market data stops first and loses nothing, fills go on into the reserve, all resumes with space',
    async () => {
      const disk = mountDisk(128 * MIB)!;
      const proxy = await startFaultProxy({ target: server.url, random, choose: () => 'none' });
      // Nothing is delivered: no segment can go.
      await proxy.down();
      const { recorder, url } = await startOn(disk, proxy.url, 'filling');
      const producers: TopicProducer[] = [];
      const start = async (source: string, topicNames: string[], rowsPerTick: number) => {
        const producer = await startTopicProducer(recorder.socket, source, topicNames, rowsPerTick);
        producers.push(producer);
        return producer;
      };
      const opened = browser === null ? null : await openPage(browser, url);
      try {
        await until(() => existsSync(join(recorder.walDir, 'reserve.1')), 'the reserve');
        const market = await start('market', ['market_data', 'latency_spans'], 4);
        const mixed = await start('mixed', ['market_data', 'fills'], 4);
        const vital = await start('vital', ['fills', 'orders'], 4);
        for (const producer of producers) await moreAcked(producer, 100, recorder);

        disk.fill(36 * MIB);
        await atLevel(url, 'warn', recorder);
        for (const producer of producers) await moreAcked(producer, 100, recorder);

        disk.fill(16 * MIB);
        await atLevel(url, 'critical', recorder);
        await until(async () => (await metricOf(url, 'recorder_connections_held')) === 1, 'market is held');
        await moreAcked(vital, 100, recorder);
        const marketAcked = market.acked;
        for (const producer of [vital, mixed]) await moreAcked(producer, 500, recorder);
        expect(market.acked).toBe(marketAcked);

        // What comes free from now on another program takes at once.
        const hog = disk.hog();
        await atLevel(url, 'halt', recorder);
        await until(async () => (await metricOf(url, 'recorder_connections_held')) === 2, 'mixed is held');
        await moreAcked(vital, 100, recorder);
        const mixedAcked = mixed.acked;
        const segments = await metricOf(url, 'recorder_wal_segments');
        vital.rowsPerTick = 200;
        // One segment is there, one is allocated ahead: the third and the fourth lie in the reserve.
        await until(
          async () => (await metricOf(url, 'recorder_wal_segments')) >= segments + 3,
          () => recorder.log(),
          60_000,
        );
        vital.rowsPerTick = 4;
        await moreAcked(vital, 100, recorder);
        expect([market.acked, mixed.acked]).toEqual([marketAcked, mixedAcked]);

        hog[Symbol.dispose]();
        disk.empty();
        await atLevel(url, 'ok', recorder);
        expect(await metricOf(url, 'recorder_connections_held')).toBe(0);
        for (const producer of producers) await moreAcked(producer, 100, recorder);
        await Promise.all(producers.map((producer) => producer.finish(30_000)));
        await expectToldOnce(url, opened?.page ?? null, recorder);
        expect(opened?.problems ?? []).toEqual([]);

        await proxy.up();
        expect((await recorder.end('SIGTERM')).code).toBe(0);
        const flags = ['--clickhouse-host', server.url, '--clickhouse-database', 'filling'];
        const { json } = await reconcile(recorder.walDir, ...flags);
        expect(json).toMatchObject({ lost: 0, duplicated: 0, pending: 0, inserted: json.logged });
        const union = ['market_data', 'latency_spans', 'trades', 'orders']
          .map((table) => `SELECT source, seq FROM filling.${table}`)
          .join(' UNION ALL ');
        const stored = await sql(
          server.url,
          `SELECT source, count(), uniqExact(seq), max(seq) FROM (${union}) GROUP BY source ORDER BY source`,
        );
        const expected = [market, mixed, vital].map(({ source, sent }) => [source, sent, sent, sent]);
        expect(stored).toEqual(expected.map((cells) => cells.map(String)));
        const own = await sql(
          server.url,
          "SELECT count() FROM filling.logs WHERE reason_code = 'disk_pressure'",
        );
        expect(own).toEqual([['4']]);
      } catch (error) {
        process.stderr.write(`${recorder.log()}\n`);
        throw error;
      } finally {
        for (const producer of producers) producer.abort();
        await opened?.close();
        await recorder.end('SIGKILL');
        await proxy.close();
        disk.unmount();
      }
    },
    TIMEOUT_MS,
  );

  test(
    'what is delivered goes first, and nothing stops',
    async () => {
      const disk = mountDisk(128 * MIB)!;
      const { recorder, url } = await startOn(disk, server.url, 'delivered_first');
      const market = await startTopicProducer(recorder.socket, 'market', ['market_data'], 1000);
      try {
        await until(
          async () => (await metricOf(url, 'recorder_wal_segments')) >= 9,
          () => recorder.log(),
        );
        market.rowsPerTick = 1;
        await until(
          async () => (await metricOf(url, 'recorder_lag_rows{topic="market_data"}')) < 1000,
          () => recorder.log(),
        );
        // The seven segments that may go are more than what is missing.
        disk.fill(6 * MIB);
        await recorder.logged(/removed \d+ delivered segments/);
        await moreAcked(market, 50, recorder);
        await until(async () => (await metricOf(url, 'recorder_disk_level{level="warn"}')) === 1, 'warn');
        for (const level of ['critical', 'halt'])
          expect(await metricOf(url, `recorder_disk_level_changes_total{level="${level}"}`)).toBeNaN();
        expect(await metricOf(url, 'recorder_connections_held')).toBe(0);
        await market.finish(30_000);
        expect((await recorder.end('SIGTERM')).code).toBe(0);
        expect(recorder.log()).not.toMatch(/disk level (critical|halt)/);
      } catch (error) {
        process.stderr.write(`${recorder.log()}\n`);
        throw error;
      } finally {
        market.abort();
        await recorder.end('SIGKILL');
        disk.unmount();
      }
    },
    TIMEOUT_MS,
  );

  test(
    'a recorder that is killed on a full disk starts again, in the reserve',
    async () => {
      const disk = mountDisk(96 * MIB)!;
      const started: RecorderProcess[] = [];
      try {
        const first = await startOn(disk, server.url, 'restarted');
        started.push(first.recorder);
        await until(() => existsSync(join(first.recorder.walDir, 'reserve.1')), 'the reserve');
        disk.fill(0);
        await atLevel(first.url, 'halt', first.recorder);
        await first.recorder.end('SIGKILL');
        const { recorder } = await startOn(disk, server.url, 'restarted');
        started.push(recorder);
        const vital = await startTopicProducer(recorder.socket, 'vital', ['fills'], 10);
        await moreAcked(vital, 1000, recorder);
        await vital.finish(30_000);
        disk.empty();
        expect((await recorder.end('SIGTERM')).code).toBe(0);
        const flags = ['--clickhouse-host', server.url, '--clickhouse-database', 'restarted'];
        const { json } = await reconcile(recorder.walDir, ...flags);
        expect(json).toMatchObject({ lost: 0, duplicated: 0, pending: 0, inserted: json.logged });
      } catch (error) {
        process.stderr.write(`${started.at(-1)?.log()}\n`);
        throw error;
      } finally {
        for (const recorder of started) await recorder.end('SIGKILL');
        disk.unmount();
      }
    },
    TIMEOUT_MS,
  );
});
