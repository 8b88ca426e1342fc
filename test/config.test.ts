import { describe, expect, test } from 'bun:test';
import { ConfigError, clickhouseUrls, isClickhouseOn, loadConfig, unknownVariables } from '../src/config.ts';
import { flagOf, settings } from '../src/settings.ts';

function problemsOf(env: Record<string, string>): readonly string[] {
  try {
    loadConfig({}, env);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

describe('configuration', () => {
  test('defaults are those of the table, and they are valid', () => {
    const config = loadConfig({}, {});
    expect(config.mode).toBe('direct');
    expect(config.walDir).toBe('.wal');
    expect(config.schemaExtract).toBe(true);
    expect(clickhouseUrls(config)).toEqual(['http://localhost:8123']);
    expect([config.clickhouseUser, config.clickhousePassword, config.clickhouseDatabase]).toEqual([
      'default',
      '',
      'hft',
    ]);
    expect(config.socketMode).toBe(0o600);
  });

  test('a flag wins over the environment, which wins over the default', () => {
    const env = { HFT_WAL_DIR: '/a', HFT_RECORDER_MODE: 'wal_first' };
    const config = loadConfig({ walDir: '/b' }, env);
    expect([config.walDir, config.origins.walDir]).toEqual(['/b', 'flag']);
    expect([config.mode, config.origins.mode]).toEqual(['wal_first', 'environment']);
    expect(config.origins.walSync).toBe('default');
  });

  test('all problems are reported at once, each with what was expected', () => {
    const problems = problemsOf({
      HFT_RECORDER_MODE: 'fast',
      HFT_CLICKHOUSE_PORT: '9000',
      HFT_RECORDER_SOCKET_MODE: '999',
      HFT_WAL_SEGMENT_BYTES: '1',
      HFT_BATCHER_SCHEMA_EXTRACT: 'perhaps',
      HFT_CLICKHOUSE_PASSWORD: 'secret',
    });
    expect(problems).toHaveLength(5);
    expect(problems.join('\n')).toContain('direct or wal_first');
    expect(problems.join('\n')).toContain('8123');
    expect(problems.join('\n')).not.toContain('secret');
  });

  test.each(['9000', '9440'])('native port %s is refused with a message that names the HTTP port', (port) => {
    expect(problemsOf({ HFT_CLICKHOUSE_PORT: port })[0]).toContain('8123');
    expect(problemsOf({ HFT_CLICKHOUSE_HOST: `db:${port}` })[0]).toContain('8123');
  });

  test.each([
    ['64MiB', 64 * 2 ** 20],
    ['65536', 65_536],
    ['1g', 2 ** 30],
    ['100 kB', 102_400],
  ])('size %s', (text, expected) => {
    expect(loadConfig({ walSegmentBytes: text }, {}).walSegmentBytes).toBe(expected);
  });

  test.each([
    [{}, false, false],
    [{}, true, true],
    [{ HFT_CLICKHOUSE_HOST: 'db' }, false, true],
    [{ HFT_CLICKHOUSE_ENABLED: '1' }, false, true],
    [{ HFT_CLICKHOUSE_ENABLED: '0', HFT_CLICKHOUSE_HOST: 'db' }, false, false],
    [{ HFT_DISABLE_CLICKHOUSE: '1', HFT_CLICKHOUSE_ENABLED: '1', HFT_CLICKHOUSE_HOST: 'db' }, true, false],
    [{ HFT_DISABLE_CLICKHOUSE: '0', HFT_CLICKHOUSE_HOST: 'db' }, false, true],
  ])('ClickHouse with %p, embedded %p: %p', (env, embedded, expected) => {
    expect(isClickhouseOn(loadConfig({}, env), embedded)).toBe(expected);
  });

  test('hosts: names, ports, https, lists', () => {
    const urls = (hosts: string) => clickhouseUrls(loadConfig({ clickhouseHosts: hosts }, {}));
    expect(urls('a, b:8124,https://c')).toEqual(['http://a:8123', 'http://b:8124', 'https://c:8123']);
    expect(urls('https://c:443')).toEqual(['https://c']);
    expect(urls('[::1]:8125')).toEqual(['http://[::1]:8125']);
  });

  test('unknown variables are named with the nearest known one', () => {
    expect(unknownVariables({ HFT_WAL_DRI: 'x', HOME: '/' })).toEqual([
      'HFT_WAL_DRI is not a setting: ignored. Did you mean HFT_WAL_DIR?',
    ]);
  });

  test('every setting has a variable and a flag of its own', () => {
    const names = Object.values(settings).map((setting) => setting.env as string);
    expect(new Set(names).size).toBe(names.length);
    expect(flagOf('HFT_WAL_DIR')).toBe('--wal-dir');
    for (const name of names) expect(name).toMatch(/^HFT_[A-Z_]+$/);
  });
});
