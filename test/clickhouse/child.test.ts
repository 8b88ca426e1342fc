import { expect, test } from 'bun:test';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EmbeddedEvent } from '../../src/clickhouse/child.ts';
import { startTestServer } from '../support/embedded.ts';

const main = join(import.meta.dir, '..', 'support', 'clickhouse-main.ts');
const ask = async (url: string, sql: string) =>
  (await (await fetch(url, { method: 'POST', body: sql })).text()).trim();
const isAlive = (pid: number) =>
  existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));

test('data outlives a stop and a kill; a killed server comes back on its port', async () => {
  const events: EmbeddedEvent[] = [];
  const server = await startTestServer({ onEvent: (event) => events.push(event) });
  await ask(server.url, 'CREATE TABLE kept (n UInt64) ENGINE = MergeTree ORDER BY n');
  await ask(server.url, 'INSERT INTO kept VALUES (1), (2)');
  const firstPid = server.pid;
  process.kill(firstPid, 'SIGKILL');
  while (events.at(-1)?.kind !== 'restarted') await Bun.sleep(20);
  expect(server.pid).not.toBe(firstPid);
  expect(events.map((event) => event.kind)).toEqual(['died', 'restarted']);
  expect(await ask(server.url, 'SELECT count() FROM kept')).toBe('2');

  // A statement under way ends before the server does.
  const slow = ask(server.url, 'SELECT sum(sleepEachRow(0.1)) FROM numbers(3) SETTINGS max_block_size = 1');
  while (
    (await ask(server.url, "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow%'")) < '2'
  ) {
    await Bun.sleep(5);
  }
  await server.stop();
  expect(await slow).toBe('0');
  expect(isAlive(server.pid)).toBe(false);

  const again = await startTestServer({ path: server.path });
  expect(await ask(again.url, 'SELECT count() FROM kept')).toBe('2');
  await again.close();
}, 30_000);

test('a deduplication token is remembered over a kill', async () => {
  const server = await startTestServer();
  await ask(
    server.url,
    `CREATE TABLE once (n UInt64) ENGINE = MergeTree ORDER BY n
     SETTINGS non_replicated_deduplication_window = 10`,
  );
  const insert = () =>
    ask(server.url, "INSERT INTO once SETTINGS insert_deduplication_token = 'a' FORMAT TSV\n1\n2\n");
  expect(await insert()).toBe('');
  const { pid } = server;
  process.kill(pid, 'SIGKILL');
  while (server.pid === pid) await Bun.sleep(20);
  expect(await insert()).toBe('');
  expect(await ask(server.url, 'SELECT count() FROM once')).toBe('2');
  await server.close();
}, 30_000);

test('a server that cannot stay up is given up', async () => {
  const path = mkdtempSync(join(tmpdir(), 'recorder-clickhouse-'));
  const command = ['bash', '-c', 'exit 7'];
  const failed = await startTestServer({ path, command }).catch((error: Error) => error.message);
  expect(failed).toContain('ended with exit code 7 before it was ready');
  const events: EmbeddedEvent[] = [];
  const server = await startTestServer({ path, maxRestarts: 0, onEvent: (event) => events.push(event) });
  process.kill(server.pid, 'SIGKILL');
  await server.exited;
  expect(events.map((event) => event.kind)).toEqual(['died', 'gave_up']);
  await server.close();
}, 30_000);

test('a server waits for the last one to let go of the directory', async () => {
  const first = await startTestServer();
  const second = startTestServer({ path: first.path });
  await Bun.sleep(300);
  await first.stop();
  const server = await second;
  expect(await ask(server.url, 'SELECT 1')).toBe('1');
  await server.close();
}, 30_000);

test('the server ends when its supervisor is killed', async () => {
  const path = mkdtempSync(join(tmpdir(), 'recorder-clickhouse-'));
  const script = `
    import { startEmbedded } from ${JSON.stringify(join(import.meta.dir, '../../src/clickhouse/child.ts'))};
    const command = [process.execPath, ${JSON.stringify(main)}];
    const server = await startEmbedded({ path: ${JSON.stringify(path)}, command });
    process.stdout.write(server.pid + '\\n');
    await server.exited;`;
  const parent = Bun.spawn([process.execPath, '-e', script], { stdout: 'pipe', stderr: 'inherit' });
  const { value } = await parent.stdout.getReader().read();
  const pid = Number(Buffer.from(value!).toString());
  expect(isAlive(pid)).toBe(true);
  process.kill(pid, 'SIGTERM'); // not for a supervised server: its supervisor may still drain into it
  parent.kill('SIGKILL');
  while (isAlive(pid)) await Bun.sleep(20);
  rmSync(path, { recursive: true, force: true });
}, 30_000);

test('a directory in use, a port in use and an absent engine are named', async () => {
  const server = await startTestServer();
  const run = async (path: string, port: number, env: Record<string, string> = {}) => {
    const child = Bun.spawn([process.execPath, main, 'clickhouse', '--path', path, '--port', String(port)], {
      stderr: 'pipe',
      env: { ...process.env, ...env },
    });
    const text = await new Response(child.stderr).text();
    return { code: await child.exited, text };
  };
  const other = mkdtempSync(join(tmpdir(), 'recorder-clickhouse-'));
  expect(await run(server.path, 0)).toMatchObject({
    code: 1,
    text: expect.stringContaining(`cannot open ${server.path}`),
  });
  expect(await run(other, server.port)).toMatchObject({
    code: 1,
    text: expect.stringContaining(`:${server.port}`),
  });
  const absent = await run(other, 0, { CHDB_LIBCHDB_PATH: '/nowhere/libchdb.so' });
  expect(absent).toMatchObject({ code: 1, text: expect.stringContaining('bun add --optional chdb@3.4.0') });
  rmSync(other, { recursive: true });
  await server.close();
}, 30_000);
