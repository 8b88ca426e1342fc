// Acts on disk pressure: measures once a second, stops topics by their policies, gives the reserve up and
// makes it again. What is decided lies in disk-monitor.ts and disk-policy.ts.

import type { Config } from '../../config.ts';
import { describeError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import { topics } from '../../schema/registry.ts';
import type { HealthTracker } from '../health/health.ts';
import type { HealthCauses } from '../health/health-causes.ts';
import type { IngestPath } from '../ingest/ingest-path.ts';
import { DISK_LEVELS, type DiskLevel, DiskMonitor, type DiskState, diskThresholds } from './disk-monitor.ts';
import { type FullPolicy, policiesOf, stoppedTopics } from './disk-policy.ts';
import { DiskReserve } from './disk-reserve.ts';
import type { WalUsage } from './wal-usage.ts';

/** A start that fails, or ends soon, need not have written a reserve. */
const FIRST_RESERVE_MS = 5000;
/** Space beyond level warn that a reserve leaves. */
const KEEP_FREE_FACTOR = 1.2;

export class DiskGuard {
  readonly policies: ReadonlyMap<string, FullPolicy>;
  /** How often each level was entered. */
  readonly changes = new Map<DiskLevel, number>();
  readonly #config: Config;
  readonly #logger: Logger;
  readonly #health: HealthTracker;
  readonly #causes: HealthCauses;
  readonly #startedMs = performance.now();
  readonly #topicNames = topics.map(({ topic }) => topic);
  #monitor: DiskMonitor | null = null;
  #reserve: DiskReserve | null = null;
  #stopped = new Map<string, 'all' | 'datagrams'>();

  /** Throws a RecorderError for a policy of a topic that is none. */
  constructor(config: Config, health: HealthTracker, causes: HealthCauses, logger: Logger) {
    this.#config = config;
    this.#logger = logger;
    this.#health = health;
    this.#causes = causes;
    this.policies = policiesOf(this.#topicNames, config.walFullPolicy);
  }

  get level(): DiskLevel {
    return this.#monitor?.level ?? 'ok';
  }

  /** Topics that are stopped now, and whether all their rows are dropped or datagrams alone. */
  stopped(): ReadonlyMap<string, 'all' | 'datagrams'> {
    return this.#stopped;
  }

  /** Takes a measurement and acts on it. */
  look(usage: WalUsage, path: IngestPath): void {
    this.#monitor ??= new DiskMonitor(this.#thresholds(usage));
    this.#reserve ??= new DiskReserve(this.#config.walDir, this.#config.walReserveBytes);
    const monitor = this.#monitor;
    const state: DiskState = { ...usage, reserveGivenUpBytes: this.#reserve.givenUpBytes };
    if (monitor.measure(state)) this.#levelChanged(monitor.level, monitor.describe(state));
    this.#stop(monitor.level, path);
    this.#tendReserve(monitor, state);
  }

  #thresholds({ sizeBytes }: WalUsage) {
    const { diskWarnBytes, diskCriticalBytes, diskHaltBytes, walMaxBytes, walSegmentBytes } = this.#config;
    const given = {
      warnBytes: diskWarnBytes,
      criticalBytes: diskCriticalBytes,
      haltBytes: diskHaltBytes,
      walMaxBytes,
    };
    return diskThresholds(given, sizeBytes, walSegmentBytes);
  }

  #levelChanged(level: DiskLevel, why: string): void {
    this.changes.set(level, (this.changes.get(level) ?? 0) + 1);
    if (level === 'ok') this.#health.clear('disk_pressure');
    else {
      const state = DISK_LEVELS.indexOf(level) >= DISK_LEVELS.indexOf('critical') ? 'critical' : 'degraded';
      this.#health.raise(state, this.#causes.disk(level, why), true);
    }
  }

  #stop(level: DiskLevel, path: IngestPath): void {
    const stopped = stoppedTopics(this.policies, level, path.wal.writable);
    if (describeStopped(stopped) === describeStopped(this.#stopped)) return;
    const text = `disk ${level}: stopped now: ${describeStopped(stopped) || 'nothing'}`;
    if (stopped.size < this.#stopped.size) this.#logger.info(text);
    else this.#logger.error(text);
    this.#stopped = stopped;
    path.setStopped(new Map([...stopped].map(([topic, rows]) => [this.#topicNames.indexOf(topic), rows])));
  }

  #tendReserve(monitor: DiskMonitor, { freeBytes }: DiskState): void {
    const reserve = this.#reserve!;
    if (monitor.level === 'halt') {
      if (reserve.giveUp()) this.#logger.warn('disk halt: the reserve is given up for orders and fills');
      return;
    }
    const isEarly = performance.now() - this.#startedMs < FIRST_RESERVE_MS;
    const keepBytes = monitor.thresholds.warnBytes * KEEP_FREE_FACTOR;
    if (isEarly || monitor.level !== 'ok' || !reserve.isWorthMaking(freeBytes, keepBytes)) return;
    reserve.make().catch((error) => this.#logger.error(`no reserve: ${describeError(error)}`));
  }
}

function describeStopped(stopped: ReadonlyMap<string, 'all' | 'datagrams'>): string {
  return [...stopped].map(([topic, rows]) => (rows === 'all' ? topic : `${topic} (datagrams)`)).join(', ');
}
