import { expect, test } from 'bun:test';
import { gzipSync } from 'node:zlib';
import type { FeedEvent } from '../../src/feed/event.ts';
import { openLean } from '../../src/feed/lean.ts';
import { parseCivilDate } from '../../src/feed/wall-clock.ts';
import { zipOf } from '../support/zip-fixture.ts';
import { eventsOf, feedFixture, rejectionOf } from './feed-fixture.ts';

const TRADES = '14430270,1815200,283,P,20002020,0\n67660116,1819900.5,170,N,,1';
const QUOTES = '14400054,0,0,1836300,100,Q,1,0\n14400241,1800100,300,0,0,P,800,1\n14400300,0,0,0,0,P,1,0';

const rows = (events: FeedEvent[]) => events.map(({ row }) => row);

test('trades become ticks: exact prices, UTC, venue, condition, suspicious', async () => {
  using fixture = feedFixture();
  const path = fixture.write(
    'ibm_20131007_trade.zip',
    zipOf([{ name: '20131007_ibm_Trade_Tick.csv', data: TRADES }]),
  );
  const events = await eventsOf(await openLean([path], {}, fixture.report));
  expect(rows(events)).toEqual([
    {
      symbol: 'IBM',
      instrument_type: 1,
      kind: 1,
      exch_ts: 1_381_132_830_270_000_000n,
      price: 181_520_000_000n,
      volume: 283_000_000_000n,
      exchange: 'P',
      conditions: '20002020',
      suspicious: false,
    },
    {
      symbol: 'IBM',
      instrument_type: 1,
      kind: 1,
      exch_ts: 1_381_186_060_116_000_000n,
      price: 181_990_050_000n,
      volume: 170_000_000_000n,
      exchange: 'N',
      conditions: '',
      suspicious: true,
    },
  ]);
  expect(events.map(({ topic }) => topic)).toEqual(['market_data', 'market_data']);
  expect(events[0]!.eventTimeNs).toBe(1_381_132_830_270_000_000n);
});

test('quotes keep one side a row: the side of 0,0 is an empty array', async () => {
  using fixture = feedFixture();
  const path = fixture.write('20131105_msft_quote.csv', QUOTES);
  const [ask, bid, none] = rows(await eventsOf(await openLean([path], {}, fixture.report)));
  expect(ask).toMatchObject({ kind: 2, symbol: 'MSFT', bid_prices: [], bid_sizes: [], conditions: '1' });
  expect(ask).toMatchObject({
    ask_prices: [183_630_000_000n],
    ask_sizes: [100_000_000_000n],
    suspicious: false,
  });
  // Winter time: 04:00 is 09:00 UTC.
  expect(ask!['exch_ts']).toBe(BigInt(Date.UTC(2013, 10, 5, 9)) * 1_000_000n + 54_000_000n);
  expect(bid).toMatchObject({
    bid_prices: [180_010_000_000n],
    ask_prices: [],
    conditions: '800',
    suspicious: true,
  });
  expect(none).toMatchObject({ bid_prices: [], ask_prices: [] });
});

test('plain, Windows line ends, gzip, and several entries in an archive give the same rows', async () => {
  using fixture = feedFixture();
  const expected = rows(
    await eventsOf(await openLean([fixture.write('a/20131007_ibm_t.csv', TRADES)], {}, fixture.report)),
  );
  const paths = [
    fixture.write('b/20131007_ibm_t.csv', `${TRADES.replaceAll('\n', '\r\n')}\r\n\r\n`),
    fixture.write('c/20131007_ibm_t.csv.gz', gzipSync(`\ufeff${TRADES}`)),
    fixture.write('tick/ibm/20131007_trade.zip', zipOf([{ name: 'data.csv', data: TRADES }])),
  ];
  for (const path of paths)
    expect(rows(await eventsOf(await openLean([path], {}, fixture.report)))).toEqual(expected);
  const archive = zipOf([
    { name: '20131007_ibm_Trade_Tick.csv', data: TRADES },
    { name: 'README.txt', data: 'not data\n' },
    { name: '20131008_ibm_Trade_Tick.csv', data: TRADES },
  ]);
  const both = rows(await eventsOf(await openLean([fixture.write('ibm.zip', archive)], {}, fixture.report)));
  expect(both).toHaveLength(4);
  expect(both[2]!['exch_ts']).toBe((both[0]!['exch_ts'] as bigint) + 86_400_000_000_000n);
  expect(fixture.said.join()).toContain(
    'README.txt: expected LEAN tick trades or quotes, found text of an unknown',
  );
});

test('option ticks say underlying, strike, right and expiry', async () => {
  using fixture = feedFixture();
  const name = '20140606_aapl_tick_quote_american_put_4500000_20140621.csv';
  const path = fixture.write(
    '20140606_quote_american.zip',
    zipOf([{ name, data: '34200000,100,1,200,2,C,0\n' }]),
  );
  const [row] = rows(await eventsOf(await openLean([path], {}, fixture.report)));
  expect(row).toMatchObject({
    symbol: 'AAPL_20140621_PUT_4500000',
    underlying: 'AAPL',
    instrument_type: 3,
    strike: 450_000_000_000n,
    option_right: 2,
    expiry: 16_242,
    exchange: 'C',
    bid_prices: [10_000_000n],
    ask_prices: [20_000_000n],
  });
});

test('symbol and date come from the flags where no name says them, and are asked for otherwise', async () => {
  using fixture = feedFixture();
  const path = fixture.write('data.csv', TRADES);
  expect((await rejectionOf(openLean([path], {}, fixture.report))).message).toContain(
    'no name says the trading day',
  );
  const date = parseCivilDate('2013-10-07')!;
  const numbers = fixture.write('20131007_trade.csv', TRADES);
  expect((await rejectionOf(openLean([numbers], { date }, fixture.report))).message).toContain(
    'says the symbol',
  );
  const [row] = rows(await eventsOf(await openLean([path], { date, symbol: 'XYZ' }, fixture.report)));
  expect(row).toMatchObject({ symbol: 'XYZ', exch_ts: 1_381_132_830_270_000_000n });
});

const FOREIGN: [description: string, data: string][] = [
  [
    'LEAN second or minute trade bars',
    '34200000,1815200,1815300,1815100,1815200,1000\n34260000,1815200,1815300,1815100,1815200,1\n',
  ],
  ['LEAN hour or daily bars', '20131007 00:00,1815200,1830000,1810000,1820000,3000000\n'],
  ['LEAN second or minute quote bars', '34200000,1,2,3,4,100,5,6,7,8,200\n'],
  ['LEAN tick quotes of a crypto pair', '100,61837.63,1.5,61837.64,0.25\n'],
  ['LEAN ticks of a crypto or forex pair', '100,1.30423,1.30427\n'],
  ['LOBSTER messages', '34200.004241176,1,16113575,18,5853300,1\n'],
  ['a LOBSTER order book', '5859400,200,5853300,18\n'],
  ['Binance market streams', '1723161254087896568 {"stream":"btcusdt@trade","data":{"e":"trade"}}\n'],
  ['JSON lines of an unknown kind', '{"hello":1}\n'],
  ['text of an unknown format', 'time,price,size\n'],
  ['binary data', '\u0000\u0001\u0002'],
];
for (const [description, data] of FOREIGN) {
  test(`refused by its name: ${description}`, async () => {
    using fixture = feedFixture();
    const error = await rejectionOf(openLean([fixture.write('20131007_ibm.csv', data)], {}, fixture.report));
    expect(error.message).toContain(description);
    expect(error.message).toContain('expected');
  });
}

test('an empty file is said and has no rows', async () => {
  using fixture = feedFixture();
  const paths = [
    fixture.write('20131007_ibm_a.csv', ''),
    fixture.write('20131007_ibm_b.csv.gz', gzipSync('\n\r\n')),
  ];
  expect(await eventsOf(await openLean(paths, {}, fixture.report))).toEqual([]);
  expect(fixture.said.filter((text) => text.includes('is empty, no rows'))).toHaveLength(2);
});

test('a bad line is told with file and line, and its neighbours are sent', async () => {
  using fixture = feedFixture();
  const bad = [
    ['14430270,1815200,283,P,20002020', '5 fields'],
    ['99999999999,1815200,283,P,1,0', 'no time of day'],
    ['14430270,18152x0,283,P,1,0', 'is not a decimal number'],
    ['14430270,1815200.000001,283,P,1,0', 'has digits below'],
    ['14430270,99999999999999999,283,P,1,0', 'does not fit 64 bits'],
    ['14430270,1815200,283,P,1,2', 'suspicious is "2"'],
  ] as const;
  const good = '14430270,1815200,283,P,1,0';
  const text = bad.flatMap(([line]) => [good, line]).join('\n');
  const path = fixture.write('20131007_ibm.csv', `${good}\n${text}`);
  expect(await eventsOf(await openLean([path], {}, fixture.report))).toHaveLength(bad.length + 1);
  expect(fixture.report.badLines).toBe(bad.length);
  for (const [i, [, problem]] of bad.entries()) {
    expect(fixture.report.problems[i]).toContain(`20131007_ibm.csv, line ${2 * i + 3}:`);
    expect(fixture.report.problems[i]).toContain(problem);
  }
});

test('a file that turns into something else is given up after 100 bad lines', async () => {
  using fixture = feedFixture();
  const good = '14430270,1815200,283,P,1,0\n';
  const path = fixture.write('20131007_ibm.csv', good.repeat(50) + 'something else\n'.repeat(5000) + good);
  expect(await eventsOf(await openLean([path], {}, fixture.report))).toHaveLength(50);
  expect(fixture.report.badLines).toBe(100);
  expect(fixture.said.at(-1)).toContain('given up after 100 bad lines');
});

test('of a truncated archive the rows before the cut are sent, and other files go on', async () => {
  using fixture = feedFixture();
  const data = Array.from(
    { length: 20_000 },
    (_, i) => `${14_400_000 + i * 7},${1_815_200 + ((i * 37) % 991)},100,P,1,0`,
  ).join('\n');
  const zip = zipOf([{ name: '20131007_ibm_Trade_Tick.csv', data }]);
  const cut = fixture.write('cut/20131007_ibm.zip', zip.subarray(0, zip.length / 2));
  const whole = fixture.write('20131008_ibm.csv', TRADES);
  const events = await eventsOf(await openLean([cut, whole], {}, fixture.report));
  expect(events.length).toBeGreaterThan(5000);
  expect(events.length).toBeLessThan(15_000);
  expect(events.at(-1)!.row['exch_ts']).toBeGreaterThan(1_381_200_000_000_000_000n);
  expect(fixture.report.problems.join()).toContain('truncated');
});
