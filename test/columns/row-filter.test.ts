import { describe, expect, test } from 'bun:test';
import { FilterError, parseRowFilter } from '../../src/columns/row-filter.ts';
import { seededRandom } from '../support/random.ts';

const row = {
  topic: 'fills',
  symbol: "O'X",
  side: 'buy',
  price: '100.500000000',
  fee: '-0.000000001',
  seq: 42,
  wal_lsn: '18446744073709551615',
  ratio: 1e-7,
  nan: 'NaN',
  big: 'Infinity',
  open: true,
  decision_price: null,
  prices: ['1.000000000', '2.500000000'],
  match_ts: '2024-01-02T03:04:05.000000006Z',
  empty: '',
};

const holds = (text: string) => parseRowFilter(text).matches(row);

describe('row filter', () => {
  test.each([
    ['price = 100.5', true],
    ['price == 100.5000000000', true],
    ['price > 100.499999999', true],
    ['price > 100.5', false],
    ['price >= +100.5', true],
    ['price < 99', false],
    ['price != 100.5', false],
    ['fee < 0', true],
    ['fee = -0.000000001', true],
    ['seq <= 42', true],
    ['seq > 5', true],
    // Beyond 2^53, where numbers would be equal.
    ['wal_lsn > 18446744073709551614', true],
    ['wal_lsn = 18446744073709551616', false],
    ['ratio < 0.001', true],
    ['big > 1000000', true],
    ['nan > 0', false],
    ['nan = NaN', true],
    ["symbol = 'O''X'", true],
    ["symbol ~ 'X'", true],
    ["symbol ~ 'x'", false],
    ['side=buy', true],
    ['side <> buy', false],
    ['open = true', true],
    ['open = 1', false],
    ["empty = ''", true],
    ['prices > 2', true],
    ['prices > 3', false],
    ["match_ts >= '2024-01-02'", true],
    ['match_ts < 2024-01-02T03:04:05', false],
    ['decision_price is null', true],
    ['decision_price IS NOT NULL', false],
    ['decision_price = 0', false],
    ['decision_price != 0', false],
    ['absent is null', false],
    ['absent is not null', false],
    ['absent != 1', false],
    ['side = sell or price > 100 and seq = 42', true],
    ['(side = sell or price > 100) and seq = 41', false],
    ['side = buy and (seq = 1 or (seq = 42))', true],
  ] as const)('%s is %p', (text, expected) => {
    expect(holds(text)).toBe(expected);
  });

  test.each([
    ['', 0, 'a column is expected'],
    ['price', 5, 'an operator'],
    ['price >', 7, 'a value'],
    ['price > 1 and', 13, 'a column'],
    ['price > 1 side = buy', 10, '"and" or "or"'],
    ['(price > 1', 10, '")"'],
    ['price > 1)', 9, '"and" or "or"'],
    ["symbol = 'x", 9, 'a column, an operator or a value'],
    ['price is 1', 9, '"null"'],
    ["'price' > 1", 0, 'a column'],
    ['price ! 1', 6, 'a column, an operator or a value'],
    [`${'('.repeat(101)}a=1${')'.repeat(101)}`, 101, 'at most 100'],
  ] as const)('%p is refused at %d', (text, position, message) => {
    try {
      parseRowFilter(text);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(FilterError);
      expect((error as FilterError).message).toContain(message);
      expect((error as FilterError).position).toBe(position);
    }
  });

  test('whatever is typed, it parses or is a FilterError, and runs nothing', () => {
    const random = seededRandom('row filter');
    const parts = [
      'price',
      'and',
      'or',
      '(',
      ')',
      '=',
      '<',
      '~',
      "'",
      '1',
      'is',
      'null',
      '`',
      '$',
      'process.exit()',
    ];
    for (let i = 0; i < 5000; i++) {
      const text = Array.from({ length: random.int(0, 9) }, () => random.pick(parts)).join(' ');
      try {
        expect(typeof holds(text)).toBe('boolean');
      } catch (error) {
        expect(error).toBeInstanceOf(FilterError);
      }
    }
  });

  test('the columns it speaks of are named', () => {
    expect(parseRowFilter('a = 1 and (b > 2 or a is null)').columns).toEqual(['a', 'b']);
  });
});
