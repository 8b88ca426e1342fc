// The compiled binary, alone: built as `bun run build` builds it, run in an empty folder without Bun or Node
// on the PATH, through a whole session.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { version } from '../../package.json' with { type: 'json' };
import { hasChromium, openPage, startBrowser } from '../support/browser.ts';
import { startTestServer, type TestServer } from '../support/embedded.ts';
import {
  type CommandResult,
  ownRows,
  type ReconcileJson,
  run,
  sqlValue,
  startRecorderProcess,
  temporaryHome,
} from '../support/recorder-process.ts';

const root = join(import.meta.dir, '../..');
const home = temporaryHome();
const binary = join(home.path, 'recorder');
const empty = join(home.path, 'empty');
const ROWS = 20_000;

let server: TestServer;
let environment: Record<string, string> = {};

/** Runs a command of the binary in the empty folder. */
function runBinary<Json = Record<string, unknown>>(...args: string[]): Promise<CommandResult<Json>> {
  return run<Json>(args, { command: [binary], cwd: empty, env: environment });
}

/** The page of the binary, whole, in a browser: scripts, styles, plots and rows are inside it. */
async function expectPage(url: string): Promise<void> {
  const browser = await startBrowser();
  try {
    const { page, problems } = await openPage(browser, url);
    await page.waitForSelector('#verdict[data-state=healthy]', { timeout: 30_000 });
    await page.waitForSelector('#charts canvas', { timeout: 30_000 });
    await page.locator('#tap-title').scrollIntoViewIfNeeded();
    await page.waitForSelector('#tap tbody tr', { timeout: 30_000 });
    expect(problems).toEqual([]);
  } finally {
    await browser.close();
  }
}

beforeAll(async () => {
  mkdirSync(empty);
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    scripts: { build: string };
  };
  // The script itself, but for where the binary goes: others may build at the same time.
  expect(scripts.build).toContain('--outfile dist/recorder');
  const [program, ...args] = scripts.build.replace('dist/recorder', binary).split(/\s+/);
  expect(program).toBe('bun');
  const built = Bun.spawnSync([process.execPath, ...args], { cwd: root, stdout: 'pipe', stderr: 'pipe' });
  expect({ code: built.exitCode, errors: built.exitCode === 0 ? '' : built.stderr.toString() }).toEqual({
    code: 0,
    errors: '',
  });
  server = await startTestServer();
  environment = { PATH: '/nonexistent', HFT_CLICKHOUSE_HOST: server.url };
}, 180_000);
afterAll(async () => {
  await server?.close();
  home[Symbol.dispose]();
}, 60_000);

describe('the compiled binary', () => {
  test('is one executable file, knows its version and its commands', async () => {
    expect(statSync(binary).mode & 0o111).not.toBe(0);
    const shown = await runBinary('--version');
    expect(shown).toMatchObject({ code: 0, output: `${version}\n`, errors: '' });
    const help = await runBinary('--help');
    for (const name of ['serve', 'load', 'feed', 'tap', 'top', 'doctor', 'wal', 'reconcile', 'config'])
      expect(help.output).toContain(`\n  ${name} `);
  }, 30_000);

  test('records, delivers, reconciles, and drains on SIGTERM', async () => {
    const recorder = await startRecorderProcess(home.path, {
      command: [binary],
      cwd: empty,
      env: environment,
    });
    const http = / on (http:\/\/127\.0\.0\.1:\d+)/.exec(recorder.log())![1]!;
    const at = ['--wal-dir', recorder.walDir];
    const fed = await runBinary<{ sent: number; acked: number }>(
      ...['feed', 'sim', '--rows', String(ROWS), '--socket', recorder.socket, '--json'],
    );
    expect(fed).toMatchObject({ code: 0, json: { sent: ROWS, acked: ROWS } });
    const proof = await runBinary<ReconcileJson>('reconcile', ...at, '--json', '--wait', '60');
    expect(proof).toMatchObject({ code: 0, json: { lost: 0, duplicated: 0, matches: true } });
    const own = await ownRows(server.url);
    const tables = "SELECT sum(total_rows) FROM system.tables WHERE database = 'hft'";
    expect(Number(await sqlValue(server.url, tables))).toBe(ROWS + own);
    expect(proof.json.received).toBe(ROWS + own);

    const tapped = await runBinary('tap', ...at, '--once', '--last', '3', '--topic', 'fills', '--json');
    expect(tapped.output.trimEnd().split('\n')).toHaveLength(3);
    const top = await runBinary('top', ...at, '--http', http.replace('http://', ''), '--once', '--json');
    expect(top).toMatchObject({ code: 0, json: { pid: recorder.pid, source: 'http', state: 'healthy' } });
    const examined = await runBinary('doctor', ...at, '--socket', recorder.socket, '--json');
    expect(examined).toMatchObject({ code: 0, json: { errors: 0 } });
    const metrics = await (await fetch(`${http}/metrics`)).text();
    expect(metrics).toContain('recorder_durable_rows_total');
    const answer = await fetch(`${http}/`);
    expect([answer.status, answer.headers.get('content-type')]).toEqual([
      200,
      expect.stringContaining('text/html'),
    ]);
    if (hasChromium()) await expectPage(http);

    const end = await recorder.end('SIGTERM');
    expect(end.code).toBe(0);
    expect(JSON.parse(end.output.trimEnd().split('\n').at(-1)!)).toMatchObject({ durable: true });
    expect(existsSync(recorder.socket)).toBe(false);
    const verified = await runBinary('wal', 'verify', recorder.walDir, '--json');
    expect(verified).toMatchObject({ code: 0, json: { damaged: [] } });
  }, 120_000);

  test('delivers later what was only recorded', async () => {
    const place = join(home.path, 'later');
    mkdirSync(place);
    const recorder = await startRecorderProcess(place, {
      command: [binary],
      cwd: empty,
      env: { ...environment, HFT_RECORDER_MODE: 'wal_first' },
    });
    await runBinary('feed', 'sim', '--rows', '5000', '--seed', '9', '--socket', recorder.socket);
    expect((await recorder.end('SIGTERM')).code).toBe(0);
    const loaded = await runBinary<{ rows: number; complete: boolean }>(
      ...['load', '--once', '--json', '--wal-dir', recorder.walDir],
    );
    expect(loaded).toMatchObject({ code: 0, json: { complete: true, deadLettered: 0 } });
    expect(loaded.json.rows).toBeGreaterThanOrEqual(5000);
    const proof = await runBinary<ReconcileJson>('reconcile', '--wal-dir', recorder.walDir, '--json');
    expect(proof).toMatchObject({ code: 0, json: { lost: 0, duplicated: 0, matches: true } });
  }, 120_000);

  test('leaves nothing where it runs', () => {
    expect(readdirSync(empty)).toEqual([]);
  });
});
