import { afterAll, describe, expect, test } from 'bun:test';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError, loadConfig, settingNames } from '../src/config.ts';
import { settings } from '../src/settings.ts';
import { run, temporaryHome } from './support/recorder-process.ts';

const home = temporaryHome();
afterAll(() => home[Symbol.dispose]());

const SECRET = 'hunter2-very-secret';

function file(content: string): string {
  const path = join(home.path, `secret-${Math.random().toString(36).slice(2)}`);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}

function problemsOf(env: Record<string, string>): string {
  try {
    loadConfig({}, env);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.join('\n');
    throw error;
  }
  return '';
}

describe('secrets from files', () => {
  test('every secret setting has its file', () => {
    const secrets = settingNames.filter((name) => settings[name].secret);
    expect(secrets.length).toBeGreaterThan(1);
    for (const name of secrets) {
      const env = `${settings[name].env}_FILE`;
      expect(settingNames.map((candidate) => settings[candidate].env as string)).toContain(env);
      const config = loadConfig({}, { [env]: file(`${SECRET}\n`) });
      expect([config[name], config.origins[name]]).toEqual([SECRET, 'file']);
    }
  });

  test.each([
    [`${SECRET}`, SECRET],
    [`${SECRET}\r\n`, SECRET],
    [' with blanks ', ' with blanks '],
  ])('%p is the secret %p', (content, secret) => {
    expect(loadConfig({}, { HFT_CLICKHOUSE_PASSWORD_FILE: file(content) }).clickhousePassword).toBe(secret);
  });

  test.each([
    ['', 'is empty'],
    ['\n', 'is empty'],
    [`${SECRET}\nanother line\n`, 'one line'],
    [SECRET.repeat(10_000), 'one line'],
  ])('a file with %p is a problem that does not show it', (content, text) => {
    const problems = problemsOf({ HFT_CLICKHOUSE_PASSWORD_FILE: file(content) });
    expect(problems).toContain(text);
    expect(problems).not.toContain(SECRET);
  });

  test('a file that is not there, and a secret given twice, are problems', () => {
    expect(problemsOf({ HFT_CLICKHOUSE_PASSWORD_FILE: '/no/such/file' })).toContain('ENOENT');
    const twice = { HFT_CLICKHOUSE_PASSWORD: SECRET, HFT_CLICKHOUSE_PASSWORD_FILE: file('other') };
    expect(problemsOf(twice)).toContain('one of them');
    expect(problemsOf(twice)).not.toContain(SECRET);
  });

  test('`recorder config` shows that it is set, never what it is', async () => {
    const env = { HFT_CLICKHOUSE_PASSWORD_FILE: file(SECRET), HFT_RECORDER_HTTP_TOKEN: SECRET };
    for (const flags of [[], ['--json']]) {
      const { code, output, errors } = await run(['config', ...flags], { env });
      expect(code).toBe(0);
      expect(output).toContain('(set)');
      expect(output + errors).not.toContain(SECRET);
    }
  }, 20_000);
});
