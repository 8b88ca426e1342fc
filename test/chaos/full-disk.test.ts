// A WAL on a disk that is really full: a small tmpfs. Needs the right to mount.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startTestServer, type TestServer } from '../support/embedded.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { seededRandom } from '../support/random.ts';
import { type RecorderProcess, reconcile, startRecorderProcess, until } from '../support/recorder-process.ts';
import { compareStored } from '../support/stored-rows.ts';
import { type SimProducer, startSimProducer } from './sim-producer.ts';

const random = seededRandom('full disk');
const DISK_BYTES = 96 << 20;
const ROWS = 100_000;
const TIMEOUT_MS = 180_000;

/** Mounts a tmpfs; null where that is not allowed. */
function mountDisk(): string | null {
  const path = mkdtempSync(join(tmpdir(), 'recorder-disk-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'tmpfs', path]);
  if (mounted.status === 0) return path;
  rmSync(path, { recursive: true });
  return null;
}

function unmount(path: string): void {
  spawnSync('umount', ['-l', path]);
  rmSync(path, { recursive: true, force: true });
}

function canMount(): boolean {
  const path = mountDisk();
  if (path === null) {
    process.stderr.write(
      '\n*** SKIPPED: the tests of a full disk need the right to mount a tmpfs (root)\n\n',
    );
    return false;
  }
  unmount(path);
  return true;
}

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

describe.skipIf(!canMount())('full disk', () => {
  let server: TestServer;
  let disk: string;
  beforeAll(async () => {
    server = await startTestServer();
  }, 60_000);
  afterAll(() => server.close(), 30_000);

  /** Fills the disk until `room` bytes are left. */
  function fillDisk(room: number): void {
    const { bavail, bsize } = statfsSync(disk);
    writeFileSync(join(disk, 'ballast'), new Uint8Array(Math.max(0, bavail * bsize - room)));
  }

  async function scenario(
    database: string,
    room: number,
    makeSpace: (proxy: { up(): Promise<void> }) => Promise<void>,
  ): Promise<void> {
    disk = mountDisk()!;
    const home = join(disk, 'home');
    mkdirSync(home);
    fillDisk(room);
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
      unmount(disk);
    }
  }

  test(
    'recording stops, says why, and goes on by itself when an operator makes space',
    async () => {
      await scenario('full_disk_operator', 20 << 20, async (proxy) => {
        rmSync(join(disk, 'ballast'));
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
