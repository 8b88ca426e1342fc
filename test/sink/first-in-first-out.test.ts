// What lay in the WAL first is delivered first, and a drain of a WAL that grows comes to an end.

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { topicByName, topics } from '../../src/schema/registry.ts';
import type { InsertRequest, SinkClient } from '../../src/sink/clickhouse-client.ts';
import { createFlusher } from '../../src/sink/flusher.ts';
import { startTestServer, type TestServer } from '../support/embedded.ts';
import { seededRandom } from '../support/random.ts';
import { clientOf, flusherConfigFor } from './servers.ts';
import { randomRow, writeWal } from './wal-fixture.ts';

const random = seededRandom('first-in-first-out');
const used = [topicByName('gaps')!, topicByName('latency_spans')!];
const NOW_NS = BigInt(Date.now()) * 1_000_000n;
let server: TestServer;
let walDir: string;

beforeAll(async () => {
  server = await startTestServer();
  walDir = mkdtempSync(join(tmpdir(), 'recorder-fifo-'));
}, 60_000);
afterAll(async () => {
  await server.close();
  rmSync(walDir, { recursive: true, force: true });
}, 30_000);

const append = (rows: number) =>
  writeWal(
    walDir,
    topics,
    used.map((topic) => ({
      topic,
      rows: Array.from({ length: rows }, () => randomRow(topic, random)),
      ingestTs: () => NOW_NS,
    })),
  );

/** A flusher, and the first LSN of every group of a topic in the order in which they were sent. */
function makeFlusher(onInsert: () => Promise<void> = async () => {}) {
  const sent = new Map<string, number[]>(used.map(({ topic }) => [topic, []]));
  const connect = (): SinkClient => {
    const client = clientOf(server.url);
    const insert = async (request: InsertRequest) => {
      const [, topic, lsns] = request.settings['insert_deduplication_token']!.split(':');
      sent.get(topic!)!.push(Number(lsns!.split('-')[0]));
      await onInsert();
      await client.insert(request);
    };
    return Object.create(client, { insert: { value: insert } }) as SinkClient;
  };
  const flusher = createFlusher({
    config: flusherConfigFor(server.url, {
      walDir,
      database: 'fifo',
      format: 'Native',
      flushRows: 10,
      flushIntervalMs: 20,
    }),
    topics: used,
    report: () => {},
    connect,
  });
  flusher.start();
  return { flusher, sent };
}

test('rows of earlier runs are delivered in the order of the WAL, before those of later ones', async () => {
  await append(35);
  await append(25);
  const { flusher, sent } = makeFlusher();
  while (flusher.stats().topics[0]?.insertedRows !== 60n) await Bun.sleep(5);
  await append(15);
  expect((await flusher.drain(20_000)).complete).toBe(true);
  for (const lsns of sent.values()) {
    expect(lsns.length).toBeGreaterThanOrEqual(8);
    expect(lsns).toEqual(lsns.toSorted((a, b) => a - b));
  }
}, 60_000);

test('a drain delivers what was durable when it was asked for, and leaves the rest', async () => {
  await append(20);
  let grown = 0;
  // The WAL grows faster than it is delivered.
  const { flusher } = makeFlusher(async () => {
    if (grown++ < 40) await append(30);
  });
  while (flusher.stats().topics.length === 0) await Bun.sleep(1);
  const result = await flusher.drain(20_000);
  expect(result).toEqual({ complete: true, left: [] });
  expect(grown).toBeLessThan(40);
  const { flusher: next } = makeFlusher();
  expect((await next.drain(20_000)).complete).toBe(true);
  const rows = await clientOf(server.url).query<{ rows: string; lsns: string }>(
    'SELECT count() AS rows, uniqExact(wal_lsn) AS lsns FROM fifo.gaps',
  );
  expect(Number(rows[0]!.rows)).toBe(75 + 20 + grown * 30);
  expect(rows[0]!.lsns).toBe(rows[0]!.rows);
}, 60_000);
