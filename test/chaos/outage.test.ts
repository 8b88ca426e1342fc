import { expect, test } from 'bun:test';
import { startTestServer } from '../support/embedded.ts';
import { seededRandom } from '../support/random.ts';
import { temporaryHome } from '../support/recorder-process.ts';
import { runOutage } from './outage.ts';

/** `bun run chaos -- --outage --rows 2000000` is the long one. */
const ROWS = 200_000;
const PEAK_LIMIT_MIB = 250;

test('ClickHouse is down for the whole of a feed: all is delivered once, memory stays bounded', async () => {
  using home = temporaryHome();
  const server = await startTestServer();
  try {
    const result = await runOutage({
      home: home.path,
      rows: ROWS,
      random: seededRandom('outage'),
      clickhouseUrl: server.url,
      database: 'outage',
      say: () => undefined,
    });
    const all = { sent: ROWS, acked: ROWS, clickhouse: ROWS };
    expect(result).toMatchObject({ ...all, lost: 0, duplicated: 0, changed: 0 });
    expect(result.peakMib.delivered).toBeLessThan(PEAK_LIMIT_MIB);
  } finally {
    await server.close();
  }
}, 180_000);
