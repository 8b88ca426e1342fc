// `recorder load` as real processes: beside a recorder, after one, several at once, through kills.

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { startTestServer, type TestServer } from '../support/embedded.ts';
import { seededRandom } from '../support/random.ts';
import {
  type RecorderProcess,
  reconcileWithOwn,
  run,
  sqlValue,
  startRecorderProcess,
  temporaryHome,
  until,
} from '../support/recorder-process.ts';
import { startCommand } from '../support/running-command.ts';

let server: TestServer;
let databases = 0;

beforeAll(async () => {
  server = await startTestServer();
}, 60_000);
afterAll(() => server.close(), 30_000);

/** Settings of a database of its own at the shared server. */
const settings = (extra: Record<string, string> = {}) => ({
  HFT_CLICKHOUSE_HOST: server.url,
  HFT_CLICKHOUSE_DATABASE: `load_${databases}`,
  HFT_FLUSH_INTERVAL_MS: '50',
  ...extra,
});
const walFirst = (home: string) => {
  databases++;
  return startRecorderProcess(home, { env: { HFT_RECORDER_MODE: 'wal_first' } });
};
const feed = (recorder: RecorderProcess, rows: number, ...flags: string[]) =>
  run(['feed', 'sim', '--rows', String(rows), '--socket', recorder.socket, '--json', ...flags]);
const check = async (walDir: string, ...more: string[]) => {
  const database = `load_${databases}`;
  const flags = ['--clickhouse-host', server.url, '--clickhouse-database', database, ...more];
  const { code, json, own } = await reconcileWithOwn(walDir, server.url, database, ...flags);
  return {
    code,
    // Changes of a recorder's health are rows too: on a busy machine there may be some.
    inserted: json.inserted - own,
    lost: json.lost,
    duplicated: json.duplicated,
    pending: json.pending,
  };
};
const exact = (inserted: number) => ({ code: 0, inserted, lost: 0, duplicated: 0, pending: 0 });

test('wal_first records only; a loader beside it delivers, and SIGTERM drains', async () => {
  using home = temporaryHome();
  const recorder = await walFirst(home.path);
  const args = ['load', '--wal-dir', recorder.walDir, '--json'];
  try {
    await feed(recorder, 5000);
    expect(await check(recorder.walDir, '--wait', '0')).toMatchObject({
      inserted: 0,
      pending: 5000,
      lost: 0,
    });
    const loader = startCommand(args, settings());
    await loader.logged(/load: 5,000 rows, backlog 0/);
    await feed(recorder, 7000, '--seed', '2');
    const ended = await loader.end('SIGTERM');
    expect(ended).toMatchObject({ code: 0, json: { complete: true, rows: 12_000, left: {} } });
    expect(await check(recorder.walDir)).toEqual(exact(12_000));
  } finally {
    await recorder.end('SIGKILL');
  }
}, 60_000);

test('a loader may be there before the WAL', async () => {
  using home = temporaryHome();
  databases++;
  const walDir = join(home.path, 'wal');
  const loader = startCommand(['load', '--wal-dir', walDir, '--json'], settings());
  await loader.logged(/delivering/);
  const recorder = await startRecorderProcess(home.path, { env: { HFT_RECORDER_MODE: 'wal_first' } });
  try {
    await feed(recorder, 3000);
    await loader.logged(/load: 3,000 rows, backlog 0/);
    expect((await loader.end('SIGTERM')).code).toBe(0);
  } finally {
    await loader.end('SIGKILL');
    await recorder.end('SIGKILL');
  }
}, 60_000);

test('--once drains the WAL of a killed recorder, and a second time finds nothing to do', async () => {
  using home = temporaryHome();
  const recorder = await walFirst(home.path);
  await feed(recorder, 20_000);
  await recorder.end('SIGKILL');
  const args = ['load', '--once', '--wal-dir', recorder.walDir, '--json'];
  expect(await run(args, { env: settings() })).toMatchObject({
    code: 0,
    json: { complete: true, rows: 20_000, deadLettered: 0, left: {} },
  });
  expect(await run(args, { env: settings() })).toMatchObject({ code: 0, json: { complete: true, rows: 0 } });
  expect(await check(recorder.walDir)).toEqual(exact(20_000));
  // The session goes on where it was, though another process has opened the WAL meanwhile.
  expect(readdirSync(recorder.walDir)).not.toContain('lock');
}, 60_000);

test('a session is known after a loader has recovered the WAL', async () => {
  using home = temporaryHome();
  let recorder = await walFirst(home.path);
  await feed(recorder, 2000, '--session', 'day');
  await recorder.end('SIGKILL');
  await run(['load', '--once', '--wal-dir', recorder.walDir], { env: settings() });
  recorder = await startRecorderProcess(home.path, { env: { HFT_RECORDER_MODE: 'wal_first' } });
  try {
    expect((await feed(recorder, 2500, '--session', 'day')).json).toMatchObject({ alreadyDurable: 2000 });
  } finally {
    await recorder.end('SIGKILL');
  }
}, 60_000);

test('of several loaders one delivers; the others name it and end', async () => {
  using home = temporaryHome();
  const recorder = await walFirst(home.path);
  try {
    await feed(recorder, 5000);
    const args = ['load', '--wal-dir', recorder.walDir, '--json'];
    const loaders = [1, 2, 3].map(() => startCommand(args, settings()));
    await until(() => loaders.filter((loader) => loader.alive()).length === 1, 'two have ended');
    const winner = loaders.find((loader) => loader.alive())!;
    for (const loader of loaders.filter((other) => other !== winner)) {
      const { code, errors, json } = await loader.ended;
      expect(code).toBe(1);
      expect(errors).toContain(`process ${winner.pid} on host`);
      expect(json['error']).toMatchObject({ code: 'flusher_locked' });
    }
    await winner.logged(/load: 5,000 rows, backlog 0/);
    expect((await winner.end('SIGTERM')).code).toBe(0);
    expect(await check(recorder.walDir)).toEqual(exact(5000));
  } finally {
    await recorder.end('SIGKILL');
  }
}, 60_000);

test('a recorder in mode direct waits for the loader that delivers, then takes over', async () => {
  using home = temporaryHome();
  const first = await walFirst(home.path);
  await feed(first, 4000);
  await first.end('SIGTERM');
  const loader = startCommand(['load', '--wal-dir', first.walDir, '--json'], settings());
  await loader.logged(/load: 4,000 rows, backlog 0/);
  const recorder = await startRecorderProcess(home.path, { env: settings() });
  try {
    await recorder.logged(new RegExp(`process ${loader.pid} on host .* delivers the WAL .* waits`));
    await loader.end('SIGTERM');
    await feed(recorder, 3000);
    expect((await recorder.end('SIGTERM')).code).toBe(0);
    expect(await check(recorder.walDir)).toEqual(exact(7000));
  } finally {
    await loader.end('SIGKILL');
    await recorder.end('SIGKILL');
  }
}, 60_000);

test('what lies in the WAL is delivered first in mode direct, and not at all in wal_first', async () => {
  using home = temporaryHome();
  const first = await walFirst(home.path);
  await feed(first, 6000);
  await first.end('SIGKILL');
  const second = await startRecorderProcess(home.path, { env: settings({ HFT_RECORDER_MODE: 'wal_first' }) });
  await feed(second, 1000, '--seed', '2');
  await second.end('SIGTERM');
  expect(await check(first.walDir)).toMatchObject({ inserted: 0, pending: 7000, lost: 0 });
  const third = await startRecorderProcess(home.path, { env: settings() });
  try {
    await feed(third, 500, '--seed', '3');
    expect((await third.end('SIGTERM')).code).toBe(0);
  } finally {
    await third.end('SIGKILL');
  }
  expect(await check(first.walDir)).toEqual(exact(7500));
}, 60_000);

test('loaders killed at any moment, one after another, deliver every row once', async () => {
  using home = temporaryHome();
  const random = seededRandom('load-kills');
  const recorder = await walFirst(home.path);
  try {
    const feeding = feed(recorder, 60_000);
    const args = ['load', '--wal-dir', recorder.walDir];
    for (let kill = 0; kill < 6; kill++) {
      const loader = startCommand(args, settings({ HFT_FLUSH_ROWS: '500' }));
      await Bun.sleep(random.int(150, 900));
      await loader.end('SIGKILL');
    }
    await feeding;
    const last = await run([...args, '--once', '--json'], { env: settings() });
    expect(last.json).toMatchObject({ complete: true });
    expect(await check(recorder.walDir)).toEqual(exact(60_000));
    const rows = `SELECT count() FROM load_${databases}.trades`;
    expect(Number(await sqlValue(server.url, rows))).toBeGreaterThan(0);
  } finally {
    await recorder.end('SIGKILL');
  }
}, 120_000);

test('without a WAL or a server the loader says so', async () => {
  using home = temporaryHome();
  databases++;
  const absent = await run(['load', '--once', '--wal-dir', join(home.path, 'none'), '--json'], {
    env: settings(),
  });
  expect(absent).toMatchObject({ code: 1, json: { error: { code: 'wal_absent' } } });
  const recorder = await walFirst(home.path);
  await feed(recorder, 1000);
  await recorder.end('SIGTERM');
  const nowhere = startCommand(
    ['load', '--wal-dir', recorder.walDir, '--json', '--drain-timeout-ms', '300'],
    settings({ HFT_CLICKHOUSE_HOST: 'http://127.0.0.1:1' }),
  );
  await nowhere.logged(/insert failed/);
  const { code, json } = await nowhere.end('SIGTERM');
  expect(code).toBe(1);
  expect(json).toMatchObject({ complete: false, rows: 0 });
  const left = Object.values(json['left'] as Record<string, number>);
  expect(left.reduce((sum, rows) => sum + rows, 0)).toBe(1000);
}, 60_000);
