import { expect, test } from 'bun:test';
import { join } from 'node:path';
import { cleanEnvironment } from '../support/recorder-process.ts';

test('what was acknowledged is in ClickHouse once, whatever is killed (lessons 1, 10)', async () => {
  const seed = process.env['TEST_SEED'] ?? String(Date.now() % 0x7fffffff);
  const flags = ['--kills', '5', '--rows', '30000', '--seed', seed, '--json'];
  const child = Bun.spawn([process.execPath, join(import.meta.dir, 'main.ts'), ...flags], {
    env: cleanEnvironment(),
    stdout: 'pipe',
    stderr: 'pipe',
  });
  const [output, errors, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) process.stderr.write(errors);
  expect(JSON.parse(output.trim().split('\n').at(-1)!)).toMatchObject({
    kills: 5,
    sent: 30_000,
    acked: 30_000,
    clickhouse: 30_000,
    lost: 0,
    duplicated: 0,
    changed: 0,
    problems: [],
  });
  expect(code).toBe(0);
}, 180_000);
