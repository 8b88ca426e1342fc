import { expect, test } from 'bun:test';
import { DecimalError, parseDecimal } from '../../src/feed/decimal.ts';
import { seededRandom } from '../support/random.ts';

const examples: [text: string, scale: number, units: bigint][] = [
  ['61837.63000000', 9, 61_837_630_000_000n],
  ['0', 9, 0n],
  ['-0', 9, 0n],
  ['.5', 9, 500_000_000n],
  ['5.', 9, 5_000_000_000n],
  ['+1', 9, 1_000_000_000n],
  ['-1.000000001', 9, -1_000_000_001n],
  ['0.0000000010000', 9, 1n],
  ['1836300', 5, 183_630_000_000n],
  ['9223372036.854775807', 9, 2n ** 63n - 1n],
  ['-9223372036.854775808', 9, -(2n ** 63n)],
  ['000000000000000000000000001', 9, 1_000_000_000n],
  ['9007199254740993', 0, 9_007_199_254_740_993n],
  ['14400054', 6, 14_400_054_000_000n],
];

for (const [text, scale, units] of examples) {
  test(`"${text}" is ${units} units of 1e-${scale}`, () => {
    expect(parseDecimal(text, scale)).toBe(units);
  });
}

const refused = ['', '-', '.', '1e5', '1,5', '1.2.3', ' 1', '0x10', 'NaN', 'Infinity', '1-', '--1', '١'];
for (const text of refused) {
  test(`"${text}" is no decimal number`, () => {
    expect(() => parseDecimal(text)).toThrow(DecimalError);
  });
}

test('digits below the unit are an error, unless they are zeros', () => {
  expect(() => parseDecimal('0.0000000001')).toThrow('has digits below 1e-9');
  expect(parseDecimal('0.0000000000')).toBe(0n);
});

test('what does not fit 64 bits is an error', () => {
  for (const text of ['9223372036.854775808', '-9223372036.854775809', '99999999999999999999999999999'])
    expect(() => parseDecimal(text)).toThrow('does not fit 64 bits');
});

test('random numbers agree with integer arithmetic on their digits', () => {
  const random = seededRandom('decimal');
  for (let i = 0; i < 5000; i++) {
    const whole = String(random.int(0, 10 ** random.int(0, 9)));
    const scale = random.int(0, 9);
    const decimals = Array.from({ length: random.int(0, scale) }, () => random.int(0, 9)).join('');
    const sign = random.pick(['', '-', '+']);
    const fraction = decimals === '' ? '' : `.${decimals}${'0'.repeat(random.int(0, 3))}`;
    const text = sign + whole + fraction;
    const magnitude = BigInt(whole + decimals.padEnd(scale, '0'));
    expect(parseDecimal(text, scale)).toBe(sign === '-' ? -magnitude : magnitude);
  }
});
