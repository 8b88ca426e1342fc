// A ClickHouse server killed between noting a deduplication token and committing the part: it comes back
// with the token and without the rows, and calls the next attempt at the group a duplicate. Made here by
// taking the part away while the server is stopped.

import { expect, test } from 'bun:test';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { topicByName } from '../../src/schema/registry.ts';
import { createFlusher } from '../../src/sink/flusher.ts';
import type { FlusherEvent } from '../../src/sink/flusher-types.ts';
import { startTestServer } from '../support/embedded.ts';
import { seededRandom } from '../support/random.ts';
import { clientOf, flusherConfigFor, TIMEOUT_MS } from './servers.ts';
import { randomRow, writeWal } from './wal-fixture.ts';

const ROWS = 50;
const random = seededRandom('spent token');
const spans = topicByName('latency_spans')!;

/** Delivers everything to the server that runs on the data in `path`; rows there in the end. */
async function deliver(path: string, walDir: string): Promise<{ rows: number; events: FlusherEvent[] }> {
  const server = await startTestServer({ path });
  const client = clientOf(server.url);
  const events: FlusherEvent[] = [];
  const flusher = createFlusher({
    config: flusherConfigFor(server.url, { walDir, database: 'spent' }),
    topics: [spans],
    report: (event) => events.push(event),
  });
  flusher.start();
  expect((await flusher.drain(TIMEOUT_MS)).complete).toBe(true);
  const [row] = await client.query<{ rows: string }>(`SELECT count() AS rows FROM spent.${spans.table}`);
  await client.close();
  await server.stop();
  return { rows: Number(row!.rows), events };
}

test('a token whose rows died with the server does not make the server keep them out', async () => {
  const walDir = mkdtempSync(join(tmpdir(), 'recorder-spent-wal-'));
  const path = mkdtempSync(join(tmpdir(), 'recorder-spent-clickhouse-'));
  try {
    const rows = Array.from({ length: ROWS }, () => randomRow(spans, random));
    const now = BigInt(Date.now()) * 1_000_000n;
    await writeWal(walDir, [spans], [{ topic: spans, rows, ingestTs: () => now }]);
    expect((await deliver(path, walDir)).rows).toBe(ROWS);

    const parts = readdirSync(join(path, 'store'), { recursive: true }).map(String);
    const part = parts.filter((name) => /\/\d{6,8}_1_1_0$/.test(name));
    expect(part.length).toBe(1);
    rmSync(join(path, 'store', part[0]!), { recursive: true });
    // The recorder has not heard of the insert's end.
    const log = join(walDir, 'flush.log');
    const lines = readFileSync(log, 'utf8').split('\n');
    writeFileSync(log, lines.filter((line) => !/"type":"(close|state)"/.test(line)).join('\n'));

    const again = await deliver(path, walDir);
    expect(again.rows).toBe(ROWS);
    expect(JSON.stringify(again.events.filter(({ kind }) => kind === 'retry'))).toContain('knows the token');
    expect((await deliver(path, walDir)).rows).toBe(ROWS);
  } finally {
    rmSync(walDir, { recursive: true });
    rmSync(path, { recursive: true });
  }
}, 120_000);
