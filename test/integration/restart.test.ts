// Stops, kills and restarts of a recorder while producers send: nothing lost, nothing twice.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { topics } from '../../src/schema/registry.ts';
import { startTestServer, type TestServer } from '../support/embedded.ts';
import { seededRandom } from '../support/random.ts';
import {
  type RecorderProcess,
  reconcileWithOwn,
  run,
  sql,
  sqlCommand,
  startRecorderProcess,
  temporaryHome,
  until,
} from '../support/recorder-process.ts';

const TABLES = topics.filter(({ topic }) => topic !== 'gaps').map(({ table }) => table);
/** Nobody listens there. */
const NO_SERVER = 'http://127.0.0.1:1';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
}, 60_000);
afterAll(async () => server?.close());

interface Left {
  durable: boolean;
  undelivered: { left: { topic: string; rows: number }[]; failure?: string };
}

interface FeedJson {
  sent: number;
  acked: number;
  topics: Record<string, number>;
  alreadyDurable: number;
  session: string;
}

const feed = (recorder: { socket: string }, ...flags: string[]) =>
  run<FeedJson>(['feed', 'sim', '--socket', recorder.socket, '--json', ...flags]);

/** Every sequence number of the session from 1 to `last` is in exactly one row. */
async function expectOnceEach(database: string, session: string, last: number): Promise<void> {
  const selects = TABLES.map((table) => `SELECT seq FROM ${database}.${table} WHERE session = '${session}'`);
  const [row] = await sql(
    server.url,
    `SELECT count(), uniqExact(seq), min(seq), max(seq) FROM (${selects.join(' UNION ALL ')})`,
  );
  expect(row!.map(Number)).toEqual([last, last, 1, last]);
}

/** Settings that deliver to a database of its own. */
const into = (database: string) => ['--clickhouse-host', server.url, '--clickhouse-database', database];

async function expectReconciled(recorder: RecorderProcess, database: string, rows: number): Promise<void> {
  const flags = into(database);
  const { code, json, own } = await reconcileWithOwn(recorder.walDir, server.url, database, ...flags);
  expect({ code, ...json }).toMatchObject({
    code: 0,
    matches: true,
    inserted: rows + own,
    lost: 0,
    duplicated: 0,
    gaps: 0,
  });
}

test('SIGTERM without a server: says what is left and exits 0; the next start delivers it', async () => {
  using home = temporaryHome();
  const offline = await startRecorderProcess(home.path, {
    flags: ['--clickhouse-host', NO_SERVER, '--drain-timeout-ms', '500'],
  });
  const { code, json } = await feed(offline, '--rows', '5000', '--session', 'left');
  expect({ code, sent: json.sent, acked: json.acked }).toEqual({ code: 0, sent: 5000, acked: 5000 });
  const stopped = await offline.end('SIGTERM');
  expect(stopped).toMatchObject({ code: 0, signal: null });
  const { durable, undelivered } = JSON.parse(stopped.output) as Left;
  expect(durable).toBe(true);
  const left = new Map(undelivered.left.map(({ topic, rows }) => [topic, rows]));
  for (const [topic, rows] of left) {
    // The recorder's own rows, of its health, are in risk_log.
    const sent = json.topics[topic] ?? 0;
    if (topic === 'risk_log') expect(rows).toBeGreaterThanOrEqual(sent);
    else expect({ topic, rows }).toEqual({ topic, rows: sent });
    expect(offline.log()).toContain(`warn: ${rows} rows of ${topic} are left in the WAL`);
  }

  const online = await startRecorderProcess(home.path, { flags: into('left') });
  try {
    await expectReconciled(online, 'left', 5000);
    await expectOnceEach('left', 'left', 5000);
    expect(await online.end('SIGTERM')).toMatchObject({ code: 0 });
    expect(online.log()).toContain('stopped, nothing left to deliver');
  } finally {
    await online.end('SIGKILL');
  }
}, 60_000);

test('SIGTERM after delivery has failed for good: says why and what is left where, exits 1', async () => {
  using home = temporaryHome();
  mkdirSync(join(home.path, 'wal'));
  // The folder of the flusher's lock cannot be made.
  writeFileSync(join(home.path, 'wal', 'flusher'), '');
  const recorder = await startRecorderProcess(home.path, { flags: into('failed') });
  expect((await feed(recorder, '--rows', '2000', '--session', 'failed')).json.acked).toBe(2000);
  const stopped = await recorder.end('SIGTERM');
  expect(stopped.code).toBe(1);
  const { durable, undelivered } = JSON.parse(stopped.output) as Left;
  expect(durable).toBe(true);
  expect(undelivered.failure).toContain('flusher');
  const rows = undelivered.left.reduce((sum, left) => sum + left.rows, 0);
  expect(rows).toBeGreaterThanOrEqual(2000);
  expect(recorder.log()).toContain('delivery had stopped: ');
  expect(recorder.log()).toMatch(/warn: \d+ rows of fills are left in the WAL in \S+wal; the next start/);

  rmSync(join(home.path, 'wal', 'flusher'));
  const again = await startRecorderProcess(home.path, { flags: into('failed') });
  try {
    await expectReconciled(again, 'failed', 2000);
  } finally {
    await again.end('SIGKILL');
  }
}, 60_000);

test('SIGINT and SIGKILL while a session flows: the producer goes on, each row is there once', async () => {
  const random = seededRandom('restart');
  const rows = 150_000;
  using home = temporaryHome();
  const flags = into('killed');
  let recorder = await startRecorderProcess(home.path, { flags });
  try {
    const fed = feed(recorder, '--rows', String(rows), '--session', 'flow', '--speed', 'max');
    let isFed = false;
    void fed.then(() => {
      isFed = true;
    });
    let stops = 0;
    for (const signal of ['SIGKILL', 'SIGINT', 'SIGKILL', 'SIGTERM', 'SIGKILL'] as const) {
      await Bun.sleep(random.int(30, 400));
      if (isFed) break;
      const ended = await recorder.end(signal);
      expect(ended).toMatchObject(signal === 'SIGKILL' ? { signal } : { code: 0, signal: null });
      stops++;
      recorder = await startRecorderProcess(home.path, { flags });
    }
    expect(stops).toBeGreaterThan(0);
    const { code, errors, json } = await fed;
    expect({ code, errors: code === 0 ? '' : errors, sent: json.sent, acked: json.acked }).toEqual({
      code: 0,
      errors: '',
      sent: rows,
      acked: rows,
    });
    await expectReconciled(recorder, 'killed', rows);
    await expectOnceEach('killed', 'flow', rows);
    // The same session again: everything is known, nothing is recorded twice.
    const again = await feed(recorder, '--rows', String(rows), '--session', 'flow');
    expect(again.json).toMatchObject({ acked: rows, alreadyDurable: rows });
    await recorder.end('SIGKILL');
    recorder = await startRecorderProcess(home.path, { flags });
    await expectReconciled(recorder, 'killed', rows);
    await expectOnceEach('killed', 'flow', rows);
    const verified = await run(['wal', 'verify', recorder.walDir, '--json']);
    expect(verified.json).toMatchObject({ rows, damaged: [] });
  } finally {
    await recorder.end('SIGKILL');
  }
}, 120_000);

test('a producer that ends early sends the rest of its session when it starts again', async () => {
  using home = temporaryHome();
  const recorder = await startRecorderProcess(home.path, { flags: into('producer') });
  try {
    const args = ['--session', 'again', '--seed', '11'];
    const first = await feed(recorder, ...args, '--rows', '9000');
    expect(first.json).toMatchObject({ acked: 9000 });
    const rest = await feed(recorder, ...args, '--rows', '30000');
    expect(rest.json).toMatchObject({ sent: 30_000, acked: 30_000, alreadyDurable: 9000 });
    await expectReconciled(recorder, 'producer', 30_000);
    await expectOnceEach('producer', 'again', 30_000);
  } finally {
    await recorder.end('SIGKILL');
  }
}, 60_000);

describe('one owner', () => {
  test('the socket is for its owner alone, unless it is configured', async () => {
    for (const [mode, env] of [
      [0o600, {}],
      [0o660, { HFT_RECORDER_SOCKET_MODE: '0660' }],
    ] as const) {
      using home = temporaryHome();
      const recorder = await startRecorderProcess(home.path, { env });
      expect(statSync(recorder.socket).mode & 0o777).toBe(mode);
      expect(await recorder.end('SIGINT')).toMatchObject({ code: 0, signal: null });
      expect(existsSync(recorder.socket)).toBe(false);
    }
  }, 60_000);

  test('a second recorder on the same WAL directory is refused, and names the first', async () => {
    using home = temporaryHome();
    const first = await startRecorderProcess(home.path);
    try {
      const flags = ['serve', '--wal-dir', first.walDir, '--socket', join(home.path, 'other'), '--json'];
      const second = await run<{ error: { code: string; message: string } }>(flags);
      expect(second.code).toBe(1);
      expect(second.errors).toContain(String(first.pid));
      expect(second.errors).toContain(first.walDir);
      expect(second.json.error).toMatchObject({ message: expect.stringContaining(String(first.pid)) });
      expect((await feed(first, '--rows', '100')).json).toMatchObject({ acked: 100 });
    } finally {
      await first.end('SIGKILL');
    }
    // A dead owner's lock and socket are taken over.
    const third = await startRecorderProcess(home.path);
    expect(third.log()).toContain('taken over');
    expect((await feed(third, '--rows', '100')).json).toMatchObject({ acked: 100 });
    expect(await third.end('SIGTERM')).toMatchObject({ code: 0 });
  }, 60_000);

  test('a socket that another recorder listens on, and a file that is no socket, are refused', async () => {
    using home = temporaryHome();
    using other = temporaryHome();
    const first = await startRecorderProcess(home.path);
    try {
      const walDir = join(other.path, 'wal');
      const second = await run(['serve', '--socket', first.socket, '--wal-dir', walDir]);
      expect(second.code).toBe(1);
      expect(second.errors).toContain(first.socket);
      expect((await feed(first, '--rows', '100')).json).toMatchObject({ acked: 100 });
      const file = join(other.path, 'file');
      writeFileSync(file, 'not a socket');
      const third = await run(['serve', '--socket', file, '--wal-dir', walDir]);
      expect(third.code).toBe(1);
      expect(third.errors).toContain(file);
      expect(await Bun.file(file).text()).toBe('not a socket');
    } finally {
      await first.end('SIGKILL');
    }
  }, 60_000);
});

describe('tables that do not fit', () => {
  const ALTERATIONS: [name: string, change: string, back: string, said: RegExp][] = [
    [
      'missing column',
      'DROP COLUMN trace_id',
      'ADD COLUMN trace_id String AFTER ts',
      /table \S*latency_spans\S* does not fit.*column trace_id: expected String, it is missing.*ADD COLUMN/s,
    ],
    [
      'other type',
      'MODIFY COLUMN latency_ns Float64',
      'MODIFY COLUMN latency_ns Int64',
      /\blatency_spans\b\S* does not fit.*column latency_ns: expected Int64, found Float64.*MODIFY COLUMN/s,
    ],
  ];
  for (const [name, change, back, said] of ALTERATIONS) {
    test(`${name}: said by name, the others are delivered, and the topic once it fits`, async () => {
      using home = temporaryHome();
      const database = name.replace(' ', '_');
      const ddl = await run<{ database: string; tables: { topic: string; sql: string }[] }>([
        ...['schema', 'ddl', '--clickhouse-database', database, '--json'],
      ]);
      for (const text of [ddl.json.database, ...ddl.json.tables.map((table) => table.sql)]) {
        await sqlCommand(server.url, text);
      }
      await sqlCommand(server.url, `ALTER TABLE ${database}.latency_spans ${change}`);
      const recorder = await startRecorderProcess(home.path, {
        flags: [...into(database), '--drain-timeout-ms', '1000'],
      });
      try {
        const line = await recorder.logged(/cannot be delivered/);
        expect(line).toMatch(said);
        const { json } = await feed(recorder, '--rows', '4000', '--session', 'x');
        expect(json.acked).toBe(4000);
        const spans = json.topics['latency_spans']!;
        const others = TABLES.filter((table) => table !== 'latency_spans');
        const counts = others
          .map((table) => `(SELECT count() FROM ${database}.${table} WHERE session = 'x')`)
          .join(' + ');
        await until(
          async () => Number((await sql(server.url, `SELECT ${counts}`))[0]![0]) === 4000 - spans,
          'the other topics',
        );
        expect(await sql(server.url, `SELECT count() FROM ${database}.latency_spans`)).toEqual([['0']]);
        expect(recorder.alive()).toBe(true);
        const stopped = await recorder.end('SIGTERM');
        expect(stopped.code).toBe(0);
        const { left } = (JSON.parse(stopped.output) as Left).undelivered;
        expect(left.find(({ topic }) => topic === 'latency_spans')).toMatchObject({ rows: spans });
      } finally {
        await recorder.end('SIGKILL');
      }
      await sqlCommand(server.url, `ALTER TABLE ${database}.latency_spans ${back}`);
      const repaired = await startRecorderProcess(home.path, { flags: into(database) });
      try {
        await expectReconciled(repaired, database, 4000);
        await expectOnceEach(database, 'x', 4000);
      } finally {
        await repaired.end('SIGKILL');
      }
    }, 60_000);
  }
});
