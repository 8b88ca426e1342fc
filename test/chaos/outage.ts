// ClickHouse is down for the whole of a feed, then up: the backlog lies on disk and not in memory, and
// everything is delivered once.

import { join } from 'node:path';
import { startFaultProxy } from '../support/fault-proxy.ts';
import type { SeededRandom } from '../support/random.ts';
import { type RecorderProcess, startRecorderProcess, until } from '../support/recorder-process.ts';
import { compareStored } from '../support/stored-rows.ts';
import { startSimProducer } from './sim-producer.ts';

export interface OutageOptions {
  home: string;
  rows: number;
  random: SeededRandom;
  /** Address of the real server. */
  clickhouseUrl: string;
  database: string;
  say: (text: string) => void;
}

export interface OutageResult {
  sent: number;
  acked: number;
  clickhouse: number;
  lost: number;
  duplicated: number;
  changed: number;
  /** Most memory that the recorder has had: after a tenth of the feed, all of it, and the delivery. */
  peakMib: { early: number; fed: number; delivered: number };
  feedSeconds: number;
  deliverySeconds: number;
}

const FEED_TIMEOUT_MS = 600_000;
const DELIVERY_TIMEOUT_MS = 600_000;

/** Runs the feed against a server that refuses connections, then lets it answer. Rejects where it fails. */
export async function runOutage(options: OutageOptions): Promise<OutageResult> {
  const { home, rows, random, say, database } = options;
  const proxy = await startFaultProxy({ target: options.clickhouseUrl, random, choose: () => 'none' });
  await proxy.down();
  const recorder = await startRecorderProcess(home, {
    env: {
      HFT_CLICKHOUSE_HOST: proxy.url,
      HFT_CLICKHOUSE_DATABASE: database,
      HFT_FLUSH_RETRY_MAX_MS: '500',
      HFT_WAL_SEGMENT_BYTES: '64MiB',
      HFT_DRAIN_TIMEOUT_MS: String(DELIVERY_TIMEOUT_MS),
    },
  });
  try {
    const startedMs = performance.now();
    const peak = () => peakMibOf(recorder);
    const socket = recorder.socket;
    const producer = await startSimProducer({ socket, source: 'engine', seed: random.int(1, 1e6), rows });
    await until(
      () => producer.acked >= rows / 10,
      () => recorder.log(),
      FEED_TIMEOUT_MS,
    );
    const early = await peak();
    await until(
      () => producer.acked >= rows,
      () => recorder.log(),
      FEED_TIMEOUT_MS,
    );
    await producer.done;
    const fed = await peak();
    const fedMs = performance.now();
    say(`outage: ${rows} rows acknowledged, ClickHouse is down; the recorder's peak is ${fed} MiB`);
    await proxy.up();
    await until(
      () => recorder.log().includes('delivers again') || recorder.log().includes('delivering to'),
      () => recorder.log(),
      DELIVERY_TIMEOUT_MS,
    );
    await delivered(options.clickhouseUrl, database, rows);
    const afterMs = performance.now();
    const deliveredPeak = await peak();
    const end = await recorder.end('SIGTERM');
    if (end.code !== 0) throw new Error(`the recorder ended with ${end.code}:\n${recorder.log()}`);
    const stored = await compareStored(options.clickhouseUrl, database, [producer.expected()]);
    return {
      sent: producer.sent,
      acked: producer.acked,
      clickhouse: stored.clickhouse,
      lost: stored.lost,
      duplicated: stored.duplicated,
      changed: stored.changed + stored.foreign,
      peakMib: { early, fed, delivered: deliveredPeak },
      feedSeconds: Number(((fedMs - startedMs) / 1000).toFixed(1)),
      deliverySeconds: Number(((afterMs - fedMs) / 1000).toFixed(1)),
    };
  } finally {
    await recorder.end('SIGKILL');
    await proxy.close();
  }
}

/** Waits until the server has at least so many rows of the engine. */
async function delivered(url: string, database: string, rows: number): Promise<void> {
  const where = `database = '${database}' AND active`;
  const body = `SELECT sum(rows) FROM system.parts WHERE ${where} FORMAT TabSeparated`;
  const count = async () =>
    Number(await (await fetch(url, { method: 'POST', body, keepalive: false })).text());
  await until(async () => (await count()) >= rows, 'not all rows were delivered', DELIVERY_TIMEOUT_MS);
}

/** VmHWM of the recorder. */
async function peakMibOf({ pid }: RecorderProcess): Promise<number> {
  const status = await Bun.file(join('/proc', String(pid), 'status')).text();
  return Math.round(Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) / 1024);
}
