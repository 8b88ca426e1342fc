// The doctor on a host that is well, and on one where a single thing is wrong each time.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { topics } from '../../src/schema/registry.ts';
import {
  cleanEnvironment,
  type RecorderProcess,
  recorderCommand,
  run,
  sqlCommand,
  startRecorderProcess,
  temporaryHome,
} from '../support/recorder-process.ts';

interface Finding {
  check: string;
  level: 'ok' | 'warning' | 'error';
  message: string;
  command: string | null;
}
interface Report {
  ok: boolean;
  warnings: number;
  errors: number;
  findings: Finding[];
}

const home = temporaryHome();
let recorder: RecorderProcess;

beforeAll(async () => {
  recorder = await startRecorderProcess(home.path, { flags: ['--embedded'] });
  chmodSync(recorder.walDir, 0o750);
  const sent = await run(['feed', 'sim', '--rows', '2000', '--socket', recorder.socket]);
  expect(sent.code).toBe(0);
  expect((await run(['reconcile', '--wal-dir', recorder.walDir, '--wait', '30'])).code).toBe(0);
}, 60_000);
afterAll(async () => {
  await recorder.end('SIGTERM');
  home[Symbol.dispose]();
}, 60_000);

/** Runs the doctor; exit code 0 exactly where it finds no error. */
async function doctor(flags: string[], env: Record<string, string> = {}): Promise<Report> {
  const { code, json, errors } = await run<Report>(['doctor', '--json', ...flags], { env });
  expect(errors).toBe('');
  expect(code).toBe(json.findings.some(({ level }) => level === 'error') ? 1 : 0);
  expect(json.ok).toBe(code === 0);
  for (const { level, command } of json.findings) expect(command === null).toBe(level === 'ok');
  return json;
}

const beside = () => ['--wal-dir', recorder.walDir, '--socket', recorder.socket];
/** Address of the recorder's HTTP server, which took a free port. */
const http = () => /^info: (?!embedded).* on http:\/\/(127\.0\.0\.1:\d+)/m.exec(recorder.log())![1]!;
const of = ({ findings }: Report, check: string) => findings.filter((finding) => finding.check === check);
/** All but how fast the disk is, which is the host's business. */
const wrongOf = ({ findings }: Report) =>
  findings.filter(({ check, level }) => level !== 'ok' && check !== 'disk_speed');

describe('beside a recorder', () => {
  test('that is well: nothing is wrong, and everything was looked at', async () => {
    const report = await doctor([...beside(), '--http', http()]);
    expect(wrongOf(report)).toEqual([]);
    const checks = 'config wal_dir socket udp_buffer open_files disk_space disk_speed recorder health wal';
    const seen = new Set(report.findings.map(({ check }) => check));
    for (const check of [...checks.split(' '), 'clickhouse', 'clock', 'schema'])
      expect([...seen]).toContain(check);
    expect(of(report, 'recorder')[0]!.message).toContain(String(recorder.pid));
    expect(of(report, 'disk_speed')[0]!.message).toMatch(/[\d.]+ ms \(p50\), [\d.]+ ms \(p99\)/);
    // The probe leaves nothing behind.
    expect(readdirSync(recorder.walDir).filter((name) => name.includes('doctor'))).toEqual([]);
    const { code, output } = await run(['doctor', ...beside(), '--http', http()]);
    expect([code, output]).toEqual([0, expect.stringContaining('disk_speed')]);
  }, 60_000);

  test('a table that lost a column: the command that is shown mends it', async () => {
    const model = topics.find(({ topic }) => topic === 'fills')!;
    await sqlCommand(recorder.clickhouseUrl, `ALTER TABLE hft.${model.table} DROP COLUMN fee`);
    const [finding] = of(await doctor(beside()), 'schema').filter(({ level }) => level === 'error');
    expect(finding!.message).toContain('column fee');
    const statement = /ALTER TABLE[^;]*/.exec(finding!.command!)![0].replaceAll("'\\''", "'");
    await sqlCommand(recorder.clickhouseUrl, statement);
    expect(of(await doctor(beside()), 'schema').filter(({ level }) => level !== 'ok')).toEqual([]);
  }, 60_000);

  test('a server whose clock is wrong, by how much', async () => {
    const proxy = Bun.serve({
      port: 0,
      hostname: '127.0.0.1',
      fetch: async (request) => {
        const url = new URL(request.url);
        const body = (await request.text()).replace('toUnixTimestamp(now())', 'toUnixTimestamp(now()) - 100');
        const answer = await fetch(`${recorder.clickhouseUrl}${url.pathname}${url.search}`, {
          method: 'POST',
          body,
        });
        return new Response(await answer.arrayBuffer(), { status: answer.status });
      },
    });
    try {
      const report = await doctor(beside(), { HFT_CLICKHOUSE_HOST: `127.0.0.1:${proxy.port}` });
      const [clock] = of(report, 'clock');
      expect(clock!.level).toBe('warning');
      const seconds = Number(/is ([\d.]+) s behind/.exec(clock!.message)![1]);
      expect(Math.abs(seconds - 100)).toBeLessThan(3);
      expect(report.ok).toBe(true);
    } finally {
      proxy.stop(true);
    }
  }, 60_000);
});

describe('what is wrong is said, with a command', () => {
  const away = temporaryHome();
  afterAll(() => away[Symbol.dispose]());
  const place = (name: string) => join(away.path, name);
  const fresh = (name: string) => ['--wal-dir', place(name), '--socket', place('s')];

  test('a new host is well: nothing is there yet', async () => {
    expect(wrongOf(await doctor(fresh('new')))).toEqual([]);
    expect(readdirSync(away.path)).toEqual([]);
  }, 20_000);

  test('ClickHouse that does not answer', async () => {
    const report = await doctor(fresh('new'), { HFT_CLICKHOUSE_HOST: '127.0.0.1:1' });
    expect(wrongOf(report)).toEqual([
      {
        check: 'clickhouse',
        level: 'error',
        message: expect.anything(),
        command: 'curl -sS http://127.0.0.1:1/ping',
      },
    ]);
  }, 30_000);

  test('a receive buffer that the kernel does not grant, and too few open files', async () => {
    const udp = ['--udp', '127.0.0.1:0', '--udp-receive-buffer-bytes', '1GiB'];
    const command = [...recorderCommand, 'doctor', '--json', ...fresh('new'), ...udp].join(' ');
    const child = Bun.spawn(['sh', '-c', `ulimit -n 1000; exec ${command}`], {
      env: cleanEnvironment(),
      stdout: 'pipe',
    });
    const report = JSON.parse(await new Response(child.stdout).text()) as Report;
    expect(await child.exited).toBe(0);
    expect(of(report, 'udp_buffer')[0]).toMatchObject({
      level: 'warning',
      command: 'sudo sysctl -w net.core.rmem_max=1073741824',
    });
    expect(of(report, 'open_files')[0]!.message).toContain('1000 files');
  }, 20_000);

  test('a WAL directory and a socket that are something else', async () => {
    writeFileSync(place('file'), '');
    const report = await doctor(['--wal-dir', place('file'), '--socket', place('file')]);
    expect(wrongOf(report).map(({ check, level }) => [check, level])).toEqual([
      ['wal_dir', 'error'],
      ['socket', 'error'],
    ]);
  }, 20_000);

  test('a directory and a secret that others can read: the commands mend both', async () => {
    mkdirSync(place('open'));
    chmodSync(place('open'), 0o755);
    writeFileSync(place('secret'), 'very-secret\n');
    chmodSync(place('secret'), 0o644);
    const env = { HFT_CLICKHOUSE_PASSWORD_FILE: place('secret') };
    const before = await doctor(fresh('open'), env);
    expect(wrongOf(before).map(({ check, level }) => [check, level])).toEqual([
      ['config', 'warning'],
      ['wal_dir', 'warning'],
    ]);
    expect(JSON.stringify(before)).not.toContain('very-secret');
    for (const { command } of wrongOf(before)) expect(Bun.spawnSync(['sh', '-c', command!]).exitCode).toBe(0);
    expect(wrongOf(await doctor(fresh('open'), env))).toEqual([]);
  }, 20_000);

  test('settings that are not valid, all at once', async () => {
    const report = await doctor(fresh('new'), { HFT_WAL_SYNC: 'maybe', HFT_BATCH_ROWS: 'many' });
    expect(report.errors).toBe(2);
    expect(report.findings.map(({ message }) => message).join()).toMatch(/HFT_BATCH_ROWS.*HFT_WAL_SYNC/);
  }, 20_000);

  test('an unknown setting, a group that is not there', async () => {
    const report = await doctor(fresh('new'), {
      HFT_WAL_DIRR: 'x',
      HFT_RECORDER_SOCKET_OWNER: ':no-such-group',
    });
    expect(wrongOf(report).map(({ check, level }) => [check, level])).toEqual([
      ['config', 'warning'],
      ['socket', 'error'],
    ]);
  }, 20_000);

  test('a recorder that was killed, and a WAL with a flipped bit', async () => {
    const killed = await startRecorderProcess(place(''), { env: { HFT_DISABLE_CLICKHOUSE: '1' } });
    await run(['feed', 'sim', '--rows', '2000', '--socket', killed.socket]);
    await killed.end('SIGKILL');
    const flags = ['--wal-dir', killed.walDir, '--socket', killed.socket];
    chmodSync(killed.walDir, 0o750);
    const report = await doctor(flags);
    expect(wrongOf(report)).toMatchObject([{ check: 'recorder', level: 'warning' }]);
    const segment = join(killed.walDir, readdirSync(killed.walDir).find((name) => name.endsWith('.wal'))!);
    const bytes = readFileSync(segment);
    const block = bytes.indexOf('RBLK');
    bytes[block + 600]! ^= 1;
    writeFileSync(segment, bytes);
    const [damage] = of(await doctor(flags), 'wal');
    expect(damage).toMatchObject({ level: 'error', command: `recorder wal verify ${killed.walDir}` });
    expect(damage!.message).toMatch(/rows \d+ to \d+/);
  }, 60_000);
});
