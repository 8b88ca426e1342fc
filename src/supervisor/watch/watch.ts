// Watches one recorder: metrics, health, and the HTTP server that shows them.
//
// Invariants
// - Watching never stops recording: what fails here is a log line.
// - Nothing is done for a row; something small for a block, a sync, an insert group; the rest once a second.
//
// Life cycle: new Watch → attach (the parts are there) → openHttp → stopRows (before the last sync) → stop

import { type Config, clickhouseUrls } from '../../config.ts';
import { describeError } from '../../errors.ts';
import { everySecond } from '../../every-second.ts';
import { realFileSystem } from '../../io/real-file-system.ts';
import type { Logger } from '../../log.ts';
import { createDashboard, type Dashboard } from '../../observe/dashboard/dashboard.ts';
import type { HttpServer } from '../../observe/http-server.ts';
import { startLoopDelay } from '../../observe/loop-delay.ts';
import { createMetrics, type Sample } from '../../observe/metrics.ts';
import { topics } from '../../schema/registry.ts';
import type { FlusherEvent } from '../../sink/flusher-types.ts';
import type { WalSyncError } from '../../wal/errors.ts';
import type { BlockAppend } from '../../wal/writer.ts';
import { DiskGuard } from '../guards/disk-guard.ts';
import type { RunningRetention } from '../guards/retention-timer.ts';
import { measureWal, type WalUsage } from '../guards/wal-usage.ts';
import { FlusherHealth } from '../health/flusher-health.ts';
import { type HealthChange, HealthTracker } from '../health/health.ts';
import { HealthCauses } from '../health/health-causes.ts';
import { readLosses, writeLosses } from '../health/health-file.ts';
import { createHealthLog } from '../health/health-log.ts';
import { HealthPoll } from '../health/health-poll.ts';
import { createHealthRows, type HealthRows } from '../health/health-rows.ts';
import type { IngestObserver, SealedRows } from '../ingest/ingest-observer.ts';
import type { RecorderParts } from '../recorder.ts';
import { statusOf } from '../status.ts';
import { recorderParts } from './dashboard-parts.ts';
import { seedLag } from './lag-seed.ts';
import { LagTracker } from './lag-tracker.ts';
import * as samplesOf from './metric-samples.ts';
import { NewestRows } from './newest-rows.ts';
import { openWatchServer } from './watch-http.ts';
import { shownHealth, watchRoutes } from './watch-routes.ts';

/** Changes that wait for the path to open; more than a start can bring. */
const MAX_WAITING_ROWS = 1000;

export class Watch implements IngestObserver {
  readonly health: HealthTracker;
  #config: Config;
  readonly #logger: Logger;
  readonly #metrics = createMetrics();
  readonly #causes: HealthCauses;
  readonly #flusherHealth: FlusherHealth;
  readonly #poll: HealthPoll;
  readonly #disk: DiskGuard;
  readonly #lag = new LagTracker();
  readonly #durableRows: number[] = topics.map(() => 0);
  readonly #waitingRows: HealthChange[] = [];
  readonly #stopLoopDelay: () => void;
  #syncFailures = 0;
  #usage: WalUsage | null = null;
  #parts: RecorderParts | null = null;
  #rows: HealthRows | null = null;
  #stopLooking = () => {};
  readonly #newest: NewestRows;
  #server: HttpServer | null = null;
  #dashboard: Dashboard | null = null;
  #stopping = false;
  #isOver = false;
  #lossesChanged = false;
  #isLookDue = false;

  constructor(config: Config, logger: Logger) {
    this.#config = config;
    this.#logger = logger;
    this.#causes = new HealthCauses(config.walDir, clickhouseUrls(config)[0]!);
    const log = createHealthLog(logger);
    this.health = new HealthTracker((change) => {
      log(change);
      // Rows are written from the timer: a change may come from within the WAL.
      if (this.#waitingRows.length < MAX_WAITING_ROWS) this.#waitingRows.push(change);
      this.#lossesChanged ||= change.condition.state === 'data_loss';
    });
    this.#flusherHealth = new FlusherHealth(this.health, this.#causes);
    this.#poll = new HealthPoll(this.health, this.#causes);
    this.#disk = new DiskGuard(config, this.health, this.#causes, logger);
    this.#newest = new NewestRows(realFileSystem, config.walDir);
    this.#stopLoopDelay = startLoopDelay((seconds) => this.#metrics.loopDelay.observe(seconds));
  }

  /** Space on the WAL's disk runs short. */
  get isDiskShort(): boolean {
    return this.#disk.isShort;
  }

  /** Takes over what may change while it runs. Throws, and changes nothing, where a policy names no topic. */
  reconfigure(config: Config): void {
    this.#disk.reconfigure(config);
    this.#config = config;
    this.#look();
  }

  /** Who removes delivered segments, so that they go before anything stops; null: nobody does. */
  attachRetention(retention: RunningRetention | null): void {
    this.#disk.attachRetention(retention, () => this.#look());
  }

  spareSegment(): string | null {
    return this.#disk.spareSegment();
  }

  /** Room for a further segment has come or gone. May be called from within the WAL. */
  walChanged(): void {
    // A look counts all files: not for each of the segments that are made as they should.
    const isTroubled = this.#parts?.path.wal.allocationError != null || this.#disk.level !== 'ok';
    if (this.#isLookDue || !isTroubled) return;
    this.#isLookDue = true;
    setImmediate(() => {
      this.#isLookDue = false;
      this.#look();
    });
  }

  appended(topic: string, lsn: bigint, block: BlockAppend): void {
    this.#newest.appended(topic, lsn, block.rowCount, this.#parts?.path.wal.lastPlace ?? null);
    const oldestMs = Number(block.firstIngestTs / 1_000_000n);
    if (this.#delivers) this.#lag.append(topic, lsn, block.rowCount, block.payloadSizeBytes, oldestMs);
  }

  synced(seconds: number): void {
    this.#metrics.sync.observe(seconds);
    this.health.clear('sync_failed');
  }

  durable({ topicIndex, rows, oldestNs }: SealedRows): void {
    this.#parts?.flusher?.wake();
    this.#durableRows[topicIndex]! += rows;
    this.#metrics.durable.observe({ topic: topics[topicIndex]!.topic }, samplesOf.ageSeconds(oldestNs));
  }

  syncFailed(error: WalSyncError): void {
    this.#syncFailures++;
    this.health.raise('critical', this.#causes.syncFailed(describeError(error)));
  }

  /** Takes an event of the flusher. */
  flusherEvent(event: FlusherEvent): void {
    this.#flusherHealth.take(event);
    if (event.kind !== 'inserted') return;
    this.#metrics.insert.observe({ topic: event.topic }, event.seconds);
    this.#metrics.inserted.observe({ topic: event.topic }, samplesOf.ageSeconds(event.oldestNs));
  }

  /** The parts are there: begins to look at them. */
  attach(parts: RecorderParts): void {
    this.#parts = parts;
    const { ingest, streams, wal } = parts.path;
    this.health.restore(readLosses(this.#config.walDir));
    for (const { segment, reason, firstLsn, lastLsn } of wal.recovery.findings) {
      const rows = Number(lastLsn - firstLsn) + 1;
      if (rows > 0) this.health.lose(this.#causes.unreadable(segment, reason), rows);
    }
    this.#seedNewest();
    this.#rows = createHealthRows(ingest, streams);
    this.#look();
    this.#stopLooking = everySecond(() => this.#look());
  }

  /** Rows of earlier runs count as not delivered until the flusher says otherwise. */
  seedLag(): void {
    seedLag(this.#lag, this.#config.walDir, this.#logger);
  }

  #seedNewest(): void {
    try {
      this.#newest.seed();
    } catch (error) {
      this.#logger.warn(`the page shows no rows of earlier runs: ${describeError(error)}`);
    }
  }

  /**
   * Opens the HTTP server; its address. The default port in use is a warning: it was nobody's wish.
   * @throws RecorderError where the address was given and does not work
   */
  openHttp(): string | null {
    if (this.#config.http === '') return null;
    const samples = () => this.#samples();
    const notReady = () => this.#notReady();
    const answers = watchRoutes({
      metrics: this.#metrics,
      samples,
      health: this.health,
      notReady,
      status: () => this.status(),
      acknowledged: () => this.#look(),
    });
    this.#dashboard = createDashboard({
      ...recorderParts(this.#config, () => this.#parts, this.#newest),
      metrics: this.#metrics,
      samples,
      notReady,
      health: () => shownHealth(this.health.report()),
      onError: (error) => this.#logger.error(`page: ${describeError(error)}`),
    });
    const routes = { ...answers, ...this.#dashboard.routes };
    this.#server = openWatchServer(() => this.#config, 'http', routes, this.#logger);
    return this.#server?.url ?? null;
  }

  /** Everything that is known of the recorder, as plain data. */
  status(): unknown {
    const parts = this.#parts;
    if (parts === null) return null;
    const flusher = parts.flusher?.stats() ?? null;
    return {
      ...statusOf(parts),
      health: shownHealth(this.health.report()),
      ready: this.#notReady().length === 0,
      disk: { ...this.#usage, level: this.#disk.level, stopped: Object.fromEntries(this.#disk.stopped()) },
      nextLsn: parts.path.wal.nextLsn,
      durableLsn: parts.path.wal.durableLsn,
      paused: parts.path.isPaused,
      held: parts.stream?.stats.held ?? 0,
      flusher,
      lag: Object.fromEntries(flusher?.topics.map(({ topic }) => [topic, this.#lag.lag(topic)]) ?? []),
    };
  }

  /** No more rows of its own: what is recorded from now on would not be made durable. */
  stopRows(): void {
    this.#stopping = true;
    this.#look();
    this.#rows?.close();
    this.#rows = null;
  }

  stop(): void {
    this.#stopping = true;
    this.#isOver = true;
    this.#stopLooking();
    this.#stopLoopDelay();
    this.#dashboard?.stop();
    this.#server?.stop();
  }

  get #delivers(): boolean {
    return this.#parts === null || this.#parts.flusher !== null;
  }

  #look(): void {
    const parts = this.#parts;
    if (parts === null || this.#isOver) return;
    try {
      this.#usage = measureWal(this.#config.walDir);
      if (this.#usage !== null) this.#disk.look(this.#usage, parts.path);
      for (const { topic, deliveredLsn } of parts.flusher?.stats().topics ?? [])
        this.#lag.delivered(topic, deliveredLsn);
      this.#poll.look(parts, parts.flusher === null ? null : this.#lag, this.#usage);
      if (this.#lossesChanged) this.#lossesChanged = !writeLosses(this.#config.walDir, this.health.losses());
      for (const change of this.#waitingRows.splice(0)) this.#rows?.record(change);
    } catch (error) {
      this.#logger.error(`watching failed: ${describeError(error)}`);
    }
  }

  #notReady(): string[] {
    const parts = this.#parts;
    if (parts === null || this.#stopping) return ['starting or stopping'];
    const reasons: string[] = [];
    if (!parts.path.wal.writable) reasons.push('the WAL takes no rows');
    for (const { tag, message } of this.health.report().conditions)
      if (tag === 'sync_stalled' || tag === 'sync_failed') reasons.push(message);
    return reasons;
  }

  *#samples(): Generator<Sample> {
    const parts = this.#parts;
    yield* samplesOf.processSamples();
    yield* samplesOf.healthSamples(this.health);
    yield* samplesOf.usageSamples(this.#usage);
    if (parts === null) return;
    const { config, path, flusher } = parts;
    yield* samplesOf.buildSamples(config.recorderId, path.wal.walId.toString(), config.mode);
    yield* samplesOf.diskSamples(this.#disk);
    yield* samplesOf.ingestSamples(parts, this.#durableRows);
    yield* samplesOf.listenerSamples(parts);
    yield { name: 'recorder_sync_failures_total', value: this.#syncFailures };
    if (flusher === null) return;
    yield* samplesOf.flusherSamples(flusher.stats());
    yield* samplesOf.lagSamples((topic) => this.#lag.lag(topic), flusher.stats());
  }
}
