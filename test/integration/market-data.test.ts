// All real market data through the Unix socket, the WAL and the flusher into ClickHouse: counted by
// reconcile, and summed by SQL against an independent script over the files.

import { afterAll, describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { hasClickHouse18, startClickHouse18 } from '../support/clickhouse-server.ts';
import {
  reconcileWithOwn,
  run,
  sqlCommand,
  startRecorderProcess,
  temporaryHome,
} from '../support/recorder-process.ts';
import {
  expectSumsOfFiles,
  FEEDS,
  hasMarketData,
  MARKET_DATA_DIR,
  MARKET_DATA_ROWS as ROWS,
} from './market-data-sums.ts';

const available = hasMarketData();
/** Plays all files into a recorder that delivers to `flags`, and compares every count and sum. */
async function playAll(flags: readonly string[], serverUrl: string | null): Promise<void> {
  using home = temporaryHome();
  const recorder = await startRecorderProcess(home.path, { flags });
  const url = serverUrl ?? recorder.clickhouseUrl;
  try {
    for (const feed of FEEDS) {
      const played = await run([
        'feed',
        feed,
        join(MARKET_DATA_DIR, feed),
        '--socket',
        recorder.socket,
        '--json',
      ]);
      expect({ errors: played.code === 0 ? '' : played.errors, code: played.code }).toEqual({
        errors: '',
        code: 0,
      });
      expect(played.json).toMatchObject({ sent: ROWS[feed], acked: ROWS[feed], badLines: 0, problems: [] });
    }
    const { code, json, own } = await reconcileWithOwn(recorder.walDir, url);
    const total = ROWS.lean + ROWS.binance + ROWS.lobster + own;
    const nothingWrong = { lost: 0, duplicated: 0, gaps: 0, pending: 0, deadLettered: 0 };
    expect(json).toMatchObject({
      received: total,
      logged: total,
      inserted: total,
      ...nothingWrong,
      matches: true,
    });
    for (const counts of Object.values(json.topics)) {
      expect(counts).toMatchObject({ received: counts.logged, inserted: counts.logged, ...nothingWrong });
    }
    expect(code).toBe(0);
    await expectSumsOfFiles(url);
    const ended = await recorder.end('SIGTERM');
    expect(ended.code).toBe(0);
    expect(recorder.log()).toContain('stopped, nothing left to deliver');
  } finally {
    await recorder.end('SIGKILL');
  }
}

test.skipIf(!available)(
  'embedded ClickHouse: received = logged = inserted, and the sums of the files',
  () => playAll(['--embedded'], null),
  240_000,
);

const has18 = hasClickHouse18();
describe('ClickHouse 18.16', () => {
  let server: Awaited<ReturnType<typeof startClickHouse18>> | null = null;
  afterAll(async () => server?.stop());

  for (const format of ['RowBinary', 'Native']) {
    test.skipIf(!available || !has18)(
      `${format}: received = logged = inserted, and the sums of the files`,
      async () => {
        server ??= await startClickHouse18();
        await sqlCommand(server.url, 'DROP DATABASE IF EXISTS hft');
        await playAll(['--clickhouse-host', server.url, '--clickhouse-format', format], server.url);
      },
      240_000,
    );
  }
});
