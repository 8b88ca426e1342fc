import { expect, test } from 'bun:test';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const main = join(import.meta.dir, '..', '..', 'src', 'main.ts');

/** Command lines of all processes. */
function commandLines(): string[] {
  const lines: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      lines.push(readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
    } catch {
      // It has ended since.
    }
  }
  return lines;
}

/** Runs the program in a temporary directory of its own. */
async function recorder(temporary: string, ...flags: string[]) {
  const child = Bun.spawn([process.execPath, main, ...flags], {
    stdout: 'pipe',
    stderr: 'pipe',
    env: { ...process.env, TMPDIR: temporary, HFT_DISABLE_CLICKHOUSE: '1' },
  });
  const [output, errors, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { output, errors, code };
}

test('demo and reconcile: every row that was sent is in ClickHouse once, by both accounts', async () => {
  const temporary = mkdtempSync(join(tmpdir(), 'recorder-demo-test-'));
  const dir = join(temporary, 'kept');
  const demo = await recorder(temporary, 'demo', '--rows', '20000', '--seed', '7', '--dir', dir, '--json');
  expect(demo.errors).toContain('durable');
  expect(JSON.parse(demo.output.trim())).toEqual({
    sent: 20_000,
    durable: 20_000,
    clickhouse: 20_000,
    lost: 0,
    duplicated: 0,
    seconds: expect.any(Number),
  });
  expect(demo.code).toBe(0);

  // The kept directory is a stopped recorder's, with the data directory of an embedded server.
  const child = Bun.spawn(
    [
      process.execPath,
      main,
      'reconcile',
      ...['--wal-dir', join(dir, 'wal'), '--embedded-path', join(dir, 'clickhouse'), '--embedded', '--json'],
    ],
    { stdout: 'pipe' },
  );
  const report = JSON.parse((await new Response(child.stdout).text()).trim()) as Record<string, unknown>;
  expect(report).toMatchObject({
    received: 20_000,
    logged: 20_000,
    inserted: 20_000,
    lost: 0,
    duplicated: 0,
  });
  expect(Object.keys(report['topics'] as object)).toContain('latency_spans');
  expect(await child.exited).toBe(0);
  rmSync(temporary, { recursive: true });
}, 60_000);

test('demo prints tables and leaves nothing behind', async () => {
  const temporary = mkdtempSync(join(tmpdir(), 'recorder-demo-test-'));
  const demo = await recorder(temporary, 'demo', '--rows', '3000');
  expect(demo.output).toContain('Volume-weighted average price');
  expect(demo.output).toContain('each row once');
  expect(demo.output).not.toContain('DUPLICATES');
  expect(demo.output).toContain('lost 0, duplicated 0');
  expect(demo.code).toBe(0);
  expect(readdirSync(temporary)).toEqual([]);
  rmSync(temporary, { recursive: true });
}, 60_000);

test('an interrupted demo stops its parts and leaves nothing behind', async () => {
  const temporary = mkdtempSync(join(tmpdir(), 'recorder-demo-test-'));
  const demo = Bun.spawn([process.execPath, main, 'demo', '--rows', '100_000_000'], {
    stdout: 'ignore',
    stderr: 'pipe',
    env: { ...process.env, TMPDIR: temporary },
  });
  const reader = demo.stderr.getReader();
  let text = '';
  while (!/ [1-9][\d,]* durable/.test(text)) text += new TextDecoder().decode((await reader.read()).value);
  demo.kill('SIGINT');
  expect(await demo.exited).toBe(1);
  expect(readdirSync(temporary)).toEqual([]);
  expect(commandLines().filter((line) => line.includes(temporary))).toEqual([]);
  rmSync(temporary, { recursive: true });
}, 60_000);

test('a demo that cannot work says why, exits with 1 and leaves nothing behind', async () => {
  const temporary = mkdtempSync(join(tmpdir(), 'recorder-demo-test-'));
  const noEngine = Bun.spawn([process.execPath, main, 'demo', '--json'], {
    stdout: 'pipe',
    stderr: 'pipe',
    env: { ...process.env, TMPDIR: temporary, CHDB_LIBCHDB_PATH: join(temporary, 'absent.so') },
  });
  expect(await new Response(noEngine.stderr).text()).toContain('bun add --optional chdb');
  expect(JSON.parse((await new Response(noEngine.stdout).text()).trim())).toHaveProperty('error');
  expect(await noEngine.exited).toBe(1);
  expect(readdirSync(temporary)).toEqual([]);

  const notADirectory = join(temporary, 'file');
  writeFileSync(notADirectory, '');
  const refused = await recorder(temporary, 'demo', '--dir', join(notADirectory, 'sub'));
  expect(refused.code).toBe(1);
  expect(existsSync(notADirectory)).toBe(true);
  expect((await recorder(temporary, 'demo', '--rows', 'many')).errors).toContain('expected a number from 1');
  rmSync(temporary, { recursive: true });
}, 60_000);

test('reconcile names a directory without a log', async () => {
  const temporary = mkdtempSync(join(tmpdir(), 'recorder-demo-test-'));
  const answer = await recorder(temporary, 'reconcile', '--wal-dir', join(temporary, 'nothing'), '--json');
  expect(JSON.parse(answer.output.trim())).toMatchObject({ error: { code: 'wal_absent' } });
  expect(answer.code).toBe(1);
  rmSync(temporary, { recursive: true });
}, 30_000);
