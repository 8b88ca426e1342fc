// Headless Chromium (Debian's) for tests of the page.

import { existsSync } from 'node:fs';
import { type Browser, chromium, type Page } from 'playwright-core';

const PROGRAM = '/usr/bin/chromium';

/** Whether the page can be tested here; says loudly when it cannot. */
export function hasChromium(): boolean {
  const found = existsSync(PROGRAM);
  if (!found) {
    process.stderr.write(
      '\n*** chromium is not installed: the tests of the page DO NOT RUN.' +
        ' Install it with: apt-get install chromium\n\n',
    );
  }
  return found;
}

export function startBrowser(): Promise<Browser> {
  const args = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-background-networking',
    '--disable-dev-shm-usage',
  ];
  return chromium.launch({ executablePath: PROGRAM, args });
}

/** A page with all that went wrong on it: console errors and warnings, exceptions, requests elsewhere. */
export interface WatchedPage {
  page: Page;
  problems: string[];
  close(): Promise<void>;
}

/** Opens `url`. Requests to another origin count as problems: the page has to work offline. */
export async function openPage(
  browser: Browser,
  url: string,
  options: { colorScheme?: 'light' | 'dark'; width?: number; height?: number } = {},
): Promise<WatchedPage> {
  const { colorScheme = 'light', width = 1280, height = 900 } = options;
  const context = await browser.newContext({ colorScheme, viewport: { width, height } });
  const page = await context.newPage();
  const problems: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') problems.push(message.text());
  });
  page.on('pageerror', (error) => problems.push(String(error)));
  page.on('request', (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol !== 'data:' && origin !== new URL(url).origin) problems.push(`request to ${request.url()}`);
  });
  await page.goto(url);
  return { page, problems, close: () => context.close() };
}
