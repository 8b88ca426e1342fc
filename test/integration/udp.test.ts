// Datagrams on loopback: nothing is lost at an honest pace; what is dropped on purpose is in hft.gaps, no
// more and no less; a second line fills what the first has lost.

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { join } from 'node:path';
import { topics } from '../../src/schema/registry.ts';
import {
  type RecorderProcess,
  reconcile,
  run,
  sql,
  startRecorderProcess,
  temporaryHome,
  until,
} from '../support/recorder-process.ts';
import {
  expectSumsOfFiles,
  FEEDS,
  hasMarketData,
  MARKET_DATA_DIR,
  MARKET_DATA_ROWS,
} from './market-data-sums.ts';

const TABLES = topics.filter(({ topic }) => topic !== 'gaps').map(({ table }) => table);

const GROUP = '239.255.77.19';

interface Range {
  first: number;
  last: number;
}

interface FeedJson {
  sent: number;
  dropped: Range[];
}

const home = temporaryHome();
let recorder: RecorderProcess;
beforeAll(async () => {
  const one = (name: string) => `${name}=127.0.0.1:0`;
  const group = `group=${GROUP}:0?interface=127.0.0.1`;
  const feeds = [...FEEDS.map((feed) => one(`feed-${feed}`)), one('sim'), `${one('ab')}|127.0.0.1:0`, group];
  const flags = ['--embedded', '--udp', feeds.join(',')];
  recorder = await startRecorderProcess(home.path, { flags });
}, 60_000);
afterAll(async () => {
  await recorder?.end('SIGKILL');
  home[Symbol.dispose]();
});

/** Address of the n-th line. */
const line = (index: number) => `127.0.0.1:${recorder.udpPorts[index]}`;
const SIM_LINE = FEEDS.length;

/** Without the right to a large receive buffer a burst is lost: then slower. */
const pace = () => ['--datagrams-per-second', recorder.log().includes('granted') ? '3000' : '40000'];

async function play(...flags: string[]): Promise<FeedJson> {
  const { code, errors, json } = await run<FeedJson & Record<string, unknown>>(['feed', ...flags, '--json']);
  if (code !== 0) throw new Error(errors);
  return json;
}

/** Sequence numbers of a session that are in no table, as ranges; fails where one is there twice. */
async function missingIn(source: string, session: string, last: number): Promise<Range[]> {
  const selects = TABLES.map(
    (table) => `SELECT seq FROM hft.${table} WHERE source = '${source}' AND session = '${session}'`,
  );
  const rows = await sql(
    recorder.clickhouseUrl,
    `SELECT seq FROM (${selects.join(' UNION ALL ')}) ORDER BY seq`,
  );
  const missing: Range[] = [];
  let next = 1;
  for (const seq of [...rows.map(([text]) => Number(text)), last + 1]) {
    if (seq < next) throw new Error(`sequence number ${seq} is there twice`);
    if (seq > next) missing.push({ first: next, last: seq - 1 });
    next = seq + 1;
  }
  return missing;
}

/** Adjacent ranges made one: a gap may be reported in parts. */
function joined(ranges: readonly Range[]): Range[] {
  const result: Range[] = [];
  for (const { first, last } of ranges.toSorted((a, b) => a.first - b.first)) {
    const previous = result.at(-1);
    if (previous !== undefined && previous.last + 1 === first) previous.last = last;
    else result.push({ first, last });
  }
  return result;
}

/** The rows of hft.gaps of a session, and the lines that they name. */
async function gapsOf(source: string, session: string): Promise<{ ranges: Range[]; lines: string[] }> {
  const rows = await sql(
    recorder.clickhouseUrl,
    `SELECT first_seq, last_seq, line, state_name, seq FROM hft.gaps
     WHERE source = '${source}' AND session = '${session}'`,
  );
  for (const [first, , , state, seq] of rows) expect([state, seq]).toEqual(['missing', first!]);
  return {
    ranges: rows.map(([first, last]) => ({ first: Number(first), last: Number(last) })),
    lines: [...new Set(rows.map(([, , name]) => name!))],
  };
}

/** Waits until everything received is in ClickHouse. */
async function delivered(): Promise<Awaited<ReturnType<typeof reconcile>>['json']> {
  const { code, json } = await reconcile(recorder.walDir);
  expect({ code, matches: json.matches, lost: json.lost, duplicated: json.duplicated }).toEqual({
    code: 0,
    matches: true,
    lost: 0,
    duplicated: 0,
  });
  return json;
}

test.skipIf(!hasMarketData())(
  'real market data: no gap, and the sums of the files',
  async () => {
    for (const [index, feed] of FEEDS.entries()) {
      const { sent } = await play(feed, join(MARKET_DATA_DIR, feed), '--udp', line(index), ...pace());
      expect(sent).toBe(MARKET_DATA_ROWS[feed]);
    }
    expect((await delivered()).gaps).toBe(0);
    expect(await sql(recorder.clickhouseUrl, 'SELECT * FROM hft.gaps')).toEqual([]);
    await expectSumsOfFiles(recorder.clickhouseUrl);
  },
  120_000,
);

test('all six topics: each sequence number once, no gap', async () => {
  await play('sim', '--rows', '20000', '--udp', line(SIM_LINE), '--session', 'CLEAN', ...pace());
  await delivered();
  expect(await missingIn('sim', 'CLEAN', 20_000)).toEqual([]);
  expect((await gapsOf('sim', 'CLEAN')).ranges).toEqual([]);
}, 60_000);

test('datagrams dropped on purpose: exactly those ranges are missing, and are in hft.gaps', async () => {
  const flags = [
    '--udp',
    line(SIM_LINE),
    '--session',
    'DROPPED',
    '--drop-rate',
    '0.05',
    '--seed',
    '3',
    ...pace(),
  ];
  const { dropped } = await play('sim', '--rows', '20000', ...flags);
  expect(dropped.length).toBeGreaterThan(20);
  await until(
    async () => joined((await gapsOf('sim', 'DROPPED')).ranges).length >= dropped.length,
    'the gaps do not come',
  );
  const json = await delivered();
  const { ranges, lines } = await gapsOf('sim', 'DROPPED');
  expect(joined(ranges)).toEqual(dropped);
  expect(ranges).toHaveLength(dropped.length);
  expect(lines).toEqual([line(SIM_LINE)]);
  expect(await missingIn('sim', 'DROPPED', 20_000)).toEqual(dropped);
  expect(json.gaps).toBe(dropped.reduce((sum, { first, last }) => sum + last - first + 1, 0));
}, 60_000);

test('two lines that both drop: only what both have lost is a gap', async () => {
  const before = (await delivered()).resent;
  const lines = `${line(SIM_LINE + 1)}|${line(SIM_LINE + 2)}`;
  const flags = ['--udp', lines, '--session', 'AB', '--drop-rate', '0.1', '--seed', '5', ...pace()];
  const { dropped } = await play('sim', '--rows', '20000', ...flags);
  expect(dropped.length).toBeGreaterThan(0);
  await until(
    async () => joined((await gapsOf('ab', 'AB')).ranges).length >= dropped.length,
    'the gaps do not come',
  );
  await delivered();
  expect(joined((await gapsOf('ab', 'AB')).ranges)).toEqual(dropped);
  expect(await missingIn('ab', 'AB', 20_000)).toEqual(dropped);
  // Four of five datagrams came twice; the recorder's own counts are written once a second.
  const resent = async () => (await delivered()).resent - before;
  await until(async () => (await resent()) > 10_000, 'the second copies are not counted');
}, 60_000);

test('a multicast group is joined', async () => {
  const address = `${GROUP}:${recorder.udpPorts.at(-1)}`;
  const flags = ['--udp', address, '--interface', '127.0.0.1', '--session', 'GROUP', ...pace()];
  const { dropped } = await play('sim', '--rows', '5000', '--drop-every', '50', ...flags);
  expect(dropped.length).toBeGreaterThan(0);
  await until(
    async () => joined((await gapsOf('group', 'GROUP')).ranges).length >= dropped.length,
    'the gaps do not come',
  );
  await delivered();
  const { ranges, lines } = await gapsOf('group', 'GROUP');
  expect(joined(ranges)).toEqual(dropped);
  expect(lines).toEqual([address]);
  expect(await missingIn('group', 'GROUP', 5000)).toEqual(dropped);
}, 60_000);

test('a restart is no gap, and a gap across it is exact', async () => {
  // The session goes on where it was: a recorder that restarts must know the last number that it had.
  const ended = await recorder.end('SIGTERM');
  expect(ended.code).toBe(0);
  const port = recorder.udpPorts[SIM_LINE]!;
  const flags = ['--embedded', '--udp', `sim=127.0.0.1:${port}`];
  recorder = await startRecorderProcess(home.path, { flags });
  const socket = await Bun.udpSocket({});
  const heartbeat = Buffer.alloc(20);
  heartbeat.write('CLEAN     ', 0, 'latin1');
  heartbeat.writeBigUInt64BE(20_011n, 10); // 20,001 to 20,010 were sent while nobody listened
  socket.send(heartbeat, port, '127.0.0.1');
  await until(async () => (await gapsOf('sim', 'CLEAN')).ranges.length > 0, 'the gap does not come');
  expect((await gapsOf('sim', 'CLEAN')).ranges).toEqual([{ first: 20_001, last: 20_010 }]);
  socket.close();
}, 60_000);
