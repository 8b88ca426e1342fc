// `wal repair`, missing segments and dead letters from the command line, with real processes.

import { expect, test } from 'bun:test';
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startTestServer } from '../support/embedded.ts';
import { run, sqlCommand, startRecorderProcess, temporaryHome } from '../support/recorder-process.ts';
import { startCommand } from '../support/running-command.ts';

const small = { HFT_WAL_SEGMENT_BYTES: '256KiB' };
const feed = (socket: string, rows: number) =>
  run(['feed', 'sim', '--rows', String(rows), '--socket', socket, '--json']);
const segmentsIn = (dir: string) =>
  readdirSync(dir)
    .filter((name) => name.endsWith('.wal'))
    .sort();

/** A WAL of several segments whose recorder has ended. */
async function finishedWal(home: string): Promise<string> {
  const recorder = await startRecorderProcess(home, { env: small });
  await feed(recorder.socket, 8000);
  await recorder.end('SIGTERM');
  return recorder.walDir;
}

/** Flips a bit in the payload of a segment's first record. */
function damage(path: string): void {
  const bytes = readFileSync(path);
  const headerSizeBytes = bytes.readUint32LE(12);
  bytes[headerSizeBytes + 128 + 8]! ^= 0x10;
  writeFileSync(path, bytes);
}

test('repair says what it will do, does it, keeps the evidence, and names what stays lost', async () => {
  using home = temporaryHome();
  const walDir = await finishedWal(home.path);
  const [, second, third] = segmentsIn(walDir);
  damage(join(walDir, second!));
  const before = await run(['wal', 'verify', walDir, '--json']);
  expect(before).toMatchObject({ code: 1, json: { damaged: [{ segment: second, kind: 'corruption' }] } });

  const plan = await run(['wal', 'repair', walDir, '--dry-run']);
  expect(plan).toMatchObject({ code: 0 });
  expect(plan.output).toContain(`would do: ${second}`);
  expect((await run(['wal', 'verify', walDir, '--json'])).json).toEqual(before.json);

  const repaired = await run(['wal', 'repair', walDir, '--json']);
  expect(repaired).toMatchObject({ code: 0, json: { damaged: [], steps: [{ action: 'accept_loss' }] } });
  const kept = readdirSync(join(walDir, String(repaired.json['evidence'])));
  expect(kept.length).toBe(1);
  const after = await run(['wal', 'verify', walDir]);
  expect(after.code).toBe(0);
  expect(after.output).toContain(`stays lost: ${second}`);
  expect((await run(['wal', 'repair', walDir])).output).toContain('nothing to repair');

  // A segment that has gone: refused, then allowed by the operator's flag, then no longer asked about.
  renameSync(join(walDir, third!), join(home.path, third!));
  const refused = await run(['serve', '--wal-dir', walDir, '--socket', join(home.path, 's')], { env: small });
  expect(refused.code).toBe(1);
  expect(refused.errors).toContain('--allow-missing-segments');
  for (const flags of [['--allow-missing-segments'], []]) {
    const recorder = await startRecorderProcess(home.path, { env: small, flags });
    expect((await feed(recorder.socket, 100)).json).toMatchObject({ acked: 100 });
    expect((await recorder.end('SIGTERM')).code).toBe(0);
  }
  expect((await run(['wal', 'verify', walDir])).code).toBe(0);
}, 60_000);

test('repair leaves the WAL of a running recorder alone', async () => {
  using home = temporaryHome();
  const recorder = await startRecorderProcess(home.path, { env: small });
  try {
    await feed(recorder.socket, 500);
    const plan = await run(['wal', 'repair', recorder.walDir, '--dry-run']);
    expect(plan.output).toContain(`process ${recorder.pid}`);
    const refused = await run(['wal', 'repair', recorder.walDir, '--json']);
    expect(refused).toMatchObject({ code: 1, json: { error: { code: 'wal_locked' } } });
    expect(refused.errors).toContain(`process ${recorder.pid}`);
    expect((await feed(recorder.socket, 500)).json).toMatchObject({ acked: 500 });
  } finally {
    await recorder.end('SIGTERM');
  }
}, 60_000);

test('dead letters are listed, wait for their cause to go, and are replayed by one command', async () => {
  using home = temporaryHome();
  const server = await startTestServer();
  try {
    const place = ['--clickhouse-host', server.url, '--clickhouse-database', 'letters'];
    const walDir = await finishedWal(home.path);
    // The table takes no fills: a constraint that every row breaks.
    await run(['load', '--once', '--wal-dir', walDir, ...place, '--flush-rows', '1000']);
    const recorder = await startRecorderProcess(home.path, { env: small });
    await sqlCommand(server.url, 'ALTER TABLE letters.trades ADD CONSTRAINT none CHECK seq = 0');
    await feed(recorder.socket, 8000);
    await recorder.end('SIGTERM');
    const load = ['load', '--once', '--wal-dir', walDir, ...place, '--flush-max-retries', '1', '--json'];
    const loaded = await run(load);
    expect(loaded.json).toMatchObject({ complete: true });
    const dead = loaded.json['deadLettered'] as number;
    expect(dead).toBeGreaterThan(0);
    const list = await run(['wal', 'ls', walDir]);
    expect(list.output).toContain(`dead letter: fills`);
    expect(list.output).toContain('recorder wal replay --dead-letters');
    const replay = ['wal', 'replay', walDir, '--dead-letters', ...place, '--flush-max-retries', '1'];
    // Its cause is still there: it stays.
    const early = await run([...replay, '--json']);
    expect(early).toMatchObject({ code: 1, json: { sent: 0, left: 1 } });
    const reconciled = await run(['reconcile', '--wal-dir', walDir, ...place, '--json']);
    expect(reconciled).toMatchObject({ code: 1, json: { lost: 0, deadLettered: dead } });

    await sqlCommand(server.url, 'ALTER TABLE letters.trades DROP CONSTRAINT none');
    const dry = await run([...replay, '--dry-run', '--json']);
    expect(dry).toMatchObject({ code: 0, json: { sent: dead, left: 0 } });
    const done = await run([...replay, '--json']);
    expect(done).toMatchObject({ code: 0, json: { sent: dead, left: 0 } });
    expect((await run(['wal', 'ls', walDir])).output).not.toContain('dead letter:');
    expect(existsSync(join(walDir, 'dead-letter', 'replayed'))).toBe(true);
    const after = await run(['reconcile', '--wal-dir', walDir, ...place, '--json']);
    expect(after).toMatchObject({
      code: 0,
      json: { lost: 0, duplicated: 0, deadLettered: 0, inserted: 16_000 },
    });
    expect(await run([...replay, '--json'])).toMatchObject({ code: 0, json: { letters: [] } });
  } finally {
    await server.close();
  }
}, 120_000);

test('two replays at once: the second names the first; flags are checked', async () => {
  using home = temporaryHome();
  const walDir = await finishedWal(home.path);
  const nowhere = ['--clickhouse-host', 'http://127.0.0.1:1'];
  for (const [flags, text] of [
    [['--from-seq', '5'], 'add --source and --session'],
    [['--from-time', 'noon'], 'expected a time'],
    [['--from-lsn', '-1'], 'expected a whole number'],
    [['--dead-letters', '--from-lsn', '1'], '--topic alone'],
  ] as const) {
    const { code, errors } = await run(['wal', 'replay', walDir, ...nowhere, ...flags]);
    expect(code).toBe(1);
    expect(errors).toContain(text);
  }
  // A server that takes connections and never answers holds the first one.
  const silent = Bun.listen({ hostname: '127.0.0.1', port: 0, socket: { data() {} } });
  const first = startCommand([
    'wal',
    'replay',
    walDir,
    '--clickhouse-host',
    `http://127.0.0.1:${silent.port}`,
  ]);
  try {
    while (!existsSync(join(walDir, 'replay', 'lock'))) await Bun.sleep(10);
    const second = await run(['wal', 'replay', walDir, ...nowhere, '--json']);
    expect(second).toMatchObject({ code: 1, json: { error: { code: 'wal_locked' } } });
    expect(second.errors).toContain(`process ${first.pid}`);
  } finally {
    await first.end('SIGKILL');
    silent.stop(true);
  }
}, 60_000);
