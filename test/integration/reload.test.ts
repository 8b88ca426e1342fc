// SIGHUP: a running recorder and a running loader take over what may change.

import { expect, test } from 'bun:test';
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { recorderCommand, startRecorderProcess, temporaryHome, until } from '../support/recorder-process.ts';

const TIMEOUT_MS = 60_000;
const GET = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });

test(
  'a recorder takes over log level, memory, disk, policies and token; what is not valid changes nothing',
  async () => {
    using home = temporaryHome();
    const file = join(home.path, 'recorder.env');
    writeFileSync(file, 'HFT_RECORDER_HTTP_TOKEN=one\nHFT_MEMORY_MAX_BYTES=64MiB\n');
    const env = { HFT_CONFIG_FILE: file, HFT_MEMORY_MAX_BYTES: '32MiB', HFT_DISABLE_CLICKHOUSE: '1' };
    const recorder = await startRecorderProcess(home.path, { env });
    const url = /metrics and health on (\S+)/.exec(recorder.log())![1]!;
    const metric = async (name: string, token: string) => {
      const text = await (await fetch(`${url}/metrics`, GET(token))).text();
      return Number(
        text
          .split('\n')
          .find((line) => line.startsWith(`${name} `))
          ?.split(' ')[1],
      );
    };
    try {
      expect(await metric('recorder_memory_limit_bytes', 'one')).toBe(64 << 20);
      const settings = [
        'HFT_RECORDER_HTTP_TOKEN=two',
        'HFT_MEMORY_MAX_BYTES=16MiB',
        // The segments that are there are more than that.
        'HFT_WAL_MAX_BYTES=9MiB',
        'HFT_WAL_FULL_POLICY_MARKET_DATA=drop',
        'HFT_LOG_LEVEL=error',
        'HFT_RECORDER_ID=another',
      ];
      writeFileSync(file, settings.join('\n'));
      process.kill(recorder.pid, 'SIGHUP');
      await recorder.logged(/error: health healthy → critical: disk level halt/);
      expect(recorder.log()).toContain('stopped: backtest_runs, gaps, latency_spans, market_data (dropped)');
      expect(await metric('recorder_memory_limit_bytes', 'two')).toBe(16 << 20);
      expect((await fetch(`${url}/metrics`, GET('one'))).status).toBe(401);
      expect(recorder.log()).not.toContain('SIGHUP');

      writeFileSync(file, `${settings.join('\n')}\nHFT_MEMORY_MAX_BYTES=much\n`);
      process.kill(recorder.pid, 'SIGHUP');
      await recorder.logged(/error: SIGHUP: the settings stay as they are: .*HFT_MEMORY_MAX_BYTES="much"/s);
      writeFileSync(file, 'HFT_WAL_FULL_POLICY_NOTHING=drop\n');
      process.kill(recorder.pid, 'SIGHUP');
      await recorder.logged(/there is no topic nothing/);
      expect(await metric('recorder_memory_limit_bytes', 'two')).toBe(16 << 20);

      writeFileSync(file, `${settings.join('\n')}\nHFT_LOG_LEVEL=info\nHFT_WAL_MAX_BYTES=0\nHFT_TYPO=1\n`);
      process.kill(recorder.pid, 'SIGHUP');
      await recorder.logged(/info: SIGHUP: settings read again, HFT_WAL_MAX_BYTES, HFT_LOG_LEVEL changed/);
      await recorder.logged(/warn: HFT_TYPO is not a setting/);
      await recorder.logged(/health critical → healthy/);
      expect(recorder.log()).not.toContain('restart');
      writeFileSync(file, `${settings.join('\n').replace('=another', '=a-third')}\nHFT_LOG_LEVEL=info\n`);
      process.kill(recorder.pid, 'SIGHUP');
      await recorder.logged(/HFT_RECORDER_ID changed: takes effect with a restart/);
      expect((await recorder.end('SIGTERM')).code).toBe(0);
    } finally {
      await recorder.end('SIGKILL');
    }
  },
  TIMEOUT_MS,
);

test(
  'a loader takes over its log level and its token',
  async () => {
    using home = temporaryHome();
    const file = join(home.path, 'loader.env');
    const log = join(home.path, 'loader.log');
    mkdirSync(join(home.path, 'wal'));
    writeFileSync(file, 'HFT_RECORDER_HTTP_TOKEN=one\n');
    const env = {
      ...process.env,
      HFT_CONFIG_FILE: file,
      HFT_WAL_DIR: join(home.path, 'wal'),
      HFT_LOADER_HTTP: '127.0.0.1:0',
      HFT_CLICKHOUSE_HOST: 'http://127.0.0.1:9',
      HFT_DRAIN_TIMEOUT_MS: '100',
      HFT_LOG_LEVEL: 'info',
    };
    const loader = Bun.spawn([...recorderCommand, 'load'], { env, stderr: openSync(log, 'w') });
    const text = () => readFileSync(log, 'utf8');
    try {
      const url = await until(() => /metrics and health on (http:[^"\s]+)"/.exec(text())?.[1], text);
      expect((await fetch(`${url}/health/live`, GET('one'))).status).toBe(200);
      writeFileSync(file, 'HFT_RECORDER_HTTP_TOKEN=two\n');
      loader.kill('SIGHUP');
      await until(() => text().includes('HFT_RECORDER_HTTP_TOKEN changed'), text);
      expect((await fetch(`${url}/health/live`, GET('one'))).status).toBe(401);
      expect((await fetch(`${url}/health/live`, GET('two'))).status).toBe(200);
      expect(text()).not.toContain('"two"');
    } finally {
      loader.kill('SIGTERM');
      await loader.exited;
    }
  },
  TIMEOUT_MS,
);
