// The command line as it is typed: help, configuration, DDL, and a look into a WAL.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'csv-parse/sync';
import { settingNames } from '../../src/config.ts';
import { topicByName, topics } from '../../src/schema/registry.ts';
import { settings } from '../../src/settings.ts';
import { hasClickHouse18, startClickHouse18 } from '../support/clickhouse-server.ts';
import { startTestServer } from '../support/embedded.ts';
import {
  ownRows,
  reconcile,
  recorderCommand,
  run,
  sql,
  sqlCommand,
  startRecorderProcess,
  temporaryHome,
} from '../support/recorder-process.ts';

/** Whether a text has terminal escapes. */
const isColoured = (text: string) => text.includes('\u001b');

describe('help', () => {
  /** Names in the list of sub-commands of a help text. */
  function subCommands(help: string): string[] {
    const [, list] = help.split('\nCommands:\n');
    const names = [...(list ?? '').matchAll(/^ {2}([a-z]+)/gm)].map((match) => match[1]!);
    return names.filter((name) => name !== 'help');
  }

  test('every command and sub-command explains itself, in plain text, with exit code 0', async () => {
    const seen: string[] = [];
    const visit = async (path: readonly string[]): Promise<void> => {
      const { code, output, errors } = await run([...path, '--help']);
      expect({ path, code, errors }).toEqual({ path, code: 0, errors: '' });
      expect(output).toStartWith(`Usage: ${['recorder', ...path].join(' ')}`);
      expect(output.split('\n')[2]!.length).toBeGreaterThan(10);
      expect(isColoured(output)).toBe(false);
      seen.push(path.join(' '));
      await Promise.all(subCommands(output).map((name) => visit([...path, name])));
    };
    await visit([]);
    const least = [
      'serve',
      'feed',
      'clickhouse',
      'demo',
      'wal',
      'reconcile',
      'config',
      'schema',
      'schema ddl',
    ];
    expect(seen).toEqual(expect.arrayContaining([...least, 'wal ls', 'wal verify', 'wal dump']));
  }, 60_000);

  test('serve names every setting with its variable', async () => {
    const { output } = await run(['serve', '--help']);
    for (const name of settingNames) expect(output).toContain(settings[name].env);
  }, 20_000);

  test('a wrong command or flag exits 1, says so, and suggests', async () => {
    const command = await run(['serv']);
    expect(command.code).toBe(1);
    expect(command.errors).toContain('serve');
    const flag = await run(['serve', '--wal-dri', 'x']);
    expect(flag.code).toBe(1);
    expect(flag.errors).toContain('--wal-dir');
  }, 20_000);
});

describe('config', () => {
  interface ConfigJson {
    settings: { name: string; value: string; origin: string }[];
    warnings: string[];
  }

  test('a flag wins over the environment, which wins over the default; secrets are not shown', async () => {
    const env = {
      HFT_WAL_DIR: '/from/environment',
      HFT_RECORDER_ID: 'from-environment',
      HFT_CLICKHOUSE_PASSWORD: 'very secret',
      HFT_WAL_DIRR: 'x',
    };
    const { code, output, json } = await run<ConfigJson>(['config', '--json', '--wal-dir', '/from/flag'], {
      env,
    });
    expect(code).toBe(0);
    const of = (name: string) => json.settings.find((setting) => setting.name === name);
    expect(json.settings).toHaveLength(settingNames.length);
    expect(of('HFT_WAL_DIR')).toMatchObject({ value: '/from/flag', origin: 'flag' });
    expect(of('HFT_RECORDER_ID')).toMatchObject({ value: 'from-environment', origin: 'environment' });
    expect(of('HFT_CLICKHOUSE_PORT')).toMatchObject({ value: '8123', origin: 'default' });
    expect(output).not.toContain('very secret');
    expect(json.warnings).toEqual([expect.stringMatching(/HFT_WAL_DIRR.*HFT_WAL_DIR\b/)]);
    const text = await run(['config'], { env });
    expect(text.code).toBe(0);
    expect(text.output).toContain('from-environment');
    expect(text.output).not.toContain('very secret');
    expect(isColoured(text.output)).toBe(false);
  }, 20_000);

  test('all errors at once, by serve too; a native port is answered with 8123', async () => {
    const env = { HFT_CLICKHOUSE_PORT: '9000', HFT_WAL_SYNC: 'sometimes', HFT_BATCH_ROWS: 'many' };
    for (const command of ['config', 'serve']) {
      const { code, errors, json } = await run<{ error: { code: string } }>([command, '--json'], { env });
      expect({ code, error: json.error.code }).toEqual({ code: 1, error: 'config_invalid' });
      for (const name of Object.keys(env)) expect(errors).toContain(name);
      expect(errors).toContain('8123');
    }
  }, 20_000);
});

describe('schema ddl', () => {
  /** The statements of the text output, as a user would paste them. */
  const statements = (text: string) => text.split(/;\n/).filter((part) => part.trim() !== '');

  async function expectTables(url: string, server: string): Promise<void> {
    await sqlCommand(url, 'DROP DATABASE IF EXISTS hft');
    const { code, output } = await run(['schema', 'ddl', '--server', server]);
    expect(code).toBe(0);
    const parts = statements(output);
    expect(parts).toHaveLength(topics.length + 1);
    for (const part of parts) await sqlCommand(url, part);
    const columns = await sql(url, `SELECT table, name FROM system.columns WHERE database = 'hft'`);
    for (const { table, columns: own } of topics) {
      const names = columns.filter(([of]) => of === table).map(([, name]) => name);
      expect(names).toEqual(
        expect.arrayContaining([...own.map(({ name }) => name), 'seq', 'wal_lsn', 'ingest_ts']),
      );
    }
  }

  test('the text runs at a modern server, also when that server was asked', async () => {
    const server = await startTestServer();
    try {
      await expectTables(server.url, 'modern');
      await expectTables(server.url, server.url);
    } finally {
      await server.close();
    }
  }, 60_000);

  test.skipIf(!hasClickHouse18())(
    'the text runs at 18.16, also when that server was asked',
    async () => {
      const server = await startClickHouse18();
      try {
        await expectTables(server.url, '18.16');
        await expectTables(server.url, server.url);
      } finally {
        await server.stop();
      }
    },
    60_000,
  );

  test('an unknown topic, and a server that does not answer, are said', async () => {
    const topic = await run(['schema', 'ddl', '--topic', 'fill']);
    expect([topic.code, topic.errors]).toEqual([1, expect.stringContaining('fills')]);
    const server = await run(['schema', 'ddl', '--server', 'http://127.0.0.1:1']);
    expect([server.code, server.errors]).toEqual([1, expect.stringContaining('http://127.0.0.1:1')]);
  }, 20_000);
});

describe('wal', () => {
  const ROWS = 3000;
  const home = temporaryHome();
  const dir = join(home.path, 'wal');
  let sent: Record<string, number> = {};
  type Row = Record<string, unknown> & { topic: string; wal_lsn: number; seq: number };
  let all: Row[] = [];

  beforeAll(async () => {
    const env = { HFT_DISABLE_CLICKHOUSE: '1', HFT_BATCH_ROWS: '100' };
    const recorder = await startRecorderProcess(home.path, { env });
    const fed = await run<{ topics: Record<string, number> }>([
      ...['feed', 'sim', '--rows', String(ROWS), '--socket', recorder.socket, '--session', 'S', '--json'],
    ]);
    sent = fed.json.topics;
    // In use: what is durable is seen.
    const verified = await run(['wal', 'verify', dir, '--json']);
    expect(verified.json).toMatchObject({ rows: ROWS, damaged: [], inUse: true });
    expect((await run(['wal', 'ls', dir, '--json'])).json).toMatchObject({
      rows: ROWS,
      owner: { pid: recorder.pid, alive: true },
    });
    await recorder.end('SIGTERM');
    all = await dump();
  }, 60_000);
  afterAll(() => home[Symbol.dispose]());

  async function dump(...flags: string[]): Promise<Row[]> {
    const { code, output, errors } = await run(['wal', 'dump', dir, ...flags]);
    expect({ code, errors }).toEqual({ code: 0, errors: '' });
    if (output === '') return [];
    return output
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Row);
  }

  test('ls and verify count what was sent, in text and JSON', async () => {
    const listed = await run<{
      rows: number;
      segments: { topics: Record<string, number> }[];
      owner: unknown;
    }>([...['wal', 'ls', '--wal-dir', dir, '--json']]);
    expect(listed.code).toBe(0);
    expect(listed.json).toMatchObject({ rows: ROWS, owner: null, deadLetters: [] });
    const counted: Record<string, number> = {};
    for (const segment of listed.json.segments) {
      for (const [topic, rows] of Object.entries(segment.topics))
        counted[topic] = (counted[topic] ?? 0) + rows;
    }
    expect(counted).toEqual(sent);
    const verified = await run(['wal', 'verify', '--wal-dir', dir, '--json']);
    expect(verified).toMatchObject({ code: 0, json: { rows: ROWS, damaged: [], segments: 1 } });
    expect(verified.json['blocks']).toBeGreaterThan(ROWS / 100 - 1);
    const texts = [await run(['wal', 'ls', dir]), await run(['wal', 'verify', dir])];
    for (const { output } of texts) {
      expect(output).toContain(String(ROWS));
      expect(isColoured(output)).toBe(false);
    }
    expect(texts[1]!.output).toContain('intact');
  }, 30_000);

  test('dump gives every row once, by LSN', async () => {
    expect(all).toHaveLength(ROWS);
    const first = all[0]!.wal_lsn;
    expect(all.map(({ wal_lsn }) => wal_lsn)).toEqual(all.map((_, i) => first + i));
    expect(all.map(({ seq }) => seq).sort((a, b) => a - b)).toEqual(all.map((_, i) => i + 1));
    const counted: Record<string, number> = {};
    for (const { topic, session } of all) {
      counted[topic] = (counted[topic] ?? 0) + 1;
      expect(session).toBe('S');
    }
    expect(counted).toEqual(sent);
  });

  test('dump by topic, range and limit', async () => {
    const fills = all.filter(({ topic }) => topic === 'fills');
    expect(await dump('--topic', 'fills')).toEqual(fills);
    const [from, to] = [all[777]!.wal_lsn, all[1234]!.wal_lsn];
    const range = ['--from-lsn', String(from), '--to-lsn', String(to)];
    expect(await dump(...range)).toEqual(all.slice(777, 1235));
    expect(await dump(...range, '--limit', '5')).toEqual(all.slice(777, 782));
    const inRange = fills.filter(({ wal_lsn }) => wal_lsn >= from && wal_lsn <= to);
    expect(await dump(...range, '--topic', 'fills')).toEqual(inRange);
    expect(await dump('--from-lsn', String(all.at(-1)!.wal_lsn + 1))).toEqual([]);
    expect(await dump('--limit', '0')).toEqual([]);
    const { json } = await run(['wal', 'dump', dir, ...range, '--json']);
    expect(json).toEqual({ rows: 458, firstLsn: from, lastLsn: to, damagedRanges: 0 });
  }, 60_000);

  test('CSV has the cells of the JSON lines', async () => {
    for (const topic of ['market_data', 'orders', 'risk_log']) {
      const { code, output } = await run(['wal', 'dump', dir, '--topic', topic, '--format', 'csv']);
      expect(code).toBe(0);
      const [head, ...rows] = parse(output) as string[][];
      const own = topicByName(topic)!.columns.map(({ name }) => name);
      expect(head!.slice(0, own.length)).toEqual(own);
      const expected = all.filter((row) => row.topic === topic);
      expect(rows).toHaveLength(expected.length);
      for (const [i, row] of expected.entries()) {
        const cells = head!.map((name) => {
          const value = row[name];
          if (value === null || value === undefined) return '';
          return Array.isArray(value) ? JSON.stringify(value) : String(value);
        });
        expect(rows[i]).toEqual(cells);
      }
    }
  }, 60_000);

  test('what cannot be dumped is said', async () => {
    const cases: [string[], string][] = [
      [['dump', dir, '--format', 'csv'], '--topic'],
      [['dump', dir, '--format', 'xml'], 'jsonl or csv'],
      [['dump', dir, '--from-lsn', 'x'], '--from-lsn'],
      [['dump', join(home.path, 'nowhere')], 'nowhere'],
      [['ls', join(home.path, 'nowhere')], 'nowhere'],
      [['verify', join(home.path, 'nowhere')], 'nowhere'],
    ];
    for (const [args, said] of cases) {
      const { code, errors } = await run(['wal', ...args]);
      expect({ args, code, errors }).toEqual({ args, code: 1, errors: expect.stringContaining(said) });
      expect(errors).not.toContain(' at '); // no stack
    }
  }, 60_000);

  test('a reader that has had enough is no error', async () => {
    const command = recorderCommand.join(' ');
    const piped = Bun.spawnSync(['bash', '-c', `set -o pipefail; ${command} wal dump ${dir} | head -n 3`]);
    expect(piped.stdout.toString().trimEnd().split('\n')).toHaveLength(3);
    expect(piped.stderr.toString()).toBe('');
  }, 20_000);

  test('what is dumped is what is delivered; a row that is taken away is missed by name', async () => {
    const server = await startTestServer();
    const flags = ['--clickhouse-host', server.url];
    const recorder = await startRecorderProcess(home.path, { flags });
    try {
      const delivered = (await reconcile(dir, ...flags)).json;
      const total = ROWS + (await ownRows(server.url));
      expect(delivered).toMatchObject({ inserted: total, matches: true });
      const rows = await sql(
        server.url,
        `SELECT wal_lsn, fill_id, order_id, toString(price), side_name, seq, wal_id
         FROM hft.trades ORDER BY wal_lsn`,
      );
      const fills = all.filter(({ topic }) => topic === 'fills');
      expect(rows).toEqual(
        fills.map((row) => [
          ...[row.wal_lsn, row['fill_id'], row['order_id']].map(String),
          String(row['price']).replace(/\.?0+$/, ''),
          ...[row['side'], row.seq, row['wal_id']].map(String),
        ]),
      );
      expect(await recorder.end('SIGTERM')).toMatchObject({ code: 0 });
      const gone = fills[3]!.wal_lsn;
      await sqlCommand(
        server.url,
        `ALTER TABLE hft.trades DELETE WHERE wal_lsn = ${gone} SETTINGS mutations_sync = 2`,
      );
      const { code, json } = await reconcile(dir, ...flags);
      expect({ code, ...json }).toMatchObject({ code: 1, matches: false, lost: 1, inserted: total - 1 });
      const text = await run(['reconcile', '--wal-dir', dir, ...flags]);
      expect(text.code).toBe(1);
      expect(text.output).toContain(`fills: missing LSNs ${gone}`);
      expect(text.output).toContain('MISMATCH');
    } finally {
      await recorder.end('SIGKILL');
      await server.close();
    }
  }, 90_000);

  test('damage in the middle: verify exits 1 and names it, dump gives the rest', async () => {
    using damagedHome = temporaryHome();
    const damaged = join(damagedHome.path, 'wal');
    cpSync(dir, damaged, { recursive: true });
    const segments = readdirSync(damaged).filter((name) => name.endsWith('.wal'));
    const path = segments
      .map((name) => join(damaged, name))
      .toSorted((a, b) => readFileSync(b).length - readFileSync(a).length)[0]!;
    const before = await run<{ segments: { name: string; usedBytes: number }[] }>([
      'wal',
      'ls',
      damaged,
      '--json',
    ]);
    const used = Math.max(...before.json.segments.map(({ usedBytes }) => usedBytes));
    const bytes = readFileSync(path);
    const at = Math.floor(used / 2);
    bytes[at]! ^= 0x10;
    writeFileSync(path, bytes);

    const verified = await run<{
      rows: number;
      damaged: { segment: string; firstLsn: number; lastLsn: number }[];
    }>([...['wal', 'verify', damaged, '--json']]);
    expect(verified.code).toBe(1);
    expect(verified.json.damaged).toHaveLength(1);
    const [finding] = verified.json.damaged;
    const lost = finding!.lastLsn - finding!.firstLsn + 1;
    expect(verified.json.rows).toBe(ROWS - lost);
    expect(path).toEndWith(finding!.segment);
    expect(readFileSync(path).equals(bytes)).toBe(true);

    const dumped = await run(['wal', 'dump', damaged]);
    expect(dumped.code).toBe(1);
    expect(dumped.errors).toContain(`rows ${finding!.firstLsn} to ${finding!.lastLsn} cannot be read`);
    const lsns = dumped.output
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as Row).wal_lsn);
    const readable = all.map(({ wal_lsn }) => wal_lsn);
    expect(lsns).toEqual(readable.filter((lsn) => lsn < finding!.firstLsn || lsn > finding!.lastLsn));
  }, 60_000);
});
