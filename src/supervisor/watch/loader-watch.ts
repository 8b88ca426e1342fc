// Watches a loader: metrics of delivery, health, and the HTTP server that shows them. A loader that nobody
// can see into looks like one that has nothing to do.

import type { Config } from '../../config.ts';
import { clickhouseUrls } from '../../config.ts';
import { describeError } from '../../errors.ts';
import type { FileSystem } from '../../io/file-system.ts';
import type { Logger } from '../../log.ts';
import { createDashboard, type Dashboard } from '../../observe/dashboard/dashboard.ts';
import type { HttpServer } from '../../observe/http-server.ts';
import { startLoopDelay } from '../../observe/loop-delay.ts';
import { createMetrics, type Sample } from '../../observe/metrics.ts';
import { type Backlog, measureBacklog } from '../../sink/backlog.ts';
import type { FlusherEvent, FlusherStats } from '../../sink/flusher-types.ts';
import { measureWal, type WalUsage } from '../guards/wal-usage.ts';
import { FlusherHealth } from '../health/flusher-health.ts';
import { HealthTracker } from '../health/health.ts';
import { HealthCauses } from '../health/health-causes.ts';
import { readLosses, writeLosses } from '../health/health-file.ts';
import { createHealthLog } from '../health/health-log.ts';
import { HealthPoll } from '../health/health-poll.ts';
import { loaderParts } from './dashboard-parts.ts';
import * as samplesOf from './metric-samples.ts';
import { openWatchServer } from './watch-http.ts';
import { shownHealth, watchRoutes } from './watch-routes.ts';

const LOOK_INTERVAL_MS = 2000;
/** The backlog is counted in the WAL's headers: that may take a small share of the time only. */
const LOOK_PAUSE_FACTOR = 20;

export class LoaderWatch {
  #config: Config;
  readonly #fileSystem: FileSystem;
  readonly #logger: Logger;
  readonly #health: HealthTracker;
  readonly #flusherHealth: FlusherHealth;
  readonly #poll: HealthPoll;
  readonly #metrics = createMetrics();
  readonly #stats: () => FlusherStats;
  readonly #stopLoopDelay: () => void;
  #timer: ReturnType<typeof setTimeout> | null = null;
  readonly #server: HttpServer | null;
  readonly #dashboard: Dashboard;
  #usage: WalUsage | null = null;
  #lossesChanged = false;
  #backlog: ReadonlyMap<string, Backlog> = new Map();

  /** Opens the HTTP server; throws where its address was given and does not work. */
  constructor(config: Config, fileSystem: FileSystem, stats: () => FlusherStats, logger: Logger) {
    this.#config = config;
    this.#fileSystem = fileSystem;
    this.#logger = logger;
    this.#stats = stats;
    const causes = new HealthCauses(config.walDir, clickhouseUrls(config)[0]!);
    const log = createHealthLog(logger);
    this.#health = new HealthTracker((change) => {
      log(change);
      this.#lossesChanged ||= change.condition.state === 'data_loss';
    });
    this.#health.restore(readLosses(this.#lossesDir));
    this.#flusherHealth = new FlusherHealth(this.#health, causes);
    this.#poll = new HealthPoll(this.#health, causes);
    const answers = watchRoutes({
      metrics: this.#metrics,
      samples: () => this.#samples(),
      health: this.#health,
      notReady: () => [],
      status: () => ({ walDir: config.walDir, flusher: this.#stats() }),
      acknowledged: () => {},
    });
    this.#dashboard = createDashboard({
      ...loaderParts(config, fileSystem),
      metrics: this.#metrics,
      samples: () => this.#samples(),
      notReady: () => [],
      health: () => shownHealth(this.#health.report()),
      onError: (error) => logger.error(`page: ${describeError(error)}`),
    });
    const routes = { ...answers, ...this.#dashboard.routes };
    this.#server = openWatchServer(() => this.#config, 'loaderHttp', routes, logger);
    this.#stopLoopDelay = startLoopDelay((seconds) => this.#metrics.loopDelay.observe(seconds));
    this.#schedule(LOOK_INTERVAL_MS);
  }

  /** Takes an event of the flusher. */
  take(event: FlusherEvent): void {
    this.#flusherHealth.take(event);
    if (event.kind !== 'inserted') return;
    const { topic, seconds, oldestNs } = event;
    this.#metrics.insert.observe({ topic }, seconds);
    this.#metrics.inserted.observe({ topic }, samplesOf.ageSeconds(oldestNs));
  }

  /** Takes over what may change while it runs. */
  reconfigure(config: Config): void {
    this.#config = config;
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (this.#lossesChanged) writeLosses(this.#lossesDir, this.#health.losses());
    this.#stopLoopDelay();
    this.#dashboard.stop();
    this.#server?.stop();
  }

  #schedule(afterMs: number): void {
    this.#timer = setTimeout(() => {
      const startedMs = performance.now();
      this.#look();
      this.#schedule(Math.max(LOOK_INTERVAL_MS, (performance.now() - startedMs) * LOOK_PAUSE_FACTOR));
    }, afterMs);
    this.#timer.unref();
  }

  /** Beside the flusher's lock: `health.json` of the WAL directory is the recorder's. */
  get #lossesDir(): string {
    return `${this.#config.walDir}/flusher`;
  }

  #look(): void {
    if (this.#lossesChanged) this.#lossesChanged = !writeLosses(this.#lossesDir, this.#health.losses());
    try {
      const { topics, durableLsn } = this.#stats();
      const { walDir } = this.#config;
      this.#usage = measureWal(walDir);
      // The WAL may be made after the loader starts.
      if (this.#usage === null) return;
      this.#poll.deadLetters(this.#usage);
      const delivered = new Map(topics.map(({ topic, deliveredLsn }) => [topic, deliveredLsn]));
      let leastLsn = durableLsn;
      for (const lsn of delivered.values()) if (lsn < leastLsn) leastLsn = lsn;
      const fromLsn = (topic: string) => delivered.get(topic) ?? null;
      this.#backlog = measureBacklog(this.#fileSystem, walDir, fromLsn, leastLsn, durableLsn);
    } catch (error) {
      this.#logger.warn(`watching failed: ${describeError(error)}`);
    }
  }

  *#samples(): Generator<Sample> {
    const stats = this.#stats();
    yield* samplesOf.processSamples();
    yield* samplesOf.buildSamples('', '', 'load');
    yield* samplesOf.healthSamples(this.#health);
    yield* samplesOf.usageSamples(this.#usage);
    yield { name: 'recorder_durable_lsn', value: Number(stats.durableLsn) };
    yield* samplesOf.flusherSamples(stats);
    yield* samplesOf.lagSamples((topic) => this.#lagOf(topic), stats);
  }

  #lagOf(topic: string) {
    const found = this.#backlog.get(topic);
    if (found === undefined) return { rows: 0, bytes: 0, oldestMs: null };
    const { rows, bytes, oldestNs } = found;
    return { rows: Number(rows), bytes, oldestMs: Number(oldestNs / 1_000_000n) };
  }
}
