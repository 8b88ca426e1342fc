import { describe, expect, test } from 'bun:test';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig, unknownVariables } from '../../src/config.ts';

const folder = join(import.meta.dir, '../../deploy/systemd');
const units = readdirSync(folder).filter((name) => name.endsWith('.service'));
const ANALYZE = '/usr/bin/systemd-analyze';

function hasAnalyze(): boolean {
  if (existsSync(ANALYZE)) return true;
  process.stderr.write('\n*** systemd-analyze is not installed: the unit files ARE NOT CHECKED.\n\n');
  return false;
}

describe('systemd units', () => {
  test.skipIf(!hasAnalyze())(
    'systemd-analyze finds nothing wrong, and sees them locked up',
    () => {
      const temporary = mkdtempSync(join(tmpdir(), 'recorder-units-'));
      try {
        for (const name of units) {
          const path = join(temporary, name);
          // The program need not be installed where this runs.
          const text = readFileSync(join(folder, name), 'utf8').replaceAll(
            '/usr/local/bin/recorder',
            '/bin/true',
          );
          writeFileSync(path, text);
          const checked = Bun.spawnSync([ANALYZE, 'verify', '--man=no', path]);
          // systemd-analyze also speaks of other units of the host.
          const own = checked.stderr
            .toString()
            .split('\n')
            .filter((line) => line.includes(name));
          expect({ name, own, code: checked.exitCode }).toEqual({ name, own: [], code: 0 });
          const rated = Bun.spawnSync([ANALYZE, 'security', '--offline=yes', '--no-pager', path]);
          const exposure = Number(/exposure level for \S+: ([\d.]+)/.exec(rated.stdout.toString())?.[1]);
          expect(exposure).toBeLessThan(3);
        }
      } finally {
        rmSync(temporary, { recursive: true });
      }
    },
    60_000,
  );

  test('the recorder is of type notify, may take its time to stop, and is started again', () => {
    const text = readFileSync(join(folder, 'recorder.service'), 'utf8');
    for (const line of ['Type=notify', 'WatchdogSec=30', 'Restart=on-failure', 'NoNewPrivileges=yes']) {
      expect(text).toContain(`\n${line}\n`);
    }
  });

  test('the example of the environment has settings only, with and without its comments', () => {
    const text = readFileSync(join(folder, 'recorder.env'), 'utf8');
    const pairs = [...text.matchAll(/^#?(HFT_\w+)=(.*)$/gm)].map((match) => [match[1]!, match[2]!]);
    expect(pairs.length).toBeGreaterThan(5);
    const env = Object.fromEntries(pairs) as Record<string, string>;
    expect(unknownVariables(env)).toEqual([]);
    delete env['HFT_CLICKHOUSE_PASSWORD_FILE'];
    expect(loadConfig({}, env).socketUids).toEqual([1001]);
  });
});
