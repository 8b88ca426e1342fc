// One WAL, one server, one table that is made anew for each run: what flush and replay share.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { limits } from '../../src/limits.ts';
import type { TopicModel } from '../../src/schema/model.ts';
import { topics } from '../../src/schema/registry.ts';
import { connectClickHouse, type SinkClient } from '../../src/sink/clickhouse-client.ts';
import type { InsertFormat } from '../../src/sink/group-encoder.ts';
import { inputFile } from './inputs.ts';
import { type CurlRun, planFor, postWithCurl, writeInsertBodies } from './insert-bodies.ts';
import { prepareWal } from './prepared-wal.ts';
import type { BenchServer } from './servers.ts';

export const FORMATS: readonly InsertFormat[] = ['RowBinary', 'Native'];
export const DATABASE = 'bench';
export const TIMEOUT_MS = 60_000;
const DISTINCT_FRAMES = 50_000;

/** A WAL with rows of recorded market data. */
export interface Backlog {
  walDir: string;
  rows: number;
  /** Rows that close an insert group: there must be several, or nothing can overlap. */
  groupRows: number;
}

/** What all runs against one server share. */
export interface Scene extends Backlog {
  home: string;
  server: BenchServer;
  client: SinkClient;
  model: TopicModel;
}

/** Records rows under `home`: eight groups of the default size, or four small ones. */
export async function makeBacklog(home: string, quick: boolean): Promise<Backlog> {
  const input = await inputFile(home, 'market', DISTINCT_FRAMES);
  const [rows, groupRows] = quick ? [200_000, 50_000] : [8 * limits.flushRows, limits.flushRows];
  return { walDir: await prepareWal(home, input, rows), rows, groupRows };
}

/** Opens a scene at a server; close its client at the end. */
export function openScene(home: string, backlog: Backlog, server: BenchServer): Scene {
  const urls = [server.url];
  const client = connectClickHouse({ urls, user: 'default', password: '', timeoutMs: TIMEOUT_MS });
  const model = topics.find(({ topic }) => topic === 'market_data')!;
  const dir = join(home, server.name);
  mkdirSync(dir, { recursive: true });
  return { ...backlog, home: dir, server, client, model };
}

/** An empty table. Merges of earlier parts would be work of the server that no run has asked for. */
export async function freshTable({ client, model }: Scene): Promise<void> {
  await client.command(`DROP DATABASE IF EXISTS ${DATABASE}`);
  await planFor(client, model, DATABASE);
  await client.command(`SYSTEM STOP MERGES ${DATABASE}.${model.table}`);
}

/** Throws unless every row is there once. */
export async function checkTable({ client, model, rows }: Scene): Promise<void> {
  const counts = 'toString(count()) AS n, toString(uniqExact(wal_lsn)) AS u';
  const sql = `SELECT ${counts} FROM ${DATABASE}.${model.table}`;
  const [found] = await client.query<{ n: string; u: string }>(sql);
  if (Number(found?.n) !== rows || Number(found?.u) !== rows) {
    throw new Error(`${rows} rows were delivered, the table has ${JSON.stringify(found)}`);
  }
}

/** The limit: encodes all inserts once, then each call posts them into a fresh table and checks it. */
export async function prepareCurl(scene: Scene, format: InsertFormat): Promise<() => Promise<CurlRun>> {
  const { home, walDir, client, model, server, groupRows } = scene;
  await freshTable(scene);
  const plan = await planFor(client, model, DATABASE);
  const bodies = writeInsertBodies(home, walDir, plan, format, groupRows);
  return async () => {
    await freshTable(scene);
    const run = await postWithCurl(server.url, bodies);
    await checkTable(scene);
    return run;
  };
}
