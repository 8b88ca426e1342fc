// The page in a real browser, of a real recorder with a real ClickHouse: shows what /metrics says.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { connect } from 'node:net';
import type { Browser, Page } from 'playwright-core';
import { hasChromium, openPage, startBrowser } from '../support/browser.ts';
import {
  type RecorderProcess,
  run,
  startRecorderProcess,
  temporaryHome,
  until,
} from '../support/recorder-process.ts';

const TIMEOUT_MS = 120_000;
const ROWS = 5000;
const CLEAR_NOTE = "document.getElementById('sql-note').textContent = ''";
/** Which element has the focus, in the words of the page. */
const FOCUSED = `(() => {
  const at = document.activeElement;
  return at?.id || at?.getAttribute('href') || at?.getAttribute('aria-labelledby') || '';
})()`;
const home = temporaryHome();
let recorder: RecorderProcess;
let browser: Browser;
let url = '';

async function metrics(): Promise<Map<string, number>> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))]));
}

/** Cells of a table by the text of their row's and their column's head. */
async function tableOf(page: Page, id: string): Promise<Record<string, Record<string, string>>> {
  const rows = await page
    .locator(`#${id} tr`)
    .evaluateAll((found) => found.map((row) => [...row.children].map((cell) => cell.textContent ?? '')));
  const head = rows[0] ?? [];
  return Object.fromEntries(
    rows.slice(1).map((row) => [row[0]!, Object.fromEntries(row.map((cell, i) => [head[i]!, cell]))]),
  );
}

/** Waits until the text of an element matches. The page's policy forbids Playwright's own way to ask. */
async function shows(page: Page, id: string, pattern: RegExp): Promise<void> {
  const text = async () => (await page.locator(`#${id}`).textContent()) ?? '';
  await until(async () => pattern.test(await text()), `${pattern} in #${id}`, 20_000);
}

/** Runs a statement with the keyboard and waits for the answer. */
async function runSql(page: Page, sql: string): Promise<void> {
  await page.locator('#sql-text').fill(sql);
  await page.evaluate(CLEAR_NOTE);
  await page.locator('#sql-text').press('Control+Enter');
  await shows(page, 'sql-note', /row|Refused| s$| ms$/);
}

describe.skipIf(!hasChromium())('the page', () => {
  beforeAll(async () => {
    recorder = await startRecorderProcess(home.path, { flags: ['--embedded'] });
    url = /metrics and health on (\S+)/.exec(recorder.log())![1]!;
    const sent = await run(['feed', 'sim', '--socket', recorder.socket, '--rows', String(ROWS), '--json']);
    expect(sent.code).toBe(0);
    await until(
      async () => {
        const values = await metrics();
        const inserted = [...values].filter(([name]) => name.startsWith('recorder_inserted_rows_total'));
        return inserted.reduce((sum, [, value]) => sum + value, 0) >= ROWS;
      },
      () => recorder.log(),
      60_000,
    );
    browser = await startBrowser();
  }, TIMEOUT_MS);

  afterAll(async () => {
    await browser?.close();
    if (recorder?.alive()) await recorder.end('SIGKILL');
    home[Symbol.dispose]();
  }, TIMEOUT_MS);

  test(
    'shows the values of /metrics, the verdict of /health, and rows of the WAL',
    async () => {
      const { page, problems, close } = await openPage(browser, url);
      await page.waitForSelector('#topics td');
      const values = await metrics();
      const table = await tableOf(page, 'topics');
      const number = (text: string) => Number(text.replaceAll(',', ''));
      for (const topic of ['market_data', 'fills', 'orders', 'risk_log', 'latency_spans', 'gaps']) {
        const label = `{topic="${topic}"}`;
        expect(number(table[topic]!['Received']!)).toBe(values.get(`recorder_received_rows_total${label}`)!);
        expect(number(table[topic]!['Durable']!)).toBe(values.get(`recorder_durable_rows_total${label}`)!);
        expect(number(table[topic]!['Inserted']!)).toBe(values.get(`recorder_inserted_rows_total${label}`)!);
        expect(number(table[topic]!['Lag, rows']!)).toBe(values.get(`recorder_lag_rows${label}`)!);
      }
      expect(await page.locator('#verdict-title').textContent()).toBe('All is well');
      expect(await page.locator('#verdict').getAttribute('data-state')).toBe('healthy');
      const durable = values.get('recorder_durable_lsn')!.toLocaleString('en-US');
      expect(await page.locator('#stage-wal').textContent()).toContain(`durable up to row ${durable}`);
      await page.locator('#tap-title').scrollIntoViewIfNeeded();
      await page.waitForSelector('#tap tbody tr');
      const rows = (await page.locator('#tap tbody th').allTextContents()).map(Number);
      expect(rows).toEqual(rows.toSorted((a, b) => b - a));
      expect(rows[0]!).toBeLessThan(values.get('recorder_durable_lsn')!);
      expect(await page.locator('#charts canvas').count()).toBe(6);
      expect(problems).toEqual([]);
      await close();
    },
    TIMEOUT_MS,
  );

  test(
    'answers questions about the recorded data, and the server refuses all changes',
    async () => {
      const { page, problems, close } = await openPage(browser, url);
      await page.waitForSelector('#sql-run:enabled');
      const questions = await page.locator('#sql-question option').count();
      for (let i = 0; i < questions; i++) {
        await page.locator('#sql-question').selectOption({ index: i });
        await page.locator('#sql-run').click();
        await shows(page, 'sql-note', /row|Refused/);
        expect(await page.locator('#sql-error').textContent()).toBe('');
        await page.evaluate(CLEAR_NOTE);
      }
      await runSql(page, 'SELECT count() AS n FROM hft.orders');
      const stored = (await metrics()).get('recorder_inserted_rows_total{topic="orders"}')!;
      expect(await page.locator('#sql-result tbody').textContent()).toBe(String(stored));
      for (const sql of [
        "INSERT INTO hft.logs (rule) VALUES ('forged')",
        'DROP TABLE hft.orders',
        'CREATE TABLE hft.forged (a UInt8) ENGINE = Memory',
        'ALTER TABLE hft.orders DELETE WHERE 1',
        'TRUNCATE TABLE hft.orders',
        'SELECT 1 SETTINGS readonly = 0',
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
      ]) {
        await runSql(page, sql);
        expect(await page.locator('#sql-error').textContent()).toMatch(/Code: 164/);
      }
      await runSql(page, "SELECT 1 INTO OUTFILE '/tmp/forged'");
      expect(await page.locator('#sql-error').textContent()).toMatch(/INTO OUTFILE/);
      await runSql(page, 'SELECT count() AS n FROM hft.orders');
      expect(await page.locator('#sql-result tbody').textContent()).toBe(String(stored));
      // A page of another origin can send a POST, but not with this header.
      const foreign = await fetch(`${url}/api/sql`, { method: 'POST', body: 'SELECT 1' });
      expect(foreign.status).toBe(403);
      expect(problems).toEqual([]);
      await close();
    },
    TIMEOUT_MS,
  );

  test(
    'fits a narrow screen, light and dark, and is reached by keyboard',
    async () => {
      const seen = new Set<string>();
      for (const colorScheme of ['light', 'dark'] as const) {
        const { page, problems, close } = await openPage(browser, url, {
          colorScheme,
          width: 375,
          height: 720,
        });
        await page.waitForSelector('#topics td');
        await page.waitForSelector('#charts canvas');
        expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(375);
        seen.add(await page.evaluate<string>('getComputedStyle(document.body).backgroundColor'));
        const reached = new Set<string>();
        for (let i = 0; i < 30; i++) {
          await page.keyboard.press('Tab');
          reached.add(await page.evaluate<string>(FOCUSED));
        }
        for (const id of [
          '#verdict',
          'theme',
          'topics-title',
          'tap-topic',
          'tap-pause',
          'tap-all',
          'tap-title',
        ])
          expect([...reached]).toContain(id);
        for (const id of ['sql-question', 'sql-text', 'sql-run', '/metrics', '/health', '/status'])
          expect([...reached]).toContain(id);
        expect(problems).toEqual([]);
        await close();
      }
      expect(seen.size).toBe(2);
    },
    TIMEOUT_MS,
  );

  test(
    'shows a malformed frame, keeps its history over a reload, and says when the recorder is gone',
    async () => {
      const { page, problems, close } = await openPage(browser, url);
      await page.waitForSelector('#topics td');
      await new Promise<void>((resolve) => {
        const socket = connect(recorder.socket, () => {
          const frame = Buffer.alloc(44, 7);
          frame.writeUInt32LE(40);
          socket.end(frame, () => resolve());
        });
      });
      await shows(page, 'errors', /Malformed/);
      await page.reload();
      await page.waitForSelector('#chart-received .now');
      const live = (await (await fetch(`${url}/api/live?after=0`)).json()) as { points: unknown[] };
      expect(live.points.length).toBeGreaterThan(3);
      expect(problems).toEqual([]);
      await recorder.end('SIGKILL');
      await page.waitForSelector('#verdict[data-state=silent]');
      expect(await page.locator('#verdict').textContent()).toContain('systemctl status recorder');
      await close();
    },
    TIMEOUT_MS,
  );
});
