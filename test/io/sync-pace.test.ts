import { describe, expect, test } from 'bun:test';
import { INLINE_BYTES, SyncPace } from '../../src/io/sync-pace.ts';
import { seededRandom } from '../support/random.ts';

const QUICK_MS = 0.2;
const MIDDLING_MS = 0.8;
const SLOW_MS = 5;

function paceAfter(...syncs: number[]): SyncPace {
  const pace = new SyncPace();
  for (const ms of syncs) pace.took(ms, 4096);
  return pace;
}
const quick = (count: number) => Array.from({ length: count }, () => QUICK_MS);

describe('a sync is done on the calling thread', () => {
  test('only on a disk that has been quick four times in a row', () => {
    expect(new SyncPace().isInline(4096)).toBe(false);
    expect(paceAfter(...quick(3)).isInline(4096)).toBe(false);
    expect(paceAfter(...quick(4)).isInline(4096)).toBe(true);
    expect(paceAfter(...quick(3), MIDDLING_MS, ...quick(3)).isInline(4096)).toBe(false);
  });

  test('never for more than is written in an instant', () => {
    const pace = paceAfter(...quick(100));
    expect(pace.isInline(INLINE_BYTES)).toBe(true);
    expect(pace.isInline(INLINE_BYTES + 1)).toBe(false);
  });

  test('no longer after one slow sync or a failed one, until the disk is quick again', () => {
    for (const end of [(pace: SyncPace) => pace.took(SLOW_MS, 4096), (pace: SyncPace) => pace.failed()]) {
      const pace = paceAfter(...quick(100));
      end(pace);
      for (let i = 0; i < 4; i++) {
        expect(pace.isInline(4096)).toBe(false);
        pace.took(QUICK_MS, 4096);
      }
      expect(pace.isInline(4096)).toBe(true);
    }
  });

  test('still after one that was neither quick nor slow', () => {
    expect(paceAfter(...quick(4), MIDDLING_MS).isInline(4096)).toBe(true);
  });

  test('whatever large syncs take: they are long on a quick disk too', () => {
    const pace = paceAfter(...quick(4));
    pace.took(SLOW_MS, INLINE_BYTES + 1);
    expect(pace.isInline(4096)).toBe(true);
  });

  test('so that a disk which is always slow holds nobody up', () => {
    const random = seededRandom('slow disk');
    const pace = new SyncPace();
    for (let i = 0; i < 1000; i++) {
      expect(pace.isInline(random.int(1, INLINE_BYTES))).toBe(false);
      pace.took(0.6 + random.int(0, 100), random.int(1, 2 * INLINE_BYTES));
    }
  });
});
