import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { printable } from '../../src/cli/printable.ts';
import { ratesOf, type TopSample, topLines } from '../../src/cli/top-view.ts';
import {
  cleanEnvironment,
  type RecorderProcess,
  recorderCommand,
  run,
  startRecorderProcess,
  temporaryHome,
  until,
} from '../support/recorder-process.ts';

const START_MS = Date.parse('2026-01-02T03:04:05.000Z');

function sample(afterMs: number, received: number, inserted: number): TopSample {
  const topic = { received, logged: received, malformed: 0, shed: 3 };
  return {
    source: 'http',
    status: {
      pid: 42,
      walId: '1',
      recorder: 'rec\u001b[2J',
      updatedAt: new Date(START_MS + afterMs).toISOString(),
      topics: { fills: topic, orders: { ...topic, received: 0 } },
      malformed: { bad_root: 2, too_short: 5 },
      duplicates: 11,
      gaps: 1,
      clickhouseUrl: 'http://db:8123',
      ready: true,
      paused: true,
      nextLsn: 1500,
      durableLsn: 1000,
      disk: { walBytes: 3 * 2 ** 30, segments: 7, freeBytes: 5 * 2 ** 20, deadLetters: 1, level: 'warn' },
      health: {
        state: 'critical',
        since: '2026-01-02T03:00:00.000Z',
        conditions: [
          {
            tag: 'table_blocked',
            subject: 'fills',
            state: 'critical',
            since: '2026-01-02T03:00:00.000Z',
            message: 'the server said \u001b]0;owned\u0007',
            command: 'recorder schema ddl --topic fills',
          },
        ],
      },
      flusher: {
        topics: [
          {
            topic: 'fills',
            state: 'retrying',
            insertedRows: inserted,
            deadRows: 9,
            retries: 4,
            lastError: 'no\nway',
          },
        ],
      },
      lag: { fills: { rows: 77, bytes: 1, oldestMs: START_MS + afterMs - 2500 } },
    },
  };
}

describe('view', () => {
  test('rates are what was added over the time between the two looks', () => {
    const [fills, orders] = ratesOf(sample(0, 1000, 500), sample(2000, 5000, 700));
    expect(fills).toMatchObject({
      received: 5000,
      receivedPerSecond: 2000,
      inserted: 700,
      insertedPerSecond: 100,
    });
    expect(fills).toMatchObject({
      lagRows: 77,
      lagSeconds: 2.5,
      state: 'retrying',
      retries: 4,
      dead: 9,
      shed: 3,
    });
    // No delivery of it is known: absent is not zero.
    expect(orders).toMatchObject({ receivedPerSecond: 0, inserted: null, lagRows: null, lagSeconds: null });
    expect(ratesOf(null, sample(0, 1000, 500))[0]).toMatchObject({ receivedPerSecond: 0 });
    // The recorder was started again in between.
    expect(ratesOf(sample(0, 1000, 500), sample(1000, 10, 5))[0]).toMatchObject({ receivedPerSecond: 0 });
  });

  test('the screen says what is wrong and what to type, and stays within its width', () => {
    const lines = topLines(sample(0, 1000, 500), sample(2000, 5000, 700), 400);
    const text = lines.join('\n');
    for (const part of [
      'critical since 2026-01-02 03:00:00',
      '2,000 rows/s',
      'malformed 7',
      'PRODUCERS HELD BACK',
      '3.0 GiB in 7 segments',
      'not durable 500',
      'disk warn',
      'table_blocked fills',
      '> recorder schema ddl --topic fills',
      '1 topics retrying',
      'dead letters 1',
    ])
      expect(text).toContain(part);
    for (const line of topLines(null, sample(0, 1, 1), 40)) expect(line.length).toBeLessThanOrEqual(40);
  });

  test('nothing from outside drives the terminal', () => {
    for (const line of topLines(null, sample(0, 1, 1), 400)) expect(printable(line)).toBe(line);
    expect(printable('a\u001b[2Jb\u009bc\r\n')).toBe('a\ufffd[2Jb\ufffdc\ufffd\ufffd');
  });

  test('without HTTP it says what it does not know', () => {
    const { pid, walId, recorder, updatedAt, topics, malformed, duplicates, gaps } = sample(0, 1, 1).status;
    const status = { pid, walId, recorder, updatedAt, topics, malformed, duplicates, gaps };
    expect(topLines(null, { status, source: 'file' }, 200).join('\n')).toContain('health unknown');
  });
});

describe('top', () => {
  const home = temporaryHome();
  let recorder: RecorderProcess;
  let flags: string[] = [];
  beforeAll(async () => {
    recorder = await startRecorderProcess(home.path, { env: { HFT_DISABLE_CLICKHOUSE: '1' } });
    // Its port is not the default: it is found through the WAL.
    flags = ['--wal-dir', recorder.walDir];
    await run(['feed', 'sim', '--rows', '3000', '--socket', recorder.socket]);
  }, 60_000);
  afterAll(async () => {
    await recorder.end('SIGTERM');
    home[Symbol.dispose]();
  });

  interface TopJson {
    pid: number;
    source: string;
    state: string | null;
    topics: { topic: string; received: number }[];
  }
  const total = ({ topics }: TopJson) => topics.reduce((sum, { received }) => sum + received, 0);

  test('--once, over HTTP and from status.json, counts what was sent', async () => {
    const overHttp = await run<TopJson>(['top', '--once', '--json', ...flags]);
    expect(overHttp).toMatchObject({
      code: 0,
      json: { pid: recorder.pid, source: 'http', state: 'healthy' },
    });
    expect(total(overHttp.json)).toBeGreaterThanOrEqual(3000);
    const fromFile = await run<TopJson>([
      'top',
      '--once',
      '--json',
      '--wal-dir',
      recorder.walDir,
      '--http',
      '',
    ]);
    expect(fromFile).toMatchObject({ code: 0, json: { pid: recorder.pid, source: 'file', state: null } });
    expect(total(fromFile.json)).toBe(total(overHttp.json));
    const { code, output } = await run(['top', '--once', ...flags]);
    expect([code, output]).toEqual([0, expect.stringContaining('healthy since')]);
    expect(output).not.toContain('\u001b');
  }, 30_000);

  test('no recorder: exit code 1 and what to look at', async () => {
    const none = ['--wal-dir', `${home.path}/none`, '--http', '127.0.0.1:1'];
    const { code, errors } = await run(['top', '--once', ...none]);
    expect([code, errors]).toEqual([1, expect.stringContaining('systemctl status recorder')]);
    expect((await run(['top', '--interval', 'soon'])).errors).toContain('--interval soon');
  }, 30_000);

  test('on a terminal it refreshes in place, and gives the cursor back', async () => {
    const command = [...recorderCommand, 'top', '--interval', '200', ...flags];
    const script = `
import os, pty, sys, time, signal, threading
pid, fd = pty.fork()
if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])
out = b''
end = time.time() + 30
while time.time() < end and out.count(b'recorder ') < 4: out += os.read(fd, 65536)
os.kill(pid, signal.SIGINT)
try:
  while chunk := os.read(fd, 65536): out += chunk
except OSError: pass
sys.stdout.buffer.write(out)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))`;
    const child = Bun.spawn(['/usr/bin/python3', '-c', script, ...command], {
      env: cleanEnvironment({ TERM: 'xterm', COLUMNS: '200' }),
      stdout: 'pipe',
    });
    const output = await new Response(child.stdout).text();
    expect(await child.exited).toBe(0);
    expect(output).toStartWith('\u001b[?25l\u001b[H');
    expect(output.trimEnd()).toEndWith('\u001b[?25h');
    expect(output.split('\u001b[H').length).toBeGreaterThan(3);
    expect(output).toContain(`pid ${recorder.pid}`);
  }, 60_000);

  test('it waits for a recorder that is down', async () => {
    const child = Bun.spawn(
      [...recorderCommand, 'top', '--interval', '100', '--wal-dir', `${home.path}/none`, '--http', ''],
      { env: cleanEnvironment(), stdout: 'pipe' },
    );
    let text = '';
    const reading = (async () => {
      for await (const chunk of child.stdout) text += new TextDecoder().decode(chunk);
    })();
    await until(() => text.split('waiting').length > 2, 'two screens');
    child.kill('SIGTERM');
    await reading;
    expect(await child.exited).toBe(0);
  }, 30_000);
});
