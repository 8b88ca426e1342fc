// Delivery through connections that break at every point: real recorder processes, real servers.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { simulate } from '../../src/feed/sim/simulator.ts';
import { type RunningServer, serverKinds } from '../sink/servers.ts';
import {
  FAULTS,
  type Fault,
  type FaultProxy,
  type Refusal,
  startFaultProxy,
} from '../support/fault-proxy.ts';
import { seededRandom } from '../support/random.ts';
import {
  type RecorderProcess,
  reconcile,
  run,
  startRecorderProcess,
  temporaryHome,
  until,
} from '../support/recorder-process.ts';
import { compareStored } from '../support/stored-rows.ts';

const random = seededRandom('fault proxy');
const ROWS = 24_000;
// On a server without tokens each break costs the time that a lost attempt is given to arrive.
const TIMEOUT_MS = 300_000;
/** What passes by an operator's hand or by itself: with no retry at all a refusal would be a dead letter. */
const REFUSALS: Refusal[] = [
  { code: 164, message: 'Cannot execute query in readonly mode. (READONLY)' },
  { code: 201, message: 'Quota for user `default` for 3600s has been exceeded. (QUOTA_EXCEEDED)' },
  { code: 241, message: 'Memory limit (total) exceeded. (MEMORY_LIMIT_EXCEEDED)' },
  { code: 242, message: 'Table is in readonly mode. (TABLE_IS_READ_ONLY)' },
  { code: 243, message: 'Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)' },
  { code: 252, message: 'Too many parts (300). Merges are processing slower. (TOO_MANY_PARTS)' },
  { code: 516, message: 'default: Authentication failed. (AUTHENTICATION_FAILED)' },
];
let databases = 0;

/** Every fault as often as the others, in random order, with good requests between them. */
function faultDeck(times: number): Fault[] {
  const deck: Fault[] = [];
  for (const fault of FAULTS) for (let i = 0; i < times; i++) deck.push(fault, 'none');
  for (let i = deck.length - 1; i > 0; i--) {
    const other = random.int(0, i);
    [deck[i], deck[other]] = [deck[other]!, deck[i]!];
  }
  return deck;
}

for (const kind of serverKinds.filter(({ available }) => available)) {
  describe(`faults before ClickHouse ${kind.name}`, () => {
    let server: RunningServer;
    beforeAll(async () => {
      server = await kind.start();
    }, 60_000);
    afterAll(() => server.close(), 30_000);

    /** Feeds a recorder that delivers through the proxy; `during` ends the faults. */
    async function deliver(
      format: string,
      choose: (database: string) => FaultProxy['choose'],
      during: (proxy: FaultProxy, recorder: RecorderProcess) => Promise<void>,
      maxRetries = '50',
    ): Promise<void> {
      using home = temporaryHome();
      const database = `proxied_${databases++}`;
      const proxy = await startFaultProxy({ target: server.url, random, choose: choose(database) });
      const recorder = await startRecorderProcess(home.path, {
        env: {
          HFT_CLICKHOUSE_HOST: '127.0.0.1',
          HFT_CLICKHOUSE_PORT: String(proxy.port),
          HFT_CLICKHOUSE_DATABASE: database,
          HFT_CLICKHOUSE_TIMEOUT_MS: '700',
          HFT_CLICKHOUSE_FORMAT: format,
          HFT_BATCH_ROWS: '100',
          HFT_FLUSH_ROWS: '300',
          HFT_FLUSH_INTERVAL_MS: '20',
          HFT_FLUSH_RETRY_BASE_MS: '5',
          HFT_FLUSH_RETRY_MAX_MS: '50',
          HFT_FLUSH_MAX_RETRIES: maxRetries,
        },
      });
      try {
        const seed = random.int(1, 1e6);
        const target = ['--socket', recorder.socket, '--source', 'engine', '--session', 'one', '--json'];
        const feed = await run<{ acked: number }>([
          ...['feed', 'sim', '--rows', String(ROWS), '--seed', String(seed)],
          ...target,
        ]);
        expect(feed.json.acked).toBe(ROWS);
        await during(proxy, recorder);
        proxy.choose = () => 'none';
        expect((await recorder.end('SIGTERM')).code).toBe(0);
        const sent = { source: 'engine', session: 'one', rows: ROWS, acked: ROWS };
        const events = simulate({ seed, rows: ROWS });
        expect(await compareStored(server.url, database, [{ ...sent, events }])).toMatchObject({
          ...{ clickhouse: ROWS, lost: 0, duplicated: 0, changed: 0, foreign: 0, examples: [] },
        });
        const flags = ['--clickhouse-host', server.url, '--clickhouse-database', database];
        const { json } = await reconcile(recorder.walDir, ...flags);
        expect(json).toMatchObject({
          lost: 0,
          duplicated: 0,
          pending: 0,
          deadLettered: 0,
          inserted: json.logged,
        });
      } finally {
        await recorder.end('SIGKILL');
        await proxy.close();
      }
    }

    for (const format of ['RowBinary', 'Native']) {
      test(
        `every kind of break, ${format}: each row is there once (lesson 10)`,
        async () => {
          const deck = faultDeck(5);
          const choose = (): FaultProxy['choose'] => (request) =>
            request.isInsert ? (deck.pop() ?? 'none') : 'none';
          await deliver(format, choose, async (proxy, recorder) => {
            await until(
              () => deck.length === 0 || !recorder.alive(),
              () => recorder.log(),
              240_000,
            );
            for (const fault of FAULTS) expect(proxy.counts.get(fault)).toBe(5);
            expect(recorder.alive()).toBe(true);
          });
        },
        TIMEOUT_MS,
      );
    }

    test(
      'what a server refuses for a while comes later, and nothing becomes a dead letter',
      async () => {
        const left = REFUSALS.flatMap((refusal) => [refusal, refusal, refusal]);
        const choose = (): FaultProxy['choose'] => (request) =>
          request.isInsert ? (left.pop() ?? 'none') : 'none';
        const during = async (proxy: FaultProxy, recorder: RecorderProcess) => {
          await until(
            () => left.length === 0 || !recorder.alive(),
            () => recorder.log(),
            240_000,
          );
          expect(proxy.counts.get('answer_500')).toBe(REFUSALS.length * 3);
        };
        await deliver('RowBinary', choose, during, '0');
      },
      TIMEOUT_MS,
    );

    test(
      'breaks of every request, questions too, with refused connections',
      async () => {
        const choose = (): FaultProxy['choose'] => () => (random.next() < 0.3 ? random.pick(FAULTS) : 'none');
        await deliver('RowBinary', choose, async (proxy, recorder) => {
          for (let round = 0; round < 5; round++) {
            await proxy.down();
            await Bun.sleep(random.int(20, 300));
            await proxy.up();
            await Bun.sleep(random.int(200, 1500));
          }
          expect(recorder.alive()).toBe(true);
        });
      },
      TIMEOUT_MS,
    );
  });
}
