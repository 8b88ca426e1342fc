import { expect, test } from 'bun:test';
import { gzipSync } from 'node:zlib';
import { openBinance } from '../../src/feed/binance.ts';
import type { FeedEvent } from '../../src/feed/event.ts';
import { eventsOf, type FeedFixture, feedFixture, rejectionOf } from './feed-fixture.ts';

const spot = {
  trade:
    '{"stream":"btcusdt@trade",' +
    '"data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000",' +
    '"q":"0.02000000","T":1723161255342,"m":true,"M":true}}',
  ticker:
    '{"stream":"btcusdt@bookTicker",' +
    '"data":{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000",' +
    '"a":"61837.64000000","A":"1.54698000"}}',
  depth:
    '{"stream":"btcusdt@depth@100ms",' +
    '"data":{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,' +
    '"b":[["61737.63000000","0.00000000"]],"a":[]}}',
  snapshot:
    '{"lastUpdateId":50093239218,"bids":[["61837.63000000","3.78826000"],["61837.62","0.617"]],"asks":[]}',
};
const usdm = {
  trade:
    '{"stream":"btcusdt@trade",' +
    '"data":{"e":"trade","E":1723161256323,"T":1723161256322,"s":"BTCUSDT","t":5266583935,' +
    '"p":"61800.30","q":"0.006","X":"MARKET","m":false}}',
  ticker:
    '{"stream":"btcusdt@bookTicker",' +
    '"data":{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507",' +
    '"a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256314}}',
  depth:
    '{"stream":"btcusdt@depth@0ms",' +
    '"data":{"e":"depthUpdate","E":1723161256299,"T":1723161256298,"s":"BTCUSDT","U":5123107832006,' +
    '"u":5123107837557,"pu":5123107831937,"b":[["58710.20","0.014"]],"a":[["61496.50","0.010"]]}}',
  snapshot:
    '{"lastUpdateId":5123107837000,"E":1723161256000,"T":1723161255999,"bids":[],"asks":[["1.5","2"]]}',
};
const RECEIVED = 1_723_161_254_087_896_568n;

async function play(fixture: FeedFixture, lines: string[], symbol?: string): Promise<FeedEvent[]> {
  const path = fixture.write('x.gz', gzipSync(lines.join('\n')));
  return eventsOf(await openBinance([path], { symbol }, fixture.report));
}

test('spot: trade, book ticker, depth and REST snapshot', async () => {
  using fixture = feedFixture();
  const events = await play(
    fixture,
    Object.values(spot).map((line) => `${RECEIVED} ${line}`),
  );
  const base = { symbol: 'BTCUSDT', exchange: 'BINANCE', instrument_type: 5, local_ts: RECEIVED };
  expect(events.map(({ row }) => row)).toEqual([
    {
      ...base,
      kind: 1,
      exch_ts: 1_723_161_255_342_000_000n,
      price: 61_837_630_000_000n,
      volume: 20_000_000n,
      trade_id: 3_735_683_259n,
      trade_side: 2,
    },
    {
      ...base,
      kind: 2,
      exch_ts: RECEIVED,
      conditions: 'no_exch_ts',
      bid_prices: [61_837_630_000_000n],
      bid_sizes: [3_788_260_000n],
      ask_prices: [61_837_640_000_000n],
      ask_sizes: [1_546_980_000n],
      exch_seq: 50_093_239_212n,
    },
    {
      ...base,
      kind: 3,
      exch_ts: 1_723_161_255_208_000_000n,
      bid_prices: [61_737_630_000_000n],
      bid_sizes: [0n],
      ask_prices: [],
      ask_sizes: [],
      exch_seq: 50_093_239_202n,
      exch_seq_first: 50_093_239_189n,
    },
    {
      ...base,
      kind: 4,
      exch_ts: RECEIVED,
      conditions: 'no_exch_ts',
      bid_prices: [61_837_630_000_000n, 61_837_620_000_000n],
      bid_sizes: [3_788_260_000n, 617_000_000n],
      ask_prices: [],
      ask_sizes: [],
      exch_seq: 50_093_239_218n,
    },
  ]);
  // Received before it happened: the clocks differ, and nothing is clamped.
  expect(events[0]!.row['local_ts']! < events[0]!.row['exch_ts']!).toBe(true);
  expect(events.every(({ eventTimeNs }) => eventTimeNs === RECEIVED)).toBe(true);
});

test('USD-M futures: exchange times everywhere, previous update id, order type', async () => {
  using fixture = feedFixture();
  const rows = (
    await play(
      fixture,
      Object.values(usdm).map((line) => `${RECEIVED} ${line}`),
    )
  ).map(({ row }) => row);
  for (const row of rows)
    expect(row).toMatchObject({ exchange: 'BINANCE_USDM', instrument_type: 4, local_ts: RECEIVED });
  expect(rows[0]).toMatchObject({
    kind: 1,
    exch_ts: 1_723_161_256_322_000_000n,
    trade_side: 1,
    conditions: 'MARKET',
  });
  expect(rows[1]).toMatchObject({
    kind: 2,
    exch_ts: 1_723_161_256_313_000_000n,
    exch_seq: 5_123_107_839_020n,
  });
  expect(rows[2]).toMatchObject({ kind: 3, exch_seq_prev: 5_123_107_831_937n, ask_sizes: [10_000_000n] });
  expect(rows[3]).toMatchObject({
    kind: 4,
    exch_ts: 1_723_161_255_999_000_000n,
    ask_prices: [1_500_000_000n],
  });
});

test('raw messages, messages without a receive time, and other units of time are read', async () => {
  using fixture = feedFixture();
  const raw = JSON.stringify((JSON.parse(spot.trade) as { data: unknown }).data);
  const events = await play(fixture, [raw, `1723161254087 ${raw}`, `1723161254087896 ${raw}\r`, spot.ticker]);
  expect(events.map(({ row }) => row['local_ts'])).toEqual([
    null,
    1_723_161_254_087_000_000n,
    1_723_161_254_087_896_000n,
    null,
  ]);
  expect(events[0]!.eventTimeNs).toBe(1_723_161_255_342_000_000n);
  expect(events[3]!.row).toMatchObject({ exch_ts: 0n, conditions: 'no_exch_ts' });
});

test('a snapshot that comes before any symbol is known waits, and order stays', async () => {
  using fixture = feedFixture();
  const events = await play(
    fixture,
    [spot.snapshot, spot.depth, spot.trade].map((line) => `${RECEIVED} ${line}`),
  );
  expect(events.map(({ row }) => row['kind'])).toEqual([4, 3, 1]);
  expect(events[0]!.row['symbol']).toBe('BTCUSDT');
});

test('a snapshot belongs to the symbol whose update ids are near, or to the one that is given', async () => {
  using fixture = feedFixture();
  const other = spot.depth
    .replaceAll('BTCUSDT', 'ETHUSDT')
    .replaceAll('500932391', '700932391')
    .replaceAll('500932392', '700932392');
  const lines = [spot.depth, other, spot.snapshot, spot.snapshot.replace('50093239218', '70093239000')];
  expect((await play(fixture, lines)).map(({ row }) => row['symbol'])).toEqual([
    'BTCUSDT',
    'ETHUSDT',
    'BTCUSDT',
    'ETHUSDT',
  ]);
  expect((await play(fixture, [spot.snapshot], 'SOLUSDT')).map(({ row }) => row['symbol'])).toEqual([
    'SOLUSDT',
  ]);
});

test('a snapshot whose symbol nobody says is a bad line', async () => {
  using fixture = feedFixture();
  expect(await play(fixture, [spot.snapshot])).toEqual([]);
  expect(fixture.report.problems[0]).toContain('no line says which symbol this is; pass --symbol');
});

test('unknown streams are counted and skipped, the first of each is said', async () => {
  using fixture = feedFixture();
  const mark = '{"stream":"btcusdt@markPrice","data":{"e":"markPriceUpdate","E":1,"s":"BTCUSDT","p":"1"}}';
  const odd = '{"stream":"!contractInfo","data":{"x":1}}';
  const events = await play(fixture, [spot.trade, mark, mark, '{"result":null,"id":1}', odd, spot.trade]);
  expect(events).toHaveLength(2);
  expect(Object.fromEntries(fixture.report.skipped)).toEqual({
    'event "markPriceUpdate"': 2,
    'answer to a request': 1,
    'stream "*"': 1,
  });
  expect(fixture.said).toHaveLength(3);
  expect(fixture.said[0]).toContain('line 2: event "markPriceUpdate" is not recorded; skipped and counted');
  expect(fixture.report.problemCount).toBe(0);
});

test('partial depth streams are snapshots; delivery futures say their expiry', async () => {
  using fixture = feedFixture();
  const partial = usdm.depth.replace('@depth@0ms', '@depth20@100ms').replaceAll('BTCUSDT', 'BTCUSDT_240927');
  const [event] = await play(fixture, [partial]);
  expect(event!.row).toMatchObject({ kind: 4, instrument_type: 2, underlying: 'BTCUSDT', expiry: 19_993 });
});

test('an empty side of the book ticker is an empty array', async () => {
  using fixture = feedFixture();
  const line = spot.ticker.replace('"61837.63000000","B":"3.78826000"', '"0.00000000","B":"0.00000000"');
  const [event] = await play(fixture, [line]);
  expect(event!.row).toMatchObject({ bid_prices: [], bid_sizes: [], ask_prices: [61_837_640_000_000n] });
});

test('bad lines are told with their number, and their neighbours are sent', async () => {
  using fixture = feedFixture();
  const bad = [
    ['{"stream":"btcusdt@trade","data":{"e":"trade"', 'no JSON'],
    ['yesterday {"a":1}', 'expected a JSON object'],
    [spot.trade.replace('"61837.63000000"', '"61837.6300000001"'), 'has digits below 1e-9'],
    [spot.trade.replace('"61837.63000000"', '61837.63'), 'field p is not a decimal in quotes'],
    [spot.trade.replace('3735683259', '99999999999999999999'), 'field t is not an integer'],
    [spot.trade.replace('"m":true', '"m":1'), 'field m'],
    [spot.depth.replace('[["61737.63000000","0.00000000"]]', '[["1"]]'), 'a bid level is not'],
    [spot.depth.replace('"a":[]', '"a":{}'), 'ask levels are not an array'],
  ] as const;
  const lines = bad.flatMap(([line]) => [spot.trade, line]);
  expect(await play(fixture, [...lines, spot.trade])).toHaveLength(bad.length + 1);
  for (const [i, [, problem]] of bad.entries()) {
    expect(fixture.report.problems[i]).toContain(`line ${2 * i + 2}:`);
    expect(fixture.report.problems[i]).toContain(problem);
  }
});

test('other formats are refused', async () => {
  using fixture = feedFixture();
  const path = fixture.write('20131007_ibm.csv', '14430270,1815200,283,P,20002020,0\n');
  const error = await rejectionOf(openBinance([path], {}, fixture.report));
  expect(error.message).toContain('expected recorded Binance streams, found LEAN tick trades');
});
