import { afterAll, describe, expect, test } from 'bun:test';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError, loadConfig, unknownVariables } from '../src/config.ts';
import { readConfigFile } from '../src/config-file.ts';
import { reload } from '../src/reload.ts';

const folder = mkdtempSync(join(tmpdir(), 'recorder-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(text: string): string {
  const path = join(folder, crypto.randomUUID());
  writeFileSync(path, text);
  return path;
}

function problemsOf(configFile: string): readonly string[] {
  try {
    loadConfig({ configFile }, {});
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

describe('a file of settings', () => {
  test('is read as the EnvironmentFile of a unit', () => {
    const text =
      '# a\n; b\n\nHFT_WAL_DIR=/a b#c\n  HFT_RECORDER_ID = "x y" \nHFT_CLICKHOUSE_PASSWORD=\'p\'\r\n';
    expect(readConfigFile(file(text))).toEqual({
      HFT_WAL_DIR: '/a b#c',
      HFT_RECORDER_ID: 'x y',
      HFT_CLICKHOUSE_PASSWORD: 'p',
    });
  });

  test('wins over the environment; a flag wins over it', () => {
    const configFile = file('HFT_WAL_DIR=/file\nHFT_RECORDER_ID=file\nHFT_WAL_FULL_POLICY_FILLS=drop');
    const env = { HFT_WAL_DIR: '/env', HFT_LOG_LEVEL: 'warn', HFT_CONFIG_FILE: configFile };
    const config = loadConfig({ recorderId: 'flag' }, env);
    expect([config.walDir, config.recorderId, config.logLevel]).toEqual(['/file', 'flag', 'warn']);
    expect([config.origins.walDir, config.origins.recorderId]).toEqual(['file', 'flag']);
    expect(config.walFullPolicy).toEqual({ fills: 'drop' });
  });

  test('its faults are problems like others, and show no secret', () => {
    const problems = problemsOf(file('HFT_RECORDER_MODE=fast'));
    expect(problems).toEqual([expect.stringContaining('direct or wal_first')]);
    const [noSetting] = problemsOf(file('HFT_LOG_LEVEL=info\nthe secret'));
    expect(noSetting).toContain('line 2: NAME=value is expected');
    expect(noSetting).not.toContain('the secret');
    expect(problemsOf(join(folder, 'absent'))).toEqual([expect.stringContaining('ENOENT')]);
    if (process.getuid?.() !== 0) {
      const hidden = file('');
      chmodSync(hidden, 0);
      expect(problemsOf(hidden)).toEqual([expect.stringContaining('EACCES')]);
    }
  });

  test('names in it that are no settings are warned about', () => {
    const [warning] = unknownVariables({}, file('HFT_WAL_DIRR=/a'));
    expect(warning).toContain('HFT_WAL_DIR?');
  });
});

describe('settings that are read again', () => {
  test('are taken over where they may change, and named where they may not', () => {
    const loaded = loadConfig({}, { HFT_CLICKHOUSE_HOST: 'a' });
    const running = { ...loaded, clickhouseHosts: ['http://127.0.0.1:1'], clickhousePort: 1 };
    const env = { HFT_CLICKHOUSE_HOST: 'b', HFT_LOG_LEVEL: 'debug', HFT_DISK_WARN_BYTES: '1GiB' };
    const { config, changed, needRestart } = reload(running, loaded, loadConfig({}, env));
    expect(changed.toSorted()).toEqual(['diskWarnBytes', 'logLevel']);
    expect(needRestart).toEqual(['clickhouseHosts']);
    expect(config).toMatchObject({
      logLevel: 'debug',
      diskWarnBytes: 2 ** 30,
      clickhouseHosts: ['http://127.0.0.1:1'],
      clickhousePort: 1,
    });
    expect([config.origins.logLevel, config.origins.clickhousePort]).toEqual(['environment', 'default']);
    expect(reload(running, loaded, loaded)).toMatchObject({ config: running, changed: [], needRestart: [] });
  });
});
