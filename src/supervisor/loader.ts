// The loader: the flusher as a process of its own, beside a recorder or after it.
//
// Life cycle: startLoader → progress() while it runs → drain (deliver what is durable, within a deadline).
// With `once` a WAL that nobody owns is recovered first, and all of it is delivered.
//
// The loader changes nothing in the WAL of a recorder that runs, and never trims it: that is the owner's
// right.

import type { Config } from '../config.ts';
import { RecorderError } from '../errors.ts';
import { realFileSystem } from '../io/real-file-system.ts';
import type { Logger } from '../log.ts';
import { topics } from '../schema/registry.ts';
import { countBacklog } from '../sink/backlog.ts';
import { readFlushLog } from '../sink/flush-log.ts';
import { createFlusher, type Flusher } from '../sink/flusher.ts';
import type { DrainResult, FlusherEvent } from '../sink/flusher-types.ts';
import { WalFullError, WalLockedError } from '../wal/errors.ts';
import { HORIZON_FILE, openHorizon } from '../wal/horizon.ts';
import { flusherConfig } from './flusher-config.ts';
import { logFlusherEvent } from './flusher-log.ts';
import { awaitRecovery } from './replay/await-recovery.ts';
import { recoverOwnerless } from './replay/recover-ownerless.ts';
import { logRecovery } from './replay/recovery-log.ts';
import { recorderState } from './status-file.ts';
import { LoaderWatch } from './watch/loader-watch.ts';

export interface LoaderOptions {
  config: Config;
  logger: Logger;
  /** Deliver what is there, then end; otherwise tail the WAL, also one that is yet to be made. */
  once: boolean;
  allowMissingSegments: boolean;
}

/** Rows of this run, over all topics. */
export interface LoaderProgress {
  inserted: number;
  deadLettered: number;
  /** Durable rows that are not delivered yet; null until the WAL is there. */
  backlog: number | null;
}

export interface LoaderResult extends Omit<DrainResult, 'failure'>, LoaderProgress {
  /** What ended the flusher, or a topic's part of it; null where nothing did. */
  failure: RecorderError | null;
  topics: Record<string, { inserted: number; deadLettered: number }>;
}

export interface Loader {
  progress(): LoaderProgress;
  /** Resolves when the flusher, or a topic's part of it, has ended for good; the result says why. */
  readonly failed: Promise<void>;
  /** Delivers what is durable and ends; gives up after `timeoutMs`. */
  drain(timeoutMs: number): Promise<LoaderResult>;
  /** Gives a drain that has begun at most `timeoutMs` from now. */
  hurry(timeoutMs: number): void;
  /** Takes over what may change while it runs. */
  reload(config: Config): void;
}

/**
 * Starts a loader.
 * @throws RecorderError when `once` and there is no WAL, or it cannot be recovered
 */
export async function startLoader(options: LoaderOptions): Promise<Loader> {
  const { walDir } = options.config;
  const isLeftBehind = await awaitRecovery(realFileSystem, walDir, options.logger);
  if (options.once || isLeftBehind) await recoverFinished(options);
  return new WalLoader(options);
}

/** A WAL in use is taken as its horizon says; one without an owner is recovered first. */
async function recoverFinished({ config, logger, allowMissingSegments }: LoaderOptions): Promise<void> {
  const { walDir } = config;
  const isThere =
    realFileSystem.exists(walDir) &&
    realFileSystem.list(walDir).some((name) => name === HORIZON_FILE || name.endsWith('.wal'));
  if (!isThere) {
    throw new RecorderError('wal_absent', `there is no write-ahead log in ${walDir}`, {
      hint: 'name its directory with --wal-dir',
    });
  }
  if (recorderState(realFileSystem, walDir) === 'running') return;
  try {
    logRecovery(logger, walDir, await recoverOwnerless(realFileSystem, config, allowMissingSegments));
  } catch (error) {
    // A recorder has just been started: it recovers the WAL itself.
    if (error instanceof WalLockedError) return;
    // The rows are delivered all the same, which is the way to get room.
    if (!(error instanceof WalFullError)) throw error;
    logger.warn(`not recovered, rows are read up to the last known durable one: ${error.message}`);
  }
}

type Totals = Map<string, { inserted: bigint; dead: bigint }>;

class WalLoader implements Loader {
  readonly failed: Promise<void>;
  readonly #config: Config;
  readonly #logger: Logger;
  readonly #flusher: Flusher;
  readonly #before: Totals;
  readonly #watch: LoaderWatch | null;
  #failure: RecorderError | null = null;
  #tellFailed: () => void = () => {};
  #isOver = false;
  /** What was undelivered when it was counted, and where all stood then. */
  #base: { backlog: bigint; durableLsn: bigint; done: bigint } | null = null;

  constructor({ config, logger, once }: LoaderOptions) {
    this.#config = config;
    this.#logger = logger;
    this.failed = new Promise((resolve) => {
      this.#tellFailed = resolve;
    });
    this.#before = this.#loggedTotals();
    this.#flusher = createFlusher({
      config: flusherConfig(config),
      topics,
      report: (event) => this.#take(event),
    });
    // A run that ends by itself is seen by its result.
    this.#watch = once && config.origins.loaderHttp === 'default' ? null : this.#startWatch();
    this.#flusher.start();
  }

  progress(): LoaderProgress {
    const totals = this.#totals();
    return { ...sumOf(totals), backlog: this.#backlog(totals) };
  }

  async drain(timeoutMs: number): Promise<LoaderResult> {
    const result = await this.#flusher.drain(timeoutMs);
    this.#isOver = true;
    this.#watch?.stop();
    const totals = this.#totals();
    const left = result.left.reduce((sum, { rows }) => sum + rows, 0n);
    const byTopic = [...totals].map(([topic, { inserted, dead }]) => [
      topic,
      { inserted: Number(inserted), deadLettered: Number(dead) },
    ]);
    return {
      ...result,
      complete: result.complete && this.#failure === null,
      failure: this.#failure,
      ...sumOf(totals),
      backlog: Number(left),
      topics: Object.fromEntries(byTopic),
    };
  }

  hurry(timeoutMs: number): void {
    setTimeout(() => void (this.#isOver || this.#flusher.stop()), timeoutMs);
  }

  reload(config: Config): void {
    this.#watch?.reconfigure(config);
  }

  #startWatch(): LoaderWatch {
    return new LoaderWatch(this.#config, realFileSystem, () => this.#flusher.stats(), this.#logger);
  }

  #take(event: FlusherEvent): void {
    this.#watch?.take(event);
    // Counts that others made, or rows that nobody can deliver: the sum is no longer right.
    if (event.kind === 'resumed_from_server' || event.kind === 'damage') this.#base = null;
    if (event.kind === 'failed') {
      this.#failure ??= new RecorderError(event.code, event.message);
      this.#tellFailed();
    }
    // The command itself says what ends it.
    if (event.kind !== 'failed' || event.topic !== null) logFlusherEvent(this.#logger, event);
  }

  #loggedTotals(): Totals {
    const { walDir } = this.#config;
    const log = realFileSystem.exists(walDir) ? readFlushLog(realFileSystem, walDir) : null;
    const horizon = realFileSystem.exists(walDir) ? openHorizon(realFileSystem, walDir) : null;
    // The log of another WAL is set aside by the flusher, which begins anew.
    if (log === null || (log.walId !== null && horizon !== null && log.walId !== horizon.walId))
      return new Map();
    return new Map(
      [...log.progress].map(([topic, { insertedRows, deadRows }]) => [
        topic,
        { inserted: insertedRows, dead: deadRows },
      ]),
    );
  }

  /** Rows of this run by topic. */
  #totals(): Totals {
    const totals: Totals = new Map();
    for (const { topic, insertedRows, deadRows } of this.#flusher.stats().topics) {
      const before = this.#before.get(topic) ?? { inserted: 0n, dead: 0n };
      totals.set(topic, { inserted: insertedRows - before.inserted, dead: deadRows - before.dead });
    }
    return totals;
  }

  /**
   * Counted once from the WAL; from then on what was made durable since is added, and what was delivered
   * since is taken off.
   */
  #backlog(totals: Totals): number | null {
    const { topics: stats, durableLsn } = this.#flusher.stats();
    if (stats.length === 0) return null;
    let done = 0n;
    for (const { inserted, dead } of totals.values()) done += inserted + dead;
    if (this.#base === null) {
      const delivered = new Map(stats.map(({ topic, deliveredLsn }) => [topic, deliveredLsn]));
      let least = durableLsn;
      for (const lsn of delivered.values()) if (lsn < least) least = lsn;
      const fromLsn = (topic: string) => delivered.get(topic) ?? null;
      const counts = countBacklog(realFileSystem, this.#config.walDir, fromLsn, least, durableLsn);
      const backlog = [...counts.values()].reduce((sum, rows) => sum + rows, 0n);
      this.#base = { backlog, durableLsn, done };
    }
    const backlog = this.#base.backlog + (durableLsn - this.#base.durableLsn) - (done - this.#base.done);
    return backlog < 0n ? 0 : Number(backlog);
  }
}

function sumOf(totals: Totals): { inserted: number; deadLettered: number } {
  let [inserted, dead] = [0n, 0n];
  for (const topic of totals.values()) {
    inserted += topic.inserted;
    dead += topic.dead;
  }
  return { inserted: Number(inserted), deadLettered: Number(dead) };
}
