import { describe, expect, test } from 'bun:test';
import { FlusherHealth } from '../../../src/supervisor/health/flusher-health.ts';
import { type HealthChange, HealthTracker } from '../../../src/supervisor/health/health.ts';
import { HealthCauses } from '../../../src/supervisor/health/health-causes.ts';

const causes = new HealthCauses('/wal', 'http://db:8123');

function fixture() {
  const changes: HealthChange[] = [];
  const clock = { ms: 1000 };
  const health = new HealthTracker(
    (change) => changes.push(change),
    () => clock.ms,
  );
  const kinds = () => changes.map(({ kind, condition, to }) => `${kind} ${condition.tag} ${to}`);
  return { health, changes, clock, kinds };
}

describe('health', () => {
  test('is that of the worst condition, and says since when', () => {
    const { health, clock, kinds } = fixture();
    expect(health.report()).toMatchObject({ state: 'healthy', sinceMs: 1000, conditions: [] });
    clock.ms = 2000;
    health.raise('degraded', causes.unreachable('down'));
    clock.ms = 3000;
    health.raise('critical', causes.walUnwritable('full'));
    expect(health.report()).toMatchObject({ state: 'critical', sinceMs: 3000 });
    expect(health.report().conditions.map(({ tag, sinceMs }) => [tag, sinceMs])).toEqual([
      ['wal_unwritable', 3000],
      ['clickhouse_unreachable', 2000],
    ]);
    clock.ms = 4000;
    health.clear('wal_unwritable');
    health.clear('clickhouse_unreachable');
    expect(health.report()).toMatchObject({ state: 'healthy', sinceMs: 4000, conditions: [] });
    expect(kinds()).toEqual([
      'raised clickhouse_unreachable degraded',
      'raised wal_unwritable critical',
      'cleared wal_unwritable degraded',
      'cleared clickhouse_unreachable healthy',
    ]);
  });

  test('what is said again is no change, save that it gets worse', () => {
    const { health, kinds } = fixture();
    health.raise('degraded', causes.disk('warn', '1'));
    health.raise('degraded', causes.disk('warn', '2'));
    expect(health.report().conditions[0]!.message).toContain('2');
    health.raise('critical', causes.disk('critical', '3'));
    health.raise('critical', causes.disk('halt', '4'), true);
    health.clear('no_such_tag');
    expect(kinds()).toEqual([
      'raised disk_pressure degraded',
      'changed disk_pressure critical',
      'changed disk_pressure critical',
    ]);
  });

  test('a loss is counted, and stays until it is acknowledged', () => {
    const { health, changes, kinds } = fixture();
    health.lose(causes.shed('market_data', 'memory'), 10);
    health.lose(causes.shed('market_data', 'memory'), 5);
    health.clear('rows_shed', 'market_data/memory');
    expect(health.state).toBe('data_loss');
    expect(health.losses()[0]).toMatchObject({ count: 15, subject: 'market_data/memory' });
    expect(changes.map(({ added }) => added)).toEqual([10, 5]);
    expect(health.acknowledge()).toHaveLength(1);
    expect(health.state).toBe('healthy');
    health.lose(causes.shed('market_data', 'memory'), 1);
    expect(health.losses()[0]!.count).toBe(1);
    expect(kinds()).toEqual([
      'raised rows_shed data_loss',
      'more rows_shed data_loss',
      'acknowledged rows_shed healthy',
      'raised rows_shed data_loss',
    ]);
  });

  test('losses of an earlier run hold without being news', () => {
    const first = fixture();
    first.health.lose(causes.gap('feed'), 3);
    const second = fixture();
    second.health.restore(JSON.parse(JSON.stringify(first.health.losses())));
    expect(second.health.state).toBe('data_loss');
    expect(second.changes).toEqual([]);
    second.health.acknowledge();
    expect(second.health.state).toBe('healthy');
  });

  test('every condition says what to type next', () => {
    const { health } = fixture();
    health.raise('critical', causes.blocked('orders', 'column missing'));
    health.lose(causes.unreadable('0.wal', 'checksum'), 7);
    for (const { command, message } of health.report().conditions) {
      expect(command).not.toBe('');
      expect(message).not.toBe('');
    }
  });

  test('the ring of changes is bounded', () => {
    const { health } = fixture();
    for (let i = 0; i < 1000; i++) health.lose(causes.gap('feed'), 1);
    expect(health.report().recent).toHaveLength(256);
    expect(health.report().recent.at(-1)!.condition.count).toBe(1000);
  });
});

describe('health of delivery', () => {
  const retry = (topic: string | null, attempt: number, outcome: 'unavailable' | 'refused') =>
    ({ kind: 'retry', topic, outcome, attempt, message: 'no', waitMs: 1 }) as const;
  const inserted = (topic: string) =>
    ({ kind: 'inserted', topic, rowCount: 1, payloadBytes: 1, seconds: 1, oldestNs: 0n }) as const;

  test('an outage is one condition over all topics, and ends with the last of them', () => {
    const { health, kinds } = fixture();
    const delivery = new FlusherHealth(health, causes);
    delivery.take(retry('orders', 1, 'unavailable'));
    expect(health.state).toBe('healthy');
    for (const attempt of [2, 3]) {
      delivery.take(retry('orders', attempt, 'unavailable'));
      delivery.take(retry('fills', attempt, 'unavailable'));
    }
    delivery.take(inserted('orders'));
    expect(health.state).toBe('degraded');
    delivery.take({ kind: 'recovered', topic: 'fills' });
    expect(health.state).toBe('healthy');
    expect(kinds()).toEqual([
      'raised clickhouse_unreachable degraded',
      'cleared clickhouse_unreachable healthy',
    ]);
  });

  test('a blocked topic is critical until it is delivered; damage is a loss with its rows', () => {
    const { health } = fixture();
    const delivery = new FlusherHealth(health, causes);
    delivery.take({ kind: 'blocked', topic: 'orders', code: 'x', message: 'column missing' });
    expect(health.state).toBe('critical');
    delivery.take({ kind: 'recovered', topic: 'orders' });
    expect(health.state).toBe('healthy');
    delivery.take({
      kind: 'damage',
      topic: 'orders',
      segment: '0.wal',
      firstLsn: 5n,
      lastLsn: 9n,
      reason: 'checksum',
    });
    expect(health.losses()[0]).toMatchObject({ tag: 'wal_damage', count: 5 });
  });
});
