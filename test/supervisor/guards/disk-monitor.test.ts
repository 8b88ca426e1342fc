import { describe, expect, test } from 'bun:test';
import { DISK_LEVELS, DiskMonitor, diskThresholds } from '../../../src/supervisor/guards/disk-monitor.ts';
import { policiesOf, stoppedTopics } from '../../../src/supervisor/guards/disk-policy.ts';
import { seededRandom } from '../../support/random.ts';

const GIB = 2 ** 30;
const MIB = 2 ** 20;
const thresholds = { warnBytes: 1000, criticalBytes: 500, haltBytes: 100, walMaxBytes: 0 };
const state = (freeBytes: number, walBytes = 0) => ({ freeBytes, walBytes });

function levels(monitor: DiskMonitor, frees: number[]): string[] {
  return frees.map((free) => {
    monitor.measure(state(free));
    return monitor.level;
  });
}

describe('levels', () => {
  test('a worse one is taken at its threshold, over several at once too', () => {
    expect(levels(new DiskMonitor(thresholds), [1000, 999, 500, 499, 100, 99])).toEqual([
      'ok',
      'warn',
      'warn',
      'critical',
      'critical',
      'halt',
    ]);
    expect(levels(new DiskMonitor(thresholds), [5000, 0])).toEqual(['ok', 'halt']);
  });

  test('a better one is taken 10 % later', () => {
    expect(levels(new DiskMonitor(thresholds), [99, 109, 111, 549, 551, 1099, 1101])).toEqual([
      'halt',
      'halt',
      'critical',
      'critical',
      'warn',
      'warn',
      'ok',
    ]);
    expect(levels(new DiskMonitor(thresholds), [0, 5000])).toEqual(['halt', 'ok']);
    // Room to spare for warn, none for ok: the level between the two.
    expect(levels(new DiskMonitor(thresholds), [0, 1050])).toEqual(['halt', 'warn']);
  });

  test('around a threshold the level changes once', () => {
    const monitor = new DiskMonitor(thresholds);
    let changes = 0;
    for (let i = 0; i < 100; i++) if (monitor.measure(state(i % 2 === 0 ? 495 : 505))) changes++;
    expect([changes, monitor.level]).toEqual([1, 'critical']);
  });

  test('the size of the WAL counts as free space does', () => {
    const monitor = new DiskMonitor({ ...thresholds, walMaxBytes: 1000 });
    const at = (walBytes: number) => {
      monitor.measure(state(1e9, walBytes));
      return monitor.level;
    };
    expect([799, 800, 900, 1000, 960, 940, 870, 856, 850, 761, 759].map(at)).toEqual([
      'ok',
      'warn',
      'critical',
      'halt',
      'halt',
      'critical',
      'critical',
      'critical',
      'warn',
      'warn',
      'ok',
    ]);
  });

  test('random walks: never better than free space says, never worse than with 10 % less', () => {
    const random = seededRandom('disk-monitor');
    const monitor = new DiskMonitor(thresholds);
    const plain = (free: number) => [1000, 500, 100].filter((bound) => free < bound).length;
    let free = 1500;
    for (let i = 0; i < 20_000; i++) {
      free = Math.max(0, free + random.int(-120, 120));
      if (free > 2000) free = 2000;
      monitor.measure(state(free));
      const level = DISK_LEVELS.indexOf(monitor.level);
      expect(level).toBeGreaterThanOrEqual(plain(free));
      expect(level).toBeLessThanOrEqual(plain(free / 1.1 - 1e-9));
    }
  });
});

describe('thresholds', () => {
  const none = { warnBytes: null, criticalBytes: null, haltBytes: null, walMaxBytes: 0 };

  test('a large disk has fixed ones, a small one shares of it', () => {
    expect(diskThresholds(none, 1000 * GIB, 64 * MIB)).toMatchObject({
      warnBytes: 4 * GIB,
      criticalBytes: 2 * GIB,
      haltBytes: GIB / 2,
    });
    expect(diskThresholds(none, 10 * GIB, 8 * MIB)).toMatchObject({
      warnBytes: 0.5 * GIB,
      criticalBytes: 0.3 * GIB,
      haltBytes: 0.1 * GIB,
    });
  });

  test('market data stops while there is room for one more segment', () => {
    const { criticalBytes } = diskThresholds(none, GIB, 64 * MIB);
    expect(criticalBytes).toBe(80 * MIB);
  });

  test('given ones hold, and stay in order', () => {
    const given = { ...none, warnBytes: 10, criticalBytes: 20, haltBytes: 30 };
    expect(diskThresholds(given, GIB, MIB)).toMatchObject({
      warnBytes: 30,
      criticalBytes: 30,
      haltBytes: 30,
    });
  });
});

describe('policies', () => {
  const topics = ['market_data', 'latency_spans', 'risk_log', 'orders', 'fills', 'own_topic'];
  const given = { market_data: 'drop', own_topic: 'drop', fills: 'drop' } as const;
  const stopped = (level: (typeof DISK_LEVELS)[number], writable: boolean) =>
    Object.fromEntries(stoppedTopics(policiesOf(topics, given), level, writable));

  test('market data stops at critical, the rest at halt, orders and fills not while there is room', () => {
    expect(stopped('ok', true)).toEqual({});
    expect(stopped('warn', false)).toEqual({});
    expect(stopped('critical', true)).toEqual({ market_data: 'all', latency_spans: 'datagrams' });
    const halt = {
      market_data: 'all',
      latency_spans: 'datagrams',
      risk_log: 'datagrams',
      own_topic: 'all',
    } as const;
    expect(stopped('halt', true)).toEqual(halt);
    expect(stopped('halt', false)).toEqual({ ...halt, fills: 'all' });
  });

  test('rows of streams are dropped only where the policy says so', () => {
    const policies = policiesOf(topics, {});
    for (const level of DISK_LEVELS) {
      for (const rows of stoppedTopics(policies, level, false).values()) expect(rows).toBe('datagrams');
    }
  });

  test('a policy of no topic is an error that names the topics', () => {
    expect(() => policiesOf(topics, { marketdata: 'drop' })).toThrow('there is no topic marketdata');
  });
});
