// Segments go while rows flow, and every count is still right: real recorder, real loader, real server.

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { startTestServer, type TestServer } from '../support/embedded.ts';
import { seededRandom } from '../support/random.ts';
import {
  type RecorderProcess,
  reconcile,
  run,
  sqlCommand,
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

const eager = { HFT_WAL_SEGMENT_BYTES: '1MiB', HFT_WAL_RETAIN_MS: '0', HFT_WAL_RETAIN_CHECK_MS: '30' };
const delivering = (extra: Record<string, string> = {}) => ({
  HFT_CLICKHOUSE_HOST: server.url,
  HFT_CLICKHOUSE_DATABASE: `retention_${databases}`,
  HFT_FLUSH_INTERVAL_MS: '50',
  ...extra,
});
const feed = (socket: string, rows: number, ...flags: string[]) =>
  run(['feed', 'sim', '--rows', String(rows), '--socket', socket, '--json', ...flags]);
const segmentsIn = (dir: string) => readdirSync(dir).filter((name) => name.endsWith('.wal'));
const firstOf = (dir: string) => segmentsIn(dir).sort()[0]!;
/** Not each segment begins with a group, and only such a one can be the first that is kept. */
const FIRST = '0000000000000000.wal';
const place = () => ['--clickhouse-host', server.url, '--clickhouse-database', `retention_${databases}`];
const check = async (walDir: string, ...more: string[]) => {
  const { code, json } = await reconcile(walDir, ...place(), ...more);
  const { received, logged, inserted, lost, duplicated } = json;
  return { code, received, logged, inserted, lost, duplicated };
};
const exact = (rows: number) => ({
  code: 0,
  received: rows,
  logged: rows,
  inserted: rows,
  lost: 0,
  duplicated: 0,
});

test('delivered segments go to the archive while rows flow; together they have every row', async () => {
  using home = temporaryHome();
  databases++;
  const archive = join(home.path, 'archive');
  const env = delivering({ ...eager, HFT_WAL_ARCHIVE_DIR: archive });
  const recorder = await startRecorderProcess(home.path, { env });
  try {
    await feed(recorder.socket, 40_000);
    await recorder.logged(/removed \d+ delivered segments/);
    expect(await check(recorder.walDir)).toEqual(exact(40_000));
    expect((await recorder.end('SIGTERM')).code).toBe(0);
  } finally {
    await recorder.end('SIGKILL');
  }
  expect(await check(recorder.walDir)).toEqual(exact(40_000));
  expect(firstOf(recorder.walDir)).not.toBe(FIRST);
  const copies = join(archive, readdirSync(archive)[0]!);
  for (const dir of [recorder.walDir, copies]) {
    expect((await run(['wal', 'verify', dir, '--json'])).json).toMatchObject({ damaged: [] });
  }
  // A new table is filled again from both; a second replay finds nothing to send.
  databases++;
  const replay = async (dir: string) => {
    const { code, json } = await run(['wal', 'replay', dir, ...place(), '--json']);
    expect(code).toBe(0);
    return json['sent'] as number;
  };
  expect((await replay(copies)) + (await replay(recorder.walDir))).toBe(40_000);
  expect((await replay(copies)) + (await replay(recorder.walDir))).toBe(0);
  expect(await check(recorder.walDir)).toEqual(exact(40_000));
}, 120_000);

test('a recorder that is killed again and again while segments go loses and doubles nothing', async () => {
  using home = temporaryHome();
  databases++;
  const random = seededRandom('retention-kills');
  const env = delivering({ ...eager, HFT_FLUSH_ROWS: '2000' });
  let rows = 0;
  let removed = false;
  let recorder: RecorderProcess | null = null;
  for (let round = 0; round < 6; round++) {
    recorder = await startRecorderProcess(home.path, { env });
    const session = ['--session', `s${round}`, '--seed', String(round + 1)];
    await feed(recorder.socket, 6000, ...session);
    rows += 6000;
    await Bun.sleep(random.int(0, 400));
    removed ||= recorder.log().includes('removed');
    await recorder.end('SIGKILL');
  }
  recorder = await startRecorderProcess(home.path, { env });
  // A session whose rows are in segments that have gone is known all the same.
  const again = await feed(recorder.socket, 6000, '--session', 's0', '--seed', '1');
  expect(again.json).toMatchObject({ alreadyDurable: 6000 });
  await until(() => firstOf(recorder!.walDir) !== FIRST, 'the first segment has gone');
  removed ||= recorder.log().includes('removed');
  expect((await recorder.end('SIGTERM')).code).toBe(0);
  expect(removed).toBe(true);
  expect(await check(recorder.walDir)).toMatchObject({
    code: 0,
    logged: rows,
    inserted: rows,
    duplicated: 0,
  });
}, 120_000);

test('what a loader delivered is removed by the recorder, and never by the loader', async () => {
  using home = temporaryHome();
  databases++;
  const env = { ...eager, HFT_RECORDER_MODE: 'wal_first' };
  const recorder = await startRecorderProcess(home.path, { env });
  try {
    await feed(recorder.socket, 20_000);
    await Bun.sleep(300);
    expect(firstOf(recorder.walDir)).toBe(FIRST);
    const loader = startCommand(['load', '--wal-dir', recorder.walDir], delivering());
    await until(() => firstOf(recorder.walDir) !== FIRST, 'the first segment has gone');
    expect((await loader.end('SIGTERM')).code).toBe(0);
    await feed(recorder.socket, 20_000, '--seed', '2');
  } finally {
    await recorder.end('SIGTERM');
  }
  const before = segmentsIn(recorder.walDir);
  expect(before.length).toBeGreaterThan(2);
  await run(['load', '--once', '--wal-dir', recorder.walDir], { env: delivering(eager) });
  expect(segmentsIn(recorder.walDir)).toEqual(expect.arrayContaining(before.slice(0, -1)));
  expect(await check(recorder.walDir)).toEqual(exact(40_000));
}, 120_000);

test('with ClickHouse off nothing goes, though a flush log says that all is delivered', async () => {
  using home = temporaryHome();
  databases++;
  let recorder = await startRecorderProcess(home.path, {
    env: delivering({ HFT_WAL_SEGMENT_BYTES: '512KiB' }),
  });
  await feed(recorder.socket, 20_000);
  await recorder.end('SIGTERM');
  const before = segmentsIn(recorder.walDir);
  expect(before.length).toBeGreaterThan(2);
  recorder = await startRecorderProcess(home.path, { env: { ...eager, HFT_DISABLE_CLICKHOUSE: '1' } });
  await Bun.sleep(500);
  await recorder.end('SIGTERM');
  expect(segmentsIn(recorder.walDir)).toEqual(expect.arrayContaining(before.slice(0, -1)));
  const rows = await sqlValue(server.url, `SELECT count() FROM retention_${databases}.market_data`);
  expect(Number(rows)).toBeGreaterThan(0);
}, 60_000);

test('replays beside a recorder that delivers send nothing twice', async () => {
  using home = temporaryHome();
  databases++;
  const env = delivering({ HFT_WAL_SEGMENT_BYTES: '1MiB', HFT_FLUSH_ROWS: '1000' });
  const recorder = await startRecorderProcess(home.path, { env });
  try {
    let flowing = true;
    const feeding = feed(recorder.socket, 60_000).finally(() => {
      flowing = false;
    });
    let replays = 0;
    while (flowing || replays === 0) {
      const { code, json } = await run(['wal', 'replay', recorder.walDir, ...place(), '--json']);
      expect(code).toBe(0);
      expect(json['sent']).toBe(0);
      replays++;
    }
    await feeding;
    expect(await check(recorder.walDir)).toEqual(exact(60_000));
    // What an operator deletes by mistake comes back, beside the recorder.
    const drop = `ALTER TABLE retention_${databases}.trades DELETE WHERE 1 SETTINGS mutations_sync = 2`;
    const fills = await sqlValue(server.url, `SELECT count() FROM retention_${databases}.trades`);
    await sqlCommand(server.url, drop);
    expect((await check(recorder.walDir, '--wait', '0')).code).toBe(1);
    const again = await run(['wal', 'replay', recorder.walDir, ...place(), '--topic', 'fills', '--json']);
    expect(again).toMatchObject({ code: 0, json: { sent: Number(fills), pending: 0 } });
    expect(await check(recorder.walDir)).toEqual(exact(60_000));
  } finally {
    await recorder.end('SIGTERM');
  }
}, 120_000);
