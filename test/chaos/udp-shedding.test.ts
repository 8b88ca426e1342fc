// More datagrams than the disk takes: what is shed is shed by priority, and is counted row by row. A real
// recorder on a real disk that is really full.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { connectUdpProducer } from '../../src/feed/udp-producer.ts';
import { createFrameBuilder } from '../../src/schema/build-frame.ts';
import { topicByName } from '../../src/schema/registry.ts';
import { startTestServer, type TestServer } from '../support/embedded.ts';
import { reconcile, sqlValue, startRecorderProcess, until } from '../support/recorder-process.ts';
import { canMountDisk, mountDisk } from '../support/small-disk.ts';

const MIB = 2 ** 20;
const TIMEOUT_MS = 120_000;
/** The least important first. */
const TOPICS = ['latency_spans', 'market_data', 'backtest_runs', 'risk_log', 'orders', 'fills'] as const;
/** Not a topic a topic: the bulk is market data, as on a real feed. */
const CYCLE = [...TOPICS, ...Array<(typeof TOPICS)[number]>(6).fill('market_data')];
const ROWS = 96_000;

describe.skipIf(!canMountDisk())('datagrams', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer();
  }, 60_000);
  afterAll(() => server.close(), 30_000);

  test(
    'shed for lack of memory are counted by topic, market data before fills, and all else is stored',
    async () => {
      const disk = mountDisk(48 * MIB)!;
      const home = join(disk.path, 'home');
      mkdirSync(home);
      const recorder = await startRecorderProcess(home, {
        flags: ['--udp', 'feed=127.0.0.1:0'],
        env: {
          HFT_CLICKHOUSE_HOST: server.url,
          HFT_CLICKHOUSE_DATABASE: 'shed',
          HFT_WAL_SEGMENT_BYTES: '2MiB',
          HFT_WAL_RESERVE_BYTES: '0',
          HFT_BATCH_ROWS: '256',
          HFT_MEMORY_MAX_BYTES: '12MiB',
          // No level: nothing stops for the disk, so that memory has to give.
          HFT_DISK_WARN_BYTES: '0',
          HFT_DISK_CRITICAL_BYTES: '0',
          HFT_DISK_HALT_BYTES: '0',
        },
      });
      const url = /metrics and health on (\S+)/.exec(recorder.log())![1]!;
      const producer = await connectUdpProducer({
        lines: [{ host: '127.0.0.1', port: recorder.udpPorts[0]! }],
        session: 'SHED',
        datagramsPerSecond: 4000,
      });
      const shedRows = async () => {
        const text = await (await fetch(`${url}/metrics`)).text();
        const rows = [...text.matchAll(/^recorder_shed_rows_total\{topic="(\w+)",cause="memory"\} (\d+)/gm)];
        return new Map(rows.map(([, topic, count]) => [topic!, Number(count)]));
      };
      try {
        disk.fill(0);
        const text = 'x'.repeat(200);
        const frames = new Map(
          TOPICS.map((topic) => {
            const row = { symbol: text, strategy_id: text, trace_id: text };
            return [topic, createFrameBuilder(topicByName(topic)!).build(row)];
          }),
        );
        const sent = new Map<string, number>(TOPICS.map((topic) => [topic, 0]));
        const seen: Map<string, number>[] = [];
        for (let i = 0; i < ROWS; i++) {
          const topic = CYCLE[i % CYCLE.length]!;
          sent.set(topic, sent.get(topic)! + 1);
          if (!producer.send(frames.get(topic)!)) await producer.ready();
          if (i % 2000 === 0) seen.push(await shedRows());
        }
        producer.sendHeartbeat();
        seen.push(await shedRows());
        disk.empty();
        await until(async () => (await fetch(`${url}/health/ready`)).ok, 'ready again');
        await producer.close();
        // One more datagram's worth of everything has been read by now: the counts stand still.
        const received = async () => {
          const metrics = await (await fetch(`${url}/metrics`)).text();
          const rows = [...metrics.matchAll(/^recorder_received_rows_total\{topic="(\w+)"\} (\d+)/gm)];
          return rows.reduce((sum, [, topic, n]) => sum + (sent.has(topic!) ? Number(n) : 0), 0);
        };
        await until(async () => (await received()) >= ROWS, 'all were received');
        const shed = await shedRows();
        // Health counts them too, when it looks next.
        const told = async () => {
          const { conditions } = (await (await fetch(`${url}/health`)).json()) as {
            conditions: { tag: string; subject: string; count: number }[];
          };
          const toldOf = (topic: string) =>
            conditions.find(({ subject }) => subject === `${topic}/memory`)?.count ?? 0;
          return TOPICS.every((topic) => toldOf(topic) === shed.get(topic)!);
        };
        await until(told, 'health says what was shed');
        expect((await recorder.end('SIGTERM')).code).toBe(0);

        // Whenever one was shed, those that matter less were shed already.
        for (const counts of seen)
          for (const [rank, topic] of TOPICS.entries())
            if ((counts.get(topic) ?? 0) > 0)
              for (const lesser of TOPICS.slice(0, rank)) expect(counts.get(lesser)).toBeGreaterThan(0);
        expect(shed.get('market_data')).toBeGreaterThan(1000);
        const share = (topic: string) => shed.get(topic)! / sent.get(topic)!;
        expect(share('fills')).toBeLessThan(share('market_data'));
        for (const [topic, rows] of sent) {
          const { table } = topicByName(topic)!;
          const count = `SELECT count() FROM shed.${table} WHERE source = 'feed'`;
          const stored = Number(await sqlValue(server.url, count));
          expect({ topic, lost: rows - stored }).toEqual({ topic, lost: shed.get(topic)! });
        }
        const flags = ['--clickhouse-host', server.url, '--clickhouse-database', 'shed'];
        const { json } = await reconcile(recorder.walDir, ...flags);
        expect(json).toMatchObject({ gaps: 0, duplicated: 0, pending: 0, inserted: json.logged });
      } catch (error) {
        process.stderr.write(`${recorder.log()}\n`);
        throw error;
      } finally {
        await producer.close(false);
        await recorder.end('SIGKILL');
        disk.unmount();
      }
    },
    TIMEOUT_MS,
  );
});
