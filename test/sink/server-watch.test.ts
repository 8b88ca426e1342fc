// A server that goes away, or hangs, is noticed while its requests wait; one that is back ends every wait.
// The pauses and time-outs of these tests are longer than the tests: only the look at the server ends them.

import { afterAll, beforeAll, beforeEach, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { topicByName } from '../../src/schema/registry.ts';
import { createFlusher, type Flusher } from '../../src/sink/flusher.ts';
import type { FlusherEvent } from '../../src/sink/flusher-types.ts';
import { startTestServer, type TestServer } from '../support/embedded.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { seededRandom } from '../support/random.ts';
import { until } from '../support/recorder-process.ts';
import { clientOf, flusherConfigFor } from './servers.ts';
import { randomRow, writeWal } from './wal-fixture.ts';

const NEVER_MS = 600_000;
const random = seededRandom('server watch');
const spans = topicByName('latency_spans')!;
const NOW_NS = BigInt(Date.now()) * 1_000_000n;

let server: TestServer;
let proxy: FaultProxy;
let walDir: string;
let events: FlusherEvent[];
let databases = 0;

beforeAll(async () => {
  server = await startTestServer();
  proxy = await startFaultProxy({ target: server.url, random, choose: () => 'none' });
}, 60_000);
afterAll(async () => {
  await proxy.close();
  await server.close();
}, 30_000);
beforeEach(() => {
  events = [];
  proxy.choose = () => 'none';
});

async function withFlusher(action: (flusher: Flusher, database: string) => Promise<void>): Promise<void> {
  walDir = mkdtempSync(join(tmpdir(), 'recorder-watch-'));
  const database = `watched_${databases++}`;
  const flusher = createFlusher({
    config: flusherConfigFor(proxy.url, {
      walDir,
      clickhouse: { urls: [proxy.url], user: 'default', password: '', timeoutMs: NEVER_MS },
      database,
      maxRetries: 3,
      retryBaseMs: NEVER_MS,
      retryMaxMs: NEVER_MS,
    }),
    topics: [spans],
    report: (event) => events.push(event),
    random: () => 1,
  });
  try {
    await append(5);
    flusher.start();
    await action(flusher, database);
  } finally {
    await flusher.stop();
    rmSync(walDir, { recursive: true, force: true });
  }
}

const append = (rows: number) => {
  const content = Array.from({ length: rows }, () => randomRow(spans, random));
  return writeWal(walDir, [spans], [{ topic: spans, rows: content, ingestTs: () => NOW_NS }]);
};
const said = (kind: FlusherEvent['kind']) =>
  until(
    () => events.find((event) => event.kind === kind),
    () => `${kind} is not among ${JSON.stringify(events, (_, value) => String(value))}`,
    20_000,
  );
const inserted = (flusher: Flusher, rows: bigint) =>
  until(() => flusher.stats().topics[0]?.insertedRows === rows, 'the rows did not arrive', 20_000);

test('a server that is down when the flusher starts, and then comes', async () => {
  await proxy.down();
  await withFlusher(async (flusher) => {
    const silent = await said('silent');
    expect(silent).toMatchObject({ url: proxy.url });
    await proxy.up();
    await said('answers');
    await inserted(flusher, 5n);
  });
}, 60_000);

test('a server that goes down between two groups ends no pause before it is back', async () => {
  await withFlusher(async (flusher) => {
    await inserted(flusher, 5n);
    await proxy.down();
    await append(3);
    await said('silent');
    expect(flusher.stats().topics[0]!.state).toBe('retrying');
    await proxy.up();
    await inserted(flusher, 8n);
    expect(events.filter(({ kind }) => kind === 'silent')).toHaveLength(1);
  });
}, 60_000);

test('a server that hangs is noticed within its first insert, and asked again when it is back', async () => {
  await withFlusher(async (flusher, database) => {
    await inserted(flusher, 5n);
    proxy.choose = () => 'hang_before_answer';
    await append(3);
    const silent = await said('silent');
    expect((silent as { message: string }).message).toContain('does not answer since');
    expect(events.some(({ kind }) => kind === 'retry')).toBe(false);
    proxy.choose = () => 'none';
    await said('answers');
    await inserted(flusher, 8n);
    const sql = `SELECT count() AS rows, uniqExact(wal_lsn) AS lsns FROM ${database}.${spans.table}`;
    const client = clientOf(server.url);
    expect(await client.query<object>(sql)).toEqual([{ rows: '8', lsns: '8' }]);
    await client.close();
  });
}, 60_000);

test('an insert that takes long on a server that answers is no alarm', async () => {
  await withFlusher(async (flusher) => {
    await inserted(flusher, 5n);
    let held = 0;
    proxy.choose = ({ isInsert }) => (isInsert && held++ === 0 ? 'hang_before_answer' : 'none');
    await append(3);
    await until(() => held === 1, 'no insert came', 10_000);
    await Bun.sleep(2_500);
    expect(events.filter(({ kind }) => kind === 'silent' || kind === 'retry')).toEqual([]);
  });
}, 60_000);
