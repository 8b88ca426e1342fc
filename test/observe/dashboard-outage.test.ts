// The page while ClickHouse dies and comes back, and the page behind a token.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import type { Browser, Page } from 'playwright-core';
import { hasChromium, openPage, startBrowser } from '../support/browser.ts';
import { startTestServer } from '../support/embedded.ts';
import {
  type RecorderProcess,
  run,
  startRecorderProcess,
  temporaryHome,
} from '../support/recorder-process.ts';
import { startCommand } from '../support/running-command.ts';

const TIMEOUT_MS = 120_000;
const WAIT = { timeout: 60_000 };
const homes = [temporaryHome(), temporaryHome()] as const;
const running: RecorderProcess[] = [];
let browser: Browser;

/** PICTURES=<folder>: what the page looks like, for people. */
async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env['PICTURES'];
  if (folder !== undefined) await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
}

/** How long the page took to show a change; a figure, not an expectation. */
function say(change: string, sinceMs: number): void {
  process.stderr.write(
    `page: ClickHouse ${change}, shown after ${Math.round(performance.now() - sinceMs)} ms\n`,
  );
}

const top = async ({ walDir }: RecorderProcess) => (await run(['top', '--once', '--wal-dir', walDir])).output;

const urlOf = (log: string) => /metrics and health on (\S+)/.exec(log)![1]!;

describe.skipIf(!hasChromium())('the page', () => {
  beforeAll(async () => {
    browser = await startBrowser();
  }, TIMEOUT_MS);
  afterAll(async () => {
    await browser?.close();
    for (const recorder of running) await recorder.end('SIGKILL');
    for (const home of homes) home[Symbol.dispose]();
  }, TIMEOUT_MS);

  test(
    'says that ClickHouse is gone, what to type, that it answers again, and that all is well',
    async () => {
      const server = await startTestServer();
      const recorder = await startRecorderProcess(homes[0].path, {
        env: { HFT_CLICKHOUSE_HOST: server.url, HFT_FLUSH_RETRY_MAX_MS: '3000' },
      });
      const rows = ['--rows', '1000000', '--speed', '0.1x'];
      const feed = startCommand(['feed', 'sim', '--socket', recorder.socket, ...rows, '--json']);
      try {
        const { page, problems, close } = await openPage(browser, urlOf(recorder.log()));
        await page.waitForSelector('#verdict[data-state=healthy]', WAIT);
        await page.waitForSelector('#stage-clickhouse[data-state=healthy]', WAIT);
        await picture(page, 'feed');
        await server.stop();
        const downMs = performance.now();
        await page.waitForSelector('#verdict[data-state=degraded]', WAIT);
        await page.waitForSelector('#stage-clickhouse[data-state=degraded]', WAIT);
        say('down', downMs);
        await picture(page, 'down');
        expect(await top(recorder)).toMatch(/degraded since .*clickhouse_unreachable: /s);
        const said = (await page.locator('#conditions').textContent()) ?? '';
        expect(said).toContain('clickhouse_unreachable');
        expect(said).toContain(`curl -sS ${server.url}/ping`);
        expect(await page.locator('#back').isHidden()).toBe(true);
        const again = await startTestServer({ path: server.path, port: server.port });
        const upMs = performance.now();
        await page.waitForSelector('#verdict[data-state=healthy]', WAIT);
        say('back', upMs);
        await picture(page, 'back');
        expect(await top(recorder)).toMatch(/healthy since/);
        expect(await page.locator('#events').textContent()).toContain('clickhouse_unreachable is over');
        expect(problems).toEqual([]);
        await close();
        await feed.end('SIGTERM');
        await recorder.end('SIGTERM');
        await again.close();
      } finally {
        await feed.end('SIGKILL');
        await recorder.end('SIGKILL');
        await server.close();
      }
    },
    TIMEOUT_MS,
  );

  test(
    'behind a token is nothing without it and everything with it; without ClickHouse SQL is off',
    async () => {
      const token = 'a-token-of-the-test';
      const recorder = await startRecorderProcess(homes[1].path, {
        env: { HFT_RECORDER_HTTP: '0.0.0.0:0', HFT_RECORDER_HTTP_TOKEN: token },
      });
      running.push(recorder);
      const url = urlOf(recorder.log()).replace('0.0.0.0', '127.0.0.1');
      for (const path of ['/', '/page/app.js', '/api/live', '/api/tap?topic=fills'])
        expect((await fetch(`${url}${path}`)).status).toBe(401);
      const context = await browser.newContext({ httpCredentials: { username: 'any', password: token } });
      const page = await context.newPage();
      await page.goto(url);
      await page.waitForSelector('#verdict[data-state=healthy]', WAIT);
      expect(await page.locator('#stage-clickhouse').getAttribute('data-state')).toBe('off');
      expect(await page.locator('#sql-run').isDisabled()).toBe(true);
      expect(await page.content()).not.toContain(token);
      await context.close();
      await recorder.end('SIGTERM');
    },
    TIMEOUT_MS,
  );
});
