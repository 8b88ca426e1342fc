// A WAL on a disk that is really full: a small tmpfs. Needs the right to mount.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { startTestServer, type TestServer } from '../support/embedded.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { seededRandom } from '../support/random.ts';
import { type RecorderProcess, reconcile, startRecorderProcess, until } from '../support/recorder-process.ts';
import { canMountDisk, mountDisk, type SmallDisk } from '../support/small-disk.ts';
import { compareStored } from '../support/stored-rows.ts';
import { type SimProducer, startSimProducer } from './sim-producer.ts';

const random = seededRandom('full disk');
const DISK_BYTES = 96 << 20;
const ROWS = 100_000;
const TIMEOUT_MS = 180_000;

/** Waits until nothing has been acknowledged for a while although producers have more to send. */
async function stalled(producers: readonly SimProducer[], recorder: RecorderProcess): Promise<number> {
  const acked = () => producers.reduce((sum, producer) => sum + producer.acked, 0);
  for (let before = -1; before !== acked(); ) {
    before = acked();
    await Bun.sleep(1500);
  }
  expect(recorder.alive()).toBe(true);
  return acked();
}

describe.skipIf(!canMountDisk())('full disk', () => {
  let server: TestServer;
  let disk: SmallDisk;
  beforeAll(async () => {
    server = await startTestServer();
  }, 60_000);
  afterAll(() => server.close(), 30_000);

  async function scenario(
    database: string,
    room: number,
    makeSpace: (proxy: { up(): Promise<void> }) => Promise<void>,
  ): Promise<void> {
    disk = mountDisk(DISK_BYTES)!;
    const home = join(disk.path, 'home');
    mkdirSync(home);
    disk.fill(room);
    const proxy = await startFaultProxy({ target: server.url, random, choose: () => 'none' });
    await proxy.down();
    const recorder = await startRecorderProcess(home, {
      env: {
        HFT_CLICKHOUSE_HOST: proxy.url,
        HFT_CLICKHOUSE_DATABASE: database,
        HFT_WAL_SEGMENT_BYTES: '4MiB',
        HFT_WAL_RETAIN_CHECK_MS: '100',
        HFT_WAL_RETAIN_MS: '0',
        HFT_FLUSH_RETRY_MAX_MS: '300',
        HFT_RECORDER_HTTP: '',
        // No level: nothing is held back before the last byte.
        HFT_DISK_WARN_BYTES: '0',
        HFT_DISK_CRITICAL_BYTES: '0',
        HFT_DISK_HALT_BYTES: '0',
      },
    });
    const producers: SimProducer[] = [];
    try {
      for (const index of [1, 2, 3]) {
        const options = { socket: recorder.socket, source: `engine-${index}`, rows: ROWS };
        producers.push(await startSimProducer({ ...options, seed: random.int(1, 1e6) }));
      }
      const ackedWhenFull = await stalled(producers, recorder);
      expect(ackedWhenFull).toBeGreaterThan(0);
      expect(ackedWhenFull).toBeLessThan(3 * ROWS);
      expect(recorder.log()).toContain('ENOSPC');

      await makeSpace(proxy);
      await until(
        () => producers.every(({ acked }) => acked === ROWS),
        () => `${producers.map(({ acked }) => acked)}\n${recorder.log()}`,
        60_000,
      );
      await Promise.all(producers.map(({ done }) => done));
      await proxy.up().catch(() => undefined);
      expect(await recorder.end('SIGTERM')).toMatchObject({ code: 0 });
      const report = await compareStored(
        server.url,
        database,
        producers.map((one) => one.expected()),
      );
      expect(report).toMatchObject({ clickhouse: 3 * ROWS, lost: 0, duplicated: 0, changed: 0, foreign: 0 });
      const flags = ['--clickhouse-host', server.url, '--clickhouse-database', database];
      expect((await reconcile(recorder.walDir, ...flags)).json).toMatchObject({ lost: 0, duplicated: 0 });
    } finally {
      for (const producer of producers) producer.abort();
      await recorder.end('SIGKILL');
      await proxy.close();
      disk.unmount();
    }
  }

  test(
    'recording stops, says why, and goes on by itself when an operator makes space',
    async () => {
      await scenario('full_disk_operator', 20 << 20, async (proxy) => {
        disk.empty();
        await Bun.sleep(500);
        await proxy.up();
      });
    },
    TIMEOUT_MS,
  );

  for (const room of [24 << 20, (26 << 20) + 4096]) {
    test(
      `delivered segments go when ClickHouse is back: ${room} bytes of disk are enough`,
      async () => {
        await scenario(`full_disk_${room}`, room, (proxy) => proxy.up());
      },
      TIMEOUT_MS,
    );
  }
});
