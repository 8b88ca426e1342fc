import { expect, test } from 'bun:test';
import { openLobster } from '../../src/feed/lobster.ts';
import { parseCivilDate } from '../../src/feed/wall-clock.ts';
import { zipOf } from '../support/zip-fixture.ts';
import { eventsOf, feedFixture, rejectionOf } from './feed-fixture.ts';

const MESSAGES = `34200.004241176,1,16113575,18,5853300,1
34200.1,2,16113575,8,5853300,1
34201.000000001,4,16113575,4,5853300,1
34202,4,16113575,6,5853300,1
34203,4,999,5,5853400,-1
34204.5,5,0,7,5853350,-1
34205,3,888,100,5860000,-1
34206,6,-1,1000,5853000,1
34207,7,0,0,-1,-1
34208,7,0,0,1,-1`;
const BOOK = Array.from(
  { length: 10 },
  (_, i) => `${5_859_400 + i},200,5853300,18,9999999999,0,-9999999999,0`,
).join('\n');
const NAME = 'AAPL_2012-06-21_34200000_57600000_message_2.csv';
const BOOK_NAME = NAME.replace('message', 'orderbook');
const TIME = 1_340_285_400_000_000_000n;

test('messages become orders, executions fills too, books snapshots after each message', async () => {
  using fixture = feedFixture();
  fixture.write(BOOK_NAME, BOOK);
  const events = await eventsOf(await openLobster([fixture.write(NAME, MESSAGES)], {}, fixture.report));
  expect(events.map(({ topic }) => topic[0]).join('')).toBe('omomofmofmofmofmomofmomom');
  const orders = events.filter(({ topic }) => topic === 'orders').map(({ row }) => row);
  expect(orders.map(({ status }) => status)).toEqual([2, 7, 3, 4, 3, 3, 6, 4, undefined, undefined]);
  expect(orders[0]).toEqual({
    order_id: '16113575',
    symbol: 'AAPL',
    exchange: 'NASDAQ',
    exch_ts: TIME + 4_241_176n,
    side: 1,
    order_type: 1,
    status: 2,
    price: 585_330_000_000n,
    qty: 18_000_000_000n,
    filled_qty: 0n,
  });
  expect(orders[1]).toMatchObject({ reason: 'partial_cancel', qty: 8_000_000_000n });
  expect(orders.slice(8).map(({ reason }) => reason)).toEqual(['halted', 'trading_resumed']);
  expect(orders[8]!['price']).toBeUndefined();
  const fills = events.filter(({ topic }) => topic === 'fills').map(({ row }) => row);
  expect(fills.map(({ fill_id, order_id, side, liquidity }) => [fill_id, order_id, side, liquidity])).toEqual(
    [
      ['AAPL-2012-06-21-1', '16113575', 1, 1],
      ['AAPL-2012-06-21-2', '16113575', 1, 1],
      ['AAPL-2012-06-21-3', '999', 2, 1],
      ['AAPL-2012-06-21-4', '0', 2, 2 + 2],
      ['AAPL-2012-06-21-5', '-1', 1, 3],
    ],
  );
  expect(fills[0]!['match_ts']).toBe(TIME + 1_000_000_001n);
  expect(events[1]!.row).toEqual({
    symbol: 'AAPL',
    exchange: 'NASDAQ',
    instrument_type: 1,
    kind: 4,
    exch_ts: TIME + 4_241_176n,
    ask_prices: [585_940_000_000n],
    ask_sizes: [200_000_000_000n],
    bid_prices: [585_330_000_000n],
    bid_sizes: [18_000_000_000n],
  });
});

test('pairs are found by name beside a file, in a directory, in an archive, and in any order', async () => {
  using fixture = feedFixture();
  const messages = fixture.write(`d/${NAME}`, MESSAGES);
  const book = fixture.write(`d/${BOOK_NAME}`, BOOK);
  const zip = zipOf([
    { name: BOOK_NAME, data: BOOK },
    { name: NAME, data: MESSAGES },
  ]);
  const expected = await eventsOf(await openLobster([messages, book], {}, fixture.report));
  expect(expected).toHaveLength(25);
  for (const paths of [
    [book, messages],
    [messages],
    [book],
    [`${fixture.directory}/d`],
    [fixture.write('x.zip', zip)],
  ]) {
    expect(await eventsOf(await openLobster(paths, {}, fixture.report))).toEqual(expected);
  }
});

test('two files with meaningless names are told apart by content', async () => {
  using fixture = feedFixture();
  const one = fixture.write('one', BOOK);
  const two = fixture.write('two', MESSAGES);
  const options = { symbol: 'MSFT', date: parseCivilDate('2012-06-21')! };
  expect((await rejectionOf(openLobster([one, two], {}, fixture.report))).message).toContain(
    'says the trading day',
  );
  const events = await eventsOf(await openLobster([one, two], options, fixture.report));
  expect(events).toHaveLength(25);
  expect(events[0]!.row).toMatchObject({ symbol: 'MSFT', exch_ts: TIME + 4_241_176n });
});

test('several pairs are kept apart; without names it is not guessed', async () => {
  using fixture = feedFixture();
  for (const name of [NAME, NAME.replace('AAPL', 'MSFT')]) {
    fixture.write(`d/${name}`, MESSAGES);
    fixture.write(`d/${name.replace('message', 'orderbook')}`, BOOK);
  }
  const sources = await openLobster([`${fixture.directory}/d`], {}, fixture.report);
  expect(sources).toHaveLength(2);
  expect(await eventsOf(sources)).toHaveLength(50);
  const unnamed = ['a', 'b', 'c'].map((name) => fixture.write(name, name === 'c' ? BOOK : MESSAGES));
  const error = await rejectionOf(openLobster(unnamed, {}, fixture.report));
  expect(error.message).toContain('an order book without its message file');
});

test('messages without a book give orders and fills, a book without messages is refused', async () => {
  using fixture = feedFixture();
  const events = await eventsOf(await openLobster([fixture.write(NAME, MESSAGES)], {}, fixture.report));
  expect(events).toHaveLength(15);
  expect(fixture.said.join()).toContain('no order book file; orders and fills only');
  const error = await rejectionOf(openLobster([fixture.write(`x/${BOOK_NAME}`, BOOK)], {}, fixture.report));
  expect(error.message).toContain('an order book without its message file');
});

test('files of different lengths are said, and what has a partner is sent', async () => {
  for (const [books, text] of [
    [BOOK.split('\n').slice(0, 6).join('\n'), 'the last messages have no book'],
    [`${BOOK}\n${BOOK}`, 'the last 10 books have no time'],
  ] as const) {
    using fixture = feedFixture();
    fixture.write(BOOK_NAME, books);
    const events = await eventsOf(await openLobster([fixture.write(NAME, MESSAGES)], {}, fixture.report));
    expect(events.filter(({ topic }) => topic === 'orders')).toHaveLength(10);
    expect(fixture.report.problems.join()).toContain(text);
  }
});

test('bad lines do not shift books against messages', async () => {
  using fixture = feedFixture();
  fixture.write(
    BOOK_NAME,
    BOOK.replace('5859403,200', '5859403,2x0').replace('5859405,200,5853300,18', '5859405,200,5853300'),
  );
  const path = fixture.write(
    NAME,
    MESSAGES.replace('34200.1,2', '34200.1,9').replace('34202,4', '34202,4,4'),
  );
  const events = await eventsOf(await openLobster([path], {}, fixture.report));
  const books = events.filter(({ topic }) => topic === 'market_data');
  // Book i has best ask 585.94 + i ticks, message i its own second.
  expect(
    books.map(({ row }) => Number(((row['ask_prices'] as bigint[])[0]! - 585_940_000_000n) / 100_000n)),
  ).toEqual([0, 2, 4, 6, 7, 8, 9]);
  expect(books[2]!.row['exch_ts']).toBe(TIME + 3_000_000_000n);
  expect(fixture.report.badLines).toBe(3);
});

test('more decimals than nanoseconds are an error, blanks and Windows line ends are not', async () => {
  using fixture = feedFixture();
  const text = MESSAGES.replaceAll('\n', '\r\n')
    .replace('34202,4', '34202.0000000001, 4')
    .replaceAll(',', ', ');
  const events = await eventsOf(await openLobster([fixture.write(NAME, text)], {}, fixture.report));
  expect(events.filter(({ topic }) => topic === 'orders')).toHaveLength(9);
  expect(fixture.report.problems[0]).toContain(`${NAME}, line 4: "34202.0000000001" has digits below 1e-9`);
});
