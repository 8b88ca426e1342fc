import { describe, expect, test } from 'bun:test';
import { nowNs, readClock } from '../src/clock.ts';

describe('clock', () => {
  test('is the wall clock in nanoseconds, to the resolution of Date.now', () => {
    const before = BigInt(Date.now() - 3) * 1_000_000n;
    const now = nowNs();
    const after = BigInt(Date.now() + 3) * 1_000_000n;
    expect(now >= before && now <= after).toBe(true);
  });

  test('does not run backwards, and its two words stay in range', () => {
    const timestamp = { low: 0, high: 0 };
    let last = 0n;
    for (let i = 0; i < 100_000; i++) {
      readClock(timestamp);
      expect(Number.isInteger(timestamp.low) && timestamp.low >= 0 && timestamp.low < 2 ** 32).toBe(true);
      const now = (BigInt(timestamp.high) << 32n) | BigInt(timestamp.low);
      expect(now >= last).toBe(true);
      last = now;
    }
  });
});
