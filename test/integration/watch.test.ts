// A recorder as its operator sees it: HTTP, metrics, health, disk pressure.

import { afterAll, expect, test } from 'bun:test';
import { mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectProducer } from '../../src/feed/producer.ts';
import type { Live } from '../../src/observe/dashboard/live.ts';
import { createFrameBuilder } from '../../src/schema/build-frame.ts';
import { topicByName } from '../../src/schema/registry.ts';
import {
  type RecorderProcess,
  recorderCommand,
  run,
  startRecorderProcess,
  temporaryHome,
  until,
} from '../support/recorder-process.ts';
import { canMountDisk, mountDisk } from '../support/small-disk.ts';

const TIMEOUT_MS = 60_000;
const home = temporaryHome();
const running: RecorderProcess[] = [];
afterAll(async () => {
  for (const recorder of running) if (recorder.alive()) await recorder.end('SIGKILL');
  home[Symbol.dispose]();
}, TIMEOUT_MS);

async function start(path: string, env: Record<string, string> = {}) {
  mkdirSync(path, { recursive: true });
  const recorder = await startRecorderProcess(path, { env: { HFT_RECORDER_HTTP: '127.0.0.1:0', ...env } });
  running.push(recorder);
  const url = /metrics and health on (\S+)/.exec(recorder.log())![1]!;
  return { recorder, url };
}

/** Sends rows of the topics and returns when all are acknowledged. */
async function send(recorder: RecorderProcess, session: string, rows: readonly string[]): Promise<void> {
  const producer = await connectProducer({ path: recorder.socket, session: { source: 'test', session } });
  const frames = new Map(
    [...new Set(rows)].map((topic) => [topic, createFrameBuilder(topicByName(topic)!).build({})]),
  );
  for (const topic of rows) if (!producer.send(frames.get(topic)!)) await producer.ready();
  await producer.close();
}

async function metricsOf(url: string): Promise<Map<string, number>> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

interface Health {
  state: string;
  conditions: { tag: string; subject: string; state: string; count: number; command: string }[];
}

const healthOf = async (url: string) => (await (await fetch(`${url}/health`)).json()) as Health;

async function untilHealth(url: string, state: string): Promise<Health> {
  let health: Health | null = null;
  await until(
    async () => {
      health = await healthOf(url);
      return health.state === state;
    },
    () => `health ${state}, is ${JSON.stringify(health)}`,
  );
  return health!;
}

test(
  'counts are those of what was sent; without a flusher there is no metric of delivery',
  async () => {
    const { recorder, url } = await start(join(home.path, 'counts'));
    await send(recorder, 'one', [...Array(300).fill('market_data'), ...Array(20).fill('fills')]);
    const metrics = await metricsOf(url);
    for (const stage of ['received', 'logged', 'durable']) {
      expect(metrics.get(`recorder_${stage}_rows_total{topic="market_data"}`)).toBe(300);
      expect(metrics.get(`recorder_${stage}_rows_total{topic="fills"}`)).toBe(20);
    }
    expect(metrics.get('recorder_durable_seconds_count{topic="fills"}')).toBeGreaterThan(0);
    expect(metrics.get('recorder_health_state{state="healthy"}')).toBe(1);
    expect([...metrics.keys()].filter((name) => /inserted|lag|dead_letter_rows/.test(name))).toEqual([]);
    expect(await (await fetch(`${url}/health/live`)).json()).toEqual({ live: true });
    expect(await (await fetch(`${url}/health/ready`)).json()).toEqual({ ready: true, reasons: [] });
    const status = (await (await fetch(`${url}/status`)).json()) as { topics: unknown };
    expect(status.topics).toMatchObject({ fills: { received: 20, logged: 20 } });
    expect((await recorder.end('SIGTERM')).code).toBe(0);
  },
  TIMEOUT_MS,
);

test(
  'an unreachable server: degraded, lag in the metrics, one line in the log, a row in risk_log',
  async () => {
    const path = join(home.path, 'unreachable');
    const env = { HFT_CLICKHOUSE_HOST: 'http://127.0.0.1:9', HFT_DRAIN_TIMEOUT_MS: '100' };
    const { recorder, url } = await start(path, env);
    const health = await untilHealth(url, 'degraded');
    expect(health.conditions[0]).toMatchObject({ tag: 'clickhouse_unreachable', state: 'degraded' });
    expect(health.conditions[0]!.command).toContain('http://127.0.0.1:9/ping');
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
    // The row itself waits to be delivered.
    await recorder.logged(/health healthy → degraded/);
    await until(
      async () => (await metricsOf(url)).get('recorder_received_rows_total{topic="risk_log"}') === 1,
      '1 row',
    );
    expect(recorder.log().match(/health healthy → degraded/g)).toHaveLength(1);
    await recorder.end('SIGTERM');
    const dump = await run(['wal', 'dump', recorder.walDir, '--topic', 'risk_log']);
    expect(JSON.parse(dump.output.trim().split('\n')[0]!)).toMatchObject({
      source: 'recorder',
      rule: 'health',
      reason_code: 'clickhouse_unreachable',
      value: 1,
    });
  },
  TIMEOUT_MS,
);

test(
  'a full WAL: market data is dropped and counted, fills are recorded, the loss holds until acknowledged',
  async () => {
    const path = join(home.path, 'full');
    // Two segments are there from the beginning: the bound is exceeded at once.
    const env = { HFT_WAL_MAX_BYTES: '9MiB', HFT_WAL_FULL_POLICY_MARKET_DATA: 'drop' };
    const first = await start(path, env);
    await untilHealth(first.url, 'critical');
    await first.recorder.logged(/stopped: .*market_data \(dropped\)/);
    await send(first.recorder, 'one', [...Array(50).fill('market_data'), ...Array(5).fill('fills')]);
    await untilHealth(first.url, 'data_loss');
    const metrics = await metricsOf(first.url);
    expect(metrics.get('recorder_shed_rows_total{topic="market_data",cause="disk"}')).toBe(50);
    expect(metrics.get('recorder_durable_rows_total{topic="market_data"}')).toBe(0);
    expect(metrics.get('recorder_durable_rows_total{topic="fills"}')).toBe(5);
    expect(metrics.get('recorder_disk_level{level="halt"}')).toBe(1);
    await first.recorder.end('SIGTERM');

    const second = await start(path);
    const { conditions } = await untilHealth(second.url, 'data_loss');
    expect(conditions).toMatchObject([{ tag: 'rows_shed', subject: 'market_data/disk', count: 50 }]);
    await send(second.recorder, 'two', ['market_data']);
    expect((await metricsOf(second.url)).get('recorder_durable_rows_total{topic="market_data"}')).toBe(1);
    const acknowledge = { method: 'POST', headers: { 'x-recorder-action': 'acknowledge' } };
    expect((await fetch(`${second.url}/health/acknowledge`, acknowledge)).status).toBe(200);
    await untilHealth(second.url, 'healthy');
    await second.recorder.end('SIGTERM');
    const third = await start(path);
    expect((await healthOf(third.url)).state).toBe('healthy');
    await third.recorder.end('SIGTERM');
  },
  TIMEOUT_MS,
);

test(
  'a loader shows what waits in the WAL, and that its server is not there',
  async () => {
    const { recorder } = await start(join(home.path, 'loader'), { HFT_RECORDER_MODE: 'wal_first' });
    await send(recorder, 'one', [...Array(30).fill('market_data'), ...Array(20).fill('fills')]);
    const env = {
      HFT_WAL_DIR: recorder.walDir,
      HFT_CLICKHOUSE_HOST: 'http://127.0.0.1:9',
      HFT_LOADER_HTTP: '127.0.0.1:0',
      HFT_LOG_LEVEL: 'info',
      HFT_DRAIN_TIMEOUT_MS: '100',
    };
    const log = join(home.path, 'loader.log');
    const stderr = openSync(log, 'w');
    const loader = Bun.spawn([...recorderCommand, 'load'], { env: { ...process.env, ...env }, stderr });
    try {
      const found = () => /metrics and health on (http:[^"\s]+)"/.exec(readFileSync(log, 'utf8'))?.[1];
      const url = await until(found, () => readFileSync(log, 'utf8'), 8000);
      const lagOf = async (topic: string) =>
        (await metricsOf(url)).get(`recorder_lag_rows{topic="${topic}"}`);
      await until(async () => (await lagOf('fills')) === 20, 'lag of fills');
      expect(await lagOf('market_data')).toBe(30);
      expect((await metricsOf(url)).get('recorder_inserted_rows_total{topic="fills"}')).toBe(0);
      expect((await untilHealth(url, 'degraded')).conditions[0]!.tag).toBe('clickhouse_unreachable');
      const live = (await (await fetch(`${url}/api/live`)).json()) as Live;
      expect(live).toMatchObject({ delivery: 'on', identity: { mode: 'load', walDir: recorder.walDir } });
      expect(live.values['recorder_lag_rows']).toMatchObject({ fills: 20, market_data: 30 });
      const tapped = (await (await fetch(`${url}/api/tap?topic=fills`)).json()) as {
        rows: { seq: string }[];
      };
      expect(tapped.rows.map(({ seq }) => Number(seq))).toEqual([
        50, 49, 48, 47, 46, 45, 44, 43, 42, 41, 40, 39,
      ]);
      expect((await fetch(url)).headers.get('content-type')).toContain('text/html');
    } finally {
      loader.kill('SIGTERM');
      await loader.exited;
      await recorder.end('SIGTERM');
    }
  },
  TIMEOUT_MS,
);

test(
  'an address that was asked for and does not work ends the start, and says why',
  async () => {
    using server = Bun.serve({ port: 0, hostname: '127.0.0.1', fetch: () => new Response('') });
    const args = ['serve', '--socket', join(home.path, 's2'), '--wal-dir', join(home.path, 'wal2')];
    const inUse = await run([...args, '--http', `127.0.0.1:${server.port}`]);
    expect([inUse.code, inUse.errors]).toEqual([1, expect.stringContaining('is in use')]);
    const open = await run([...args, '--http', '0.0.0.0:0']);
    expect([open.code, open.errors]).toEqual([1, expect.stringContaining('needs a token')]);
  },
  TIMEOUT_MS,
);

test.skipIf(!canMountDisk())(
  'a disk filled from outside, policy drop: market data is dropped and counted, fills go on',
  async () => {
    const MIB = 2 ** 20;
    const disk = mountDisk(64 * MIB)!;
    try {
      const { recorder, url } = await start(disk.path, {
        HFT_WAL_SEGMENT_BYTES: '4MiB',
        HFT_DISK_WARN_BYTES: '32MiB',
        HFT_DISK_CRITICAL_BYTES: '16MiB',
        HFT_DISK_HALT_BYTES: '4MiB',
        HFT_WAL_RESERVE_BYTES: '0',
        HFT_WAL_FULL_POLICY_MARKET_DATA: 'drop',
      });
      const level = async () => {
        const metrics = await metricsOf(url);
        return ['ok', 'warn', 'critical', 'halt'].find(
          (name) => metrics.get(`recorder_disk_level{level="${name}"}`) === 1,
        );
      };
      const atLevel = (name: string) => until(async () => (await level()) === name, `level ${name}`);
      let sent = 0;
      const recorded = async () => {
        await send(recorder, `s${sent++}`, ['market_data', 'fills']);
        const metrics = await metricsOf(url);
        return ['market_data', 'fills'].map((topic) =>
          metrics.get(`recorder_durable_rows_total{topic="${topic}"}`),
        );
      };
      expect(await recorded()).toEqual([1, 1]);
      disk.fill(24 * MIB);
      await atLevel('warn');
      expect(await recorded()).toEqual([2, 2]);
      disk.fill(12 * MIB);
      await atLevel('critical');
      expect(await recorded()).toEqual([2, 3]);
      disk.fill(0);
      await atLevel('halt');
      expect(await recorded()).toEqual([2, 4]);
      disk.empty();
      await atLevel('ok');
      expect(await recorded()).toEqual([3, 5]);
      const changes = await metricsOf(url);
      for (const name of ['warn', 'critical', 'halt', 'ok'])
        expect(changes.get(`recorder_disk_level_changes_total{level="${name}"}`)).toBe(1);
      expect(recorder.log().match(/disk level (warn|critical|halt)/g)).toHaveLength(4);
      expect((await healthOf(url)).conditions).toMatchObject([{ tag: 'rows_shed', count: 2 }]);
      expect((await recorder.end('SIGTERM')).code).toBe(0);
    } catch (error) {
      process.stderr.write(`${running.at(-1)?.log()}\n`);
      throw error;
    } finally {
      disk.unmount();
    }
  },
  TIMEOUT_MS,
);
