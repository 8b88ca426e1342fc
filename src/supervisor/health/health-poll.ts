// What nobody reports by itself: looked at once a second, and put into the health.

import { describeError } from '../../errors.ts';
import { PAUSE_AT_FILL } from '../guards/memory-guard.ts';
import type { WalUsage } from '../guards/wal-usage.ts';
import type { RecorderParts } from '../recorder.ts';
import type { LagTracker } from '../watch/lag-tracker.ts';
import type { HealthTracker } from './health.ts';
import type { HealthCauses } from './health-causes.ts';

/** A sync that takes longer is no slow disk but one that hangs. */
const STALLED_SYNC_MS = 5000;
/** Undelivered rows older than this are worth a look. */
const LONG_LAG_MS = 60_000;
/** How long after the last drop the kernel's buffer counts as too small. */
const DROPS_HOLD_MS = 60_000;

export class HealthPoll {
  readonly #health: HealthTracker;
  readonly #causes: HealthCauses;
  /** Counts of the last look, by what was counted. */
  readonly #counts = new Map<string, number>();
  readonly #droppedAtMs = new Map<string, number>();

  constructor(health: HealthTracker, causes: HealthCauses) {
    this.#health = health;
    this.#causes = causes;
  }

  /** Looks at all parts. */
  look(parts: RecorderParts, lag: LagTracker | null, usage: WalUsage | null): void {
    this.#wal(parts);
    this.#memory(parts);
    this.#losses(parts);
    this.#kernelDrops(parts);
    this.deadLetters(usage);
    if (lag !== null) this.#lag(parts, lag);
  }

  /** Looks at the folder of dead letters. */
  deadLetters(usage: WalUsage | null): void {
    const count = usage?.deadLetters ?? 0;
    if (count > 0) this.#health.raise('critical', this.#causes.deadLetters(count));
    else this.#health.clear('dead_letters');
  }

  #wal({ path }: RecorderParts): void {
    const { wal, quarantine } = path;
    const why = wal.allocationError === null ? 'closed' : describeError(wal.allocationError);
    this.#hold('critical', !wal.writable, () => this.#causes.walUnwritable(why), 'wal_unwritable');
    const stalledMs = path.syncingForMs;
    const seconds = Math.round(stalledMs / 1000);
    this.#hold(
      'critical',
      stalledMs > STALLED_SYNC_MS,
      () => this.#causes.syncStalled(seconds),
      'sync_stalled',
    );
    const failed = quarantine.stats.lastError;
    const isFailed = failed !== null && failed !== undefined;
    this.#hold(
      'degraded',
      isFailed,
      () => this.#causes.quarantineFailed(describeError(failed)),
      'quarantine_failed',
    );
  }

  #memory({ path }: RecorderParts): void {
    const { fill } = path.memory;
    const cause = () => this.#causes.memoryPressure(Math.round(fill * 100));
    this.#hold('degraded', fill >= PAUSE_AT_FILL, cause, 'memory_pressure');
  }

  #losses({ path, datagram }: RecorderParts): void {
    for (const { topic, cause, rows } of path.ingest.shedRows()) {
      const added = this.#added(`shed/${topic}/${cause}`, rows);
      if (added > 0) this.#health.lose(this.#causes.shed(topic, cause), added);
    }
    for (const [source, { missing }] of datagram?.stats ?? []) {
      const added = this.#added(`missing/${source}`, missing);
      if (added > 0) this.#health.lose(this.#causes.gap(source), added);
    }
  }

  #kernelDrops({ datagram }: RecorderParts): void {
    const nowMs = performance.now();
    for (const { address, kernelDrops } of datagram?.lines ?? []) {
      const drops = kernelDrops();
      if (drops !== null && this.#added(`drops/${address}`, drops) > 0) this.#droppedAtMs.set(address, nowMs);
      const isRecent = nowMs - (this.#droppedAtMs.get(address) ?? Number.NEGATIVE_INFINITY) < DROPS_HOLD_MS;
      if (isRecent) this.#health.raise('degraded', this.#causes.kernelDrops(address));
      else this.#health.clear('kernel_drops', address);
    }
  }

  #lag({ path }: RecorderParts, lag: LagTracker): void {
    const nowMs = Date.now();
    const late: string[] = [];
    let mostMs = 0;
    for (const { model } of path.ingest.topics) {
      const { oldestMs } = lag.lag(model.topic);
      const ageMs = oldestMs === null ? 0 : nowMs - oldestMs;
      mostMs = Math.max(mostMs, ageMs);
      if (ageMs > LONG_LAG_MS) late.push(model.topic);
    }
    const cause = () => this.#causes.lagging(late, Math.round(mostMs / 1000));
    this.#hold('degraded', late.length > 0, cause, 'delivery_lag');
  }

  #hold(
    state: 'degraded' | 'critical',
    holds: boolean,
    cause: () => Parameters<HealthTracker['raise']>[1],
    tag: string,
  ): void {
    if (holds) this.#health.raise(state, cause());
    else this.#health.clear(tag);
  }

  /** By how much a count has grown since the last look. */
  #added(what: string, count: number): number {
    const before = this.#counts.get(what) ?? 0;
    this.#counts.set(what, count);
    return count - before;
  }
}
