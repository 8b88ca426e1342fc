// Real servers behind broken networks, and servers that die: nothing is lost, nothing is there twice.

import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TopicModel } from '../../src/schema/model.ts';
import { topicByName, topics } from '../../src/schema/registry.ts';
import type { SinkClient } from '../../src/sink/clickhouse-client.ts';
import { createFlusher } from '../../src/sink/flusher.ts';
import type { FlusherConfig, FlusherEvent } from '../../src/sink/flusher-types.ts';
import { hasClickHouse18, startClickHouse18 } from '../support/clickhouse-server.ts';
import { seededRandom } from '../support/random.ts';
import { startCuttingProxy } from './cutting-proxy.ts';
import { clientOf, flusherConfigFor, serverKinds } from './servers.ts';
import { randomRow, writeWal } from './wal-fixture.ts';

const DRAIN_MS = 60_000;
const NOW_NS = BigInt(Date.now()) * 1_000_000n;
const orders = topicByName('orders')!;
const spans = topicByName('latency_spans')!;

describe('outages', () => {
  let walDir: string;
  beforeEach(() => {
    walDir = mkdtempSync(join(tmpdir(), 'recorder-outage-'));
  });
  afterEach(() => rmSync(walDir, { recursive: true, force: true }));

  const configFor = (url: string, format: 'RowBinary' | 'Native'): FlusherConfig =>
    flusherConfigFor(url, {
      walDir,
      clickhouse: { urls: [url], user: 'default', password: '', timeoutMs: 3_000 },
      database: `outage_${format.toLowerCase()}`,
      format,
      flushRows: 60,
      flushIntervalMs: 20,
      maxRetries: 8,
      retryMaxMs: 40,
    });

  async function writeRows(blocks: number, seed: string): Promise<number> {
    const random = seededRandom(seed);
    const content = Array.from({ length: blocks }, (_, index) => {
      const topic = index % 2 === 0 ? orders : spans;
      const rows = Array.from({ length: 60 }, () => randomRow(topic, random));
      return { topic, rows, ingestTs: (row: number) => NOW_NS + BigInt(row) };
    });
    await writeWal(walDir, topics, content);
    return (blocks / 2) * 60;
  }

  async function expectRows(
    client: SinkClient,
    database: string,
    topic: TopicModel,
    rows: number,
  ): Promise<void> {
    const sql = `SELECT count() AS rows, uniqExact(wal_lsn) AS lsns FROM ${database}.${topic.table}`;
    const [found] = await client.query<{ rows: string; lsns: string }>(sql);
    expect([topic.topic, Number(found!.rows), Number(found!.lsns)]).toEqual([topic.topic, rows, rows]);
  }

  for (const kind of serverKinds.filter(({ available }) => available)) {
    test(
      `${kind.name}: connections that are cut anywhere`,
      async () => {
        const server = await kind.start();
        try {
          for (const format of ['RowBinary', 'Native'] as const) {
            rmSync(walDir, { recursive: true, force: true });
            const expected = await writeRows(24, `${kind.name} ${format} cuts`);
            const proxy = await startCuttingProxy(server.url, seededRandom(`${kind.name} ${format} proxy`));
            const events: FlusherEvent[] = [];
            const config = configFor(proxy.url, format);
            const report = (event: FlusherEvent) => events.push(event);
            const flusher = createFlusher({ config, topics: [orders, spans], report });
            flusher.start();
            const result = await flusher.drain(DRAIN_MS);
            proxy.close();
            expect(events.filter((event) => event.kind === 'failed' || event.kind === 'dead_letter')).toEqual(
              [],
            );
            expect(result).toEqual({ complete: true, left: [] });
            expect(proxy.cuts).toBeGreaterThan(3);
            for (const topic of [orders, spans])
              await expectRows(server.client, config.database, topic, expected);
          }
        } finally {
          await server.close();
        }
      },
      2 * DRAIN_MS,
    );
  }

  test.skipIf(!hasClickHouse18())(
    '18.16 is killed again and again while groups are on their way',
    async () => {
      const server = await startClickHouse18();
      try {
        const expected = await writeRows(40, 'kills');
        const config = { ...configFor(server.url, 'RowBinary'), retryMaxMs: 200 };
        const flusher = createFlusher({ config, topics: [orders, spans], report: () => {} });
        flusher.start();
        for (let kill = 0; kill < 3; kill++) {
          await Bun.sleep(60);
          await server.kill();
          await Bun.sleep(50);
          await server.restart();
        }
        expect(await flusher.drain(DRAIN_MS)).toEqual({ complete: true, left: [] });
        const client = clientOf(server.url);
        for (const topic of [orders, spans]) await expectRows(client, config.database, topic, expected);
        await client.close();
      } finally {
        await server.stop();
      }
    },
    2 * DRAIN_MS,
  );
});
