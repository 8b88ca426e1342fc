// Every line of docs/THREAT-MODEL.md names a test; those that have no better place are here.

import { afterAll, describe, expect, test } from 'bun:test';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeHello } from '../src/net/control-messages.ts';
import { createFrameBuilder } from '../src/schema/build-frame.ts';
import { topicByName } from '../src/schema/registry.ts';
import { connectRaw, prefixed } from './support/raw-connection.ts';
import { run, startRecorderProcess, temporaryHome } from './support/recorder-process.ts';

const root = join(import.meta.dir, '..');
const home = temporaryHome();
afterAll(() => home[Symbol.dispose]());

const page = readFileSync(join(root, 'docs/THREAT-MODEL.md'), 'utf8');
const lines = page.split('\n').filter((line) => /^\| (?!who, what)/.test(line));

describe('threat model', () => {
  test.each(lines.map((line) => line.split(' | ').map((cell) => cell.replace(/^\| | \|$/g, ''))))(
    '%s',
    (_threat, defence, named) => {
      const [, file, name] = /^`([\w/-]+)`: (.+)$/.exec(named!)!;
      const path = join(root, 'test', `${file}.test.ts`);
      expect(existsSync(path)).toBe(true);
      expect(readFileSync(path, 'utf8')).toContain(name!);
      expect(defence!.length).toBeGreaterThan(10);
    },
  );

  test('it is one page', () => {
    expect(lines.length).toBeGreaterThan(20);
    expect(page.split('\n').length).toBeLessThan(60);
  });
});

test('neither log nor HTTP nor config shows a secret', async () => {
  const [password, token] = ['pa55-word-of-clickhouse', 't0ken-of-the-page'];
  const passwordFile = join(home.path, 'password');
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  const env = {
    // Nobody answers there: the errors that are logged must not show it either.
    HFT_CLICKHOUSE_HOST: 'http://127.0.0.1:1',
    HFT_CLICKHOUSE_PASSWORD_FILE: passwordFile,
    HFT_RECORDER_HTTP_TOKEN: token,
    HFT_LOG_LEVEL: 'trace',
    HFT_DRAIN_TIMEOUT_MS: '100',
  };
  const recorder = await startRecorderProcess(home.path, { env });
  await run(['feed', 'sim', '--rows', '100', '--socket', recorder.socket]);
  await recorder.logged(/ClickHouse does not take rows/);
  const url = / on (http:\/\/127\.0\.0\.1:\d+)/.exec(recorder.log())![1]!;
  expect((await fetch(`${url}/status`)).status).toBe(401);
  const headers = { authorization: `Bearer ${token}` };
  const answers = await Promise.all(
    ['/', '/status', '/metrics', '/health', '/health/ready'].map(async (path) =>
      (await fetch(`${url}${path}`, { headers })).text(),
    ),
  );
  expect(answers[1]).toContain('"topics"');
  const shown = await run(['config', '--json'], { env });
  await recorder.end('SIGTERM');
  const everything = [recorder.log(), ...answers, shown.output, shown.errors].join('\n');
  expect(everything).not.toContain(password);
  expect(everything).not.toContain(token);
  const files = readFileSync(join(recorder.walDir, 'status.json'), 'utf8');
  expect(files).not.toContain(password);
}, 60_000);

test('no producer takes the name of the recorder', async () => {
  const place = temporaryHome();
  try {
    const recorder = await startRecorderProcess(place.path, { env: { HFT_DISABLE_CLICKHOUSE: '1' } });
    const connection = await connectRaw(recorder.socket);
    await connection.write(encodeHello('recorder', 'forged', 1));
    await connection.closed();
    expect(connection.messages().map(({ kind }) => kind)).toEqual(['goodbye']);
    await recorder.end('SIGTERM');
    const { output } = await run(['wal', 'dump', recorder.walDir]);
    expect(output).not.toContain('forged');
  } finally {
    place[Symbol.dispose]();
  }
}, 60_000);

test('a recorder with a list of users records nobody else', async () => {
  const place = temporaryHome();
  const uid = process.getuid!();
  try {
    for (const [uids, code] of [
      [`${uid + 1}`, 1],
      [`${uid + 1}, ${uid}`, 0],
    ] as const) {
      const env = {
        HFT_DISABLE_CLICKHOUSE: '1',
        HFT_RECORDER_SOCKET_UIDS: uids,
        HFT_RECORDER_SOCKET_MODE: '0666',
        HFT_RECORDER_SOCKET_OWNER: `${uid}`,
      };
      const recorder = await startRecorderProcess(place.path, { env });
      const fed = await run(['feed', 'sim', '--rows', '100', '--socket', recorder.socket]);
      expect(fed.code).toBe(code);
      if (code === 1) {
        expect(fed.errors).toContain('this user may not send');
        await recorder.logged(new RegExp(`connection refused: user ${uid} `));
      }
      await recorder.end('SIGTERM');
    }
    const { json } = await run(['wal', 'ls', join(place.path, 'wal'), '--json']);
    expect(json['rows']).toBe(100);
  } finally {
    place[Symbol.dispose]();
  }
}, 60_000);

test('a row full of SQL, markup and escape sequences is stored as it is', async () => {
  const place = temporaryHome();
  const evil = "'); DROP TABLE hft.trades; -- <script>alert(1)</script> \u001b[2J \\' \" `";
  try {
    const recorder = await startRecorderProcess(place.path, { flags: ['--embedded'] });
    const frame = createFrameBuilder(topicByName('fills')!).build({ symbol: evil, fill_id: evil });
    const connection = await connectRaw(recorder.socket);
    await connection.write(encodeHello(evil, evil, 1));
    await connection.write(prefixed(frame));
    await connection.acked(1);
    connection.destroy();
    const proof = await run(['reconcile', '--wal-dir', recorder.walDir, '--wait', '30', '--json']);
    expect(proof).toMatchObject({ code: 0, json: { lost: 0, duplicated: 0 } });
    const query = 'SELECT symbol, fill_id, source, session FROM hft.trades FORMAT JSONEachRow';
    const stored = await (await fetch(recorder.clickhouseUrl, { method: 'POST', body: query })).json();
    expect(stored).toEqual({ symbol: evil, fill_id: evil, source: evil, session: evil });
    const text = await run(['tap', recorder.walDir, '--once', '--topic', 'fills']);
    expect(text.output).toContain('DROP TABLE');
    expect(text.output).not.toContain('\u001b');
    const filtered = await run(['tap', recorder.walDir, '--once', '--json', '--symbol', evil]);
    expect(JSON.parse(filtered.output)).toMatchObject({ symbol: evil });
    await recorder.end('SIGTERM');
  } finally {
    place[Symbol.dispose]();
  }
}, 120_000);
