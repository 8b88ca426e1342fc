// Acts on disk pressure: measures once a second, stops topics by their policies, gives the reserve to the
// WAL and makes it again. What is decided lies in disk-monitor.ts and disk-policy.ts.
//
// Invariants
// - What is delivered goes before anything stops: a worse level acts when retention has nothing left to give.
// - A change, of the level or of what is stopped, is one change of the health: one line in the log.

import type { Config } from '../../config.ts';
import { describeError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import { topics } from '../../schema/registry.ts';
import type { HealthTracker } from '../health/health.ts';
import type { HealthCauses } from '../health/health-causes.ts';
import type { IngestPath } from '../ingest/ingest-path.ts';
import { DISK_LEVELS, type DiskLevel, DiskMonitor, diskThresholds } from './disk-monitor.ts';
import { describeStopped, type FullPolicy, policiesOf, stoppedTopics } from './disk-policy.ts';
import { DiskReserve } from './disk-reserve.ts';
import type { RunningRetention } from './retention-timer.ts';
import type { WalUsage } from './wal-usage.ts';

/** A start that fails, or ends soon, need not have written a reserve. */
const FIRST_RESERVE_MS = 5000;
/** Space beyond level warn that a reserve leaves. */
const KEEP_FREE_FACTOR = 1.2;
/** Retention may have to copy segments into an archive first: it is not waited for longer than this. */
const RETENTION_HEAD_START_MS = 3000;

export class DiskGuard {
  /** How often each level was entered. */
  readonly changes = new Map<DiskLevel, number>();
  readonly #logger: Logger;
  readonly #health: HealthTracker;
  readonly #causes: HealthCauses;
  readonly #startedMs = performance.now();
  readonly #topicNames = topics.map(({ topic }) => topic);
  #config: Config;
  #policies: ReadonlyMap<string, FullPolicy>;
  #monitor: DiskMonitor | null = null;
  #reserve: DiskReserve | null = null;
  #retention: RunningRetention | null = null;
  #lookAgain: () => void = () => {};
  #isRetentionLooking = false;
  #isRetentionExhausted = false;
  /** The level that is shown and acted on: a worse one that is measured has to wait for retention. */
  #level: DiskLevel = 'ok';
  #worseSinceMs: number | null = null;
  #stopped = new Map<string, 'all' | 'datagrams'>();
  /** What the health was told last. */
  #told = '';

  /** Throws a RecorderError for a policy of a topic that is none. */
  constructor(config: Config, health: HealthTracker, causes: HealthCauses, logger: Logger) {
    this.#config = config;
    this.#logger = logger;
    this.#health = health;
    this.#causes = causes;
    this.#policies = policiesOf(this.#topicNames, config.walFullPolicy);
  }

  get level(): DiskLevel {
    return this.#level;
  }

  /** Delivered segments are to go. */
  get isShort(): boolean {
    return (this.#monitor?.level ?? 'ok') !== 'ok';
  }

  get policies(): ReadonlyMap<string, FullPolicy> {
    return this.#policies;
  }

  /** Topics that are stopped now, and whether all their rows are dropped or datagrams alone. */
  stopped(): ReadonlyMap<string, 'all' | 'datagrams'> {
    return this.#stopped;
  }

  /** A file of the reserve for the WAL, which has no room: at halt, and at a start, before any level. */
  spareSegment(): string | null {
    return this.#level === 'halt' || this.#monitor === null ? this.#reserveFiles().take() : null;
  }

  /** Who removes delivered segments; without anybody topics stop at once. `lookAgain` is to call `look`. */
  attachRetention(retention: RunningRetention | null, lookAgain: () => void): void {
    this.#retention = retention;
    this.#lookAgain = lookAgain;
  }

  /** Takes other thresholds and policies. Throws as the constructor, and changes nothing then. */
  reconfigure(config: Config): void {
    this.#policies = policiesOf(this.#topicNames, config.walFullPolicy);
    this.#config = config;
    this.#monitor = null;
  }

  /** Takes a measurement and acts on it. */
  look(usage: WalUsage, path: IngestPath): void {
    this.#monitor ??= new DiskMonitor(this.#thresholds(usage), this.#level);
    const [monitor, before] = [this.#monitor, this.#level];
    monitor.measure(usage);
    this.#level = this.#levelToActOn(monitor.level);
    if (this.#level !== before) this.changes.set(this.#level, (this.changes.get(this.#level) ?? 0) + 1);
    this.#stop(path);
    this.#tell(monitor.describe(usage));
    this.#tendReserve(monitor, usage);
  }

  /** The directory is there by the time that it is asked for. */
  #reserveFiles(): DiskReserve {
    const { walDir, walReserveBytes, walSegmentBytes } = this.#config;
    this.#reserve ??= new DiskReserve(walDir, walReserveBytes, walSegmentBytes);
    return this.#reserve;
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

  /** What is measured, unless topics would stop and retention may yet make room. */
  #levelToActOn(measured: DiskLevel): DiskLevel {
    const stopsMore = rankOf(measured) > rankOf(this.#level) && measured !== 'warn';
    const nowMs = performance.now();
    this.#worseSinceMs = stopsMore ? (this.#worseSinceMs ?? nowMs) : null;
    const isLate = stopsMore && nowMs - this.#worseSinceMs! >= RETENTION_HEAD_START_MS;
    if (!stopsMore || this.#retention === null || this.#isRetentionExhausted || isLate) {
      this.#isRetentionExhausted = false;
      return measured;
    }
    if (!this.#isRetentionLooking) void this.#askRetention(this.#retention);
    return this.#level;
  }

  async #askRetention(retention: RunningRetention): Promise<void> {
    this.#isRetentionLooking = true;
    this.#isRetentionExhausted = await retention.look();
    this.#isRetentionLooking = false;
    this.#lookAgain();
  }

  #stop(path: IngestPath): void {
    const stopped = stoppedTopics(this.#policies, this.#level, path.wal.writable);
    if (describeStopped(stopped) === describeStopped(this.#stopped)) return;
    this.#stopped = stopped;
    const byIndex = [...stopped].map(([topic, rows]) => [this.#topicNames.indexOf(topic), rows] as const);
    path.setStopped({ topics: new Map(byIndex), holdsVital: this.#level === 'halt' });
  }

  /** The health shows level and stopped topics; a change of them is news, other numbers are not. */
  #tell(numbers: string): void {
    const level = this.#level;
    const stopped = describeStopped(this.#stopped);
    const news = level === 'ok' ? '' : `${level}: ${stopped}`;
    const isNews = news !== this.#told;
    this.#told = news;
    if (level === 'ok') {
      if (isNews) this.#health.clear('disk_pressure');
      return;
    }
    const state = rankOf(level) >= rankOf('critical') ? 'critical' : 'degraded';
    const reserve = level === 'halt' ? '; orders and fills go on into the reserve' : '';
    const text = `${numbers}; stopped: ${stopped || 'nothing'}${reserve}`;
    this.#health.raise(state, this.#causes.disk(level, text), isNews);
  }

  #tendReserve(monitor: DiskMonitor, { freeBytes }: WalUsage): void {
    const reserve = this.#reserveFiles();
    const isEarly = performance.now() - this.#startedMs < FIRST_RESERVE_MS;
    const keepBytes = monitor.thresholds.warnBytes * KEEP_FREE_FACTOR;
    if (isEarly || monitor.level !== 'ok' || !reserve.isWorthMaking(freeBytes, keepBytes)) return;
    reserve.make().catch((error) => this.#logger.error(`no reserve: ${describeError(error)}`));
  }
}

const rankOf = (level: DiskLevel): number => DISK_LEVELS.indexOf(level);
