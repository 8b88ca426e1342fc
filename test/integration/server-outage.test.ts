// ClickHouse is killed and comes back while rows flow: the recorder goes on recording, and in the end each
// row is at the server once. 18.16 knows no deduplication tokens: there the recorder has to ask what has
// arrived.

import { expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { hasClickHouse18, startClickHouse18 } from '../support/clickhouse-server.ts';
import { seededRandom } from '../support/random.ts';
import {
  type RecorderProcess,
  reconcileWithOwn,
  run,
  startRecorderProcess,
  temporaryHome,
  until,
} from '../support/recorder-process.ts';

const ROWS = 120_000;
/** Small groups, so that there is always one in flight. */
const env = { HFT_FLUSH_INTERVAL_MS: '20', HFT_FLUSH_ROWS: '3000', HFT_FLUSH_RETRY_MAX_MS: '500' };

/** Feeds while `fail` is called again and again; then everything must be delivered once. */
async function expectSurvives(
  recorder: RecorderProcess,
  url: string,
  fail: () => Promise<void>,
): Promise<void> {
  const random = seededRandom('server-outage');
  const fed = run(['feed', 'sim', '--rows', String(ROWS), '--socket', recorder.socket, '--json']);
  for (let outage = 0; outage < 4; outage++) {
    await Bun.sleep(random.int(100, 700));
    await fail();
  }
  const { code, json } = await fed;
  expect({ code, acked: json['acked'] }).toEqual({ code: 0, acked: ROWS });
  // The end of an outage is a change of health: its row may still be on its way.
  const counted = await reconcileWithOwn(recorder.walDir, url);
  expect({ code: counted.code, ...counted.json }).toMatchObject({
    code: 0,
    matches: true,
    inserted: ROWS + counted.own,
    lost: 0,
    duplicated: 0,
    deadLettered: 0,
  });
  expect((await recorder.end('SIGTERM')).code).toBe(0);
}

test.skipIf(!hasClickHouse18())(
  'ClickHouse 18.16, without tokens',
  async () => {
    using home = temporaryHome();
    const server = await startClickHouse18();
    const recorder = await startRecorderProcess(home.path, { env, flags: ['--clickhouse-host', server.url] });
    try {
      await expectSurvives(recorder, server.url, async () => {
        await server.kill();
        await server.restart();
      });
    } finally {
      await recorder.end('SIGKILL');
      await server.stop();
    }
  },
  120_000,
);

test('the embedded server, which the recorder starts again', async () => {
  using home = temporaryHome();
  const recorder = await startRecorderProcess(home.path, { env, flags: ['--embedded'] });
  /** The recorder has one child: its server. */
  const child = () => {
    const children = readFileSync(`/proc/${recorder.pid}/task/${recorder.pid}/children`, 'utf8');
    return children.trim().split(' ').filter(Boolean).map(Number)[0];
  };
  const answers = async () => {
    const response = await fetch(`${recorder.clickhouseUrl}/ping`, { keepalive: false }).catch(() => null);
    return response?.ok === true;
  };
  try {
    await expectSurvives(recorder, recorder.clickhouseUrl, async () => {
      const pid = child();
      expect(pid).toBeGreaterThan(1);
      process.kill(pid!, 'SIGKILL');
      await until(async () => child() !== undefined && child() !== pid && (await answers()), 'a new server');
    });
    expect(recorder.log()).toMatch(/restarted|again/);
  } finally {
    await recorder.end('SIGKILL');
  }
}, 120_000);
