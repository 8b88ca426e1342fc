import { expect, test } from 'bun:test';
import { startTestServer } from '../support/embedded.ts';
import { seededRandom } from '../support/random.ts';
import { temporaryHome } from '../support/recorder-process.ts';
import { isSlowClean, runSlow } from './slow.ts';

/** `bun run chaos -- --slow` is the long one. */
const SECONDS = 18;

test('a ClickHouse that hangs, then is slow: memory is bounded, every row is accounted for', async () => {
  using home = temporaryHome();
  const server = await startTestServer();
  try {
    const result = await runSlow({
      home: home.path,
      seconds: SECONDS,
      random: seededRandom('slow'),
      clickhouseUrl: server.url,
      database: 'slow',
      say: () => undefined,
    });
    expect({ isClean: isSlowClean(result), ...result }).toMatchObject({ isClean: true, problems: [] });
    expect(result.streams.sent).toBeGreaterThan(0);
    expect(result.udp.sent).toBeGreaterThan(0);
  } finally {
    await server.close();
  }
}, 240_000);
