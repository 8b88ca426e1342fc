// Amounts of money and size: one scale for all of them, said by the column's type.

import { expect, test } from 'bun:test';
import { topics } from '../../src/schema/registry.ts';

/** What is an amount of an order or a trade, by its name; statistics of a backtest are floats. */
const AMOUNT = /(^|_)(price|prices|qty|quantity|volume|size|sizes|fee|tax|strike)$/;

test('every price, fee, tax and quantity of every topic has the same scale', () => {
  const amounts = topics.flatMap(({ topic, columns }) =>
    columns
      .filter(({ name }) => AMOUNT.test(name))
      .map(({ name, scalar, clickhouseType }) => ({
        column: `${topic}.${name}`,
        scalar,
        type: clickhouseType.replace(/^Array\((.*)\)$/, '$1'),
      })),
  );
  expect(amounts.length).toBeGreaterThan(15);
  for (const { column, scalar, type } of amounts) {
    expect(`${column} ${scalar} ${type}`).toBe(`${column} int64 Decimal(18, 9)`);
  }
});
