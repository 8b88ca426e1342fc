// What the flusher reports, as conditions of the health.

import type { FlusherEvent } from '../../sink/flusher-types.ts';
import type { HealthTracker } from './health.ts';
import type { HealthCauses } from './health-causes.ts';

/** A first failure may be a restart of the server, or a connection that had grown old. */
const WORTH_MENTIONING_ATTEMPT = 2;

export class FlusherHealth {
  readonly #health: HealthTracker;
  readonly #causes: HealthCauses;
  /**
   * Topics without a server, '' while connecting, and servers that are silent. One outage is one condition,
   * not one a topic.
   */
  readonly #unreachable = new Set<string>();

  constructor(health: HealthTracker, causes: HealthCauses) {
    this.#health = health;
    this.#causes = causes;
  }

  /** Takes one event. */
  take(event: FlusherEvent): void {
    const health = this.#health;
    const causes = this.#causes;
    switch (event.kind) {
      case 'connected':
        this.#reached('');
        return;
      case 'recovered':
      case 'inserted':
        this.#reached(event.topic ?? '');
        health.clear('insert_refused', event.topic ?? '');
        health.clear('table_blocked', event.topic ?? '');
        health.clear('delivery_no_room');
        return;
      case 'no_room':
        health.raise('critical', causes.noRoomToDeliver(event.message));
        return;
      case 'silent':
        this.#unreachable.add(event.url);
        health.raise('degraded', causes.unreachable(event.message));
        return;
      case 'answers':
        // Whoever still gets no rows there says so at its next attempt.
        this.#unreachable.clear();
        health.clear('clickhouse_unreachable');
        return;
      case 'retry':
        this.#failed(event.topic ?? '', event);
        return;
      case 'blocked':
        this.#reached(event.topic);
        health.raise('critical', causes.blocked(event.topic, event.message));
        return;
      case 'dead_letter':
        // How many there are is seen in their folder.
        health.clear('insert_refused', event.topic);
        return;
      case 'damage': {
        const rows = Number(event.lastLsn - event.firstLsn) + 1;
        health.lose(causes.unreadable(event.segment, event.reason), Math.max(0, rows));
        return;
      }
      case 'failed':
        health.raise('critical', causes.flusherStopped(event.topic ?? '', event.message));
        return;
      // Another process delivers from this WAL: nothing is wrong.
      case 'waiting':
      case 'resumed_from_server':
        return;
    }
  }

  #failed(topic: string, event: Extract<FlusherEvent, { kind: 'retry' }>): void {
    if (event.attempt < WORTH_MENTIONING_ATTEMPT) return;
    if (event.outcome === 'refused') {
      this.#reached(topic);
      this.#health.raise('degraded', this.#causes.refused(topic, event.message));
      return;
    }
    this.#unreachable.add(topic);
    this.#health.raise('degraded', this.#causes.unreachable(event.message));
  }

  #reached(topic: string): void {
    this.#unreachable.delete(topic);
    if (this.#unreachable.size === 0) this.#health.clear('clickhouse_unreachable');
  }
}
