// The flusher: tails the WAL and delivers every durable row to ClickHouse exactly once.
//
// Purpose: the only way from the WAL to ClickHouse, for `serve` (in a Worker), for `load`, and after a crash.
//
// Invariants
// - Only durable rows are read; nothing in the WAL is changed.
// - A group's boundaries are in the flush log, synced, before it is sent; every attempt has the same
//   boundaries and the same deduplication token.
// - At most one group of a topic is in flight; topics do not wait for each other.
// - One flusher at a time works on a WAL directory (`flusher/lock`).
//
// Life cycle: createFlusher → start → drain (deliver what is durable, within a deadline) or stop (at once).

import { describeError, RecorderError } from '../errors.ts';
import type { FileSystem } from '../io/file-system.ts';
import { realFileSystem } from '../io/real-file-system.ts';
import type { TopicModel } from '../schema/model.ts';
import type { CursorDamage } from '../wal/cursor.ts';
import { type Horizon, openHorizon } from '../wal/horizon.ts';
import type { WalLock } from '../wal/lock.ts';
import { ReadBuffer } from '../wal/segment-file.ts';
import { leftOf, undeliveredRows } from './backlog.ts';
import { type Capabilities, probeCapabilities } from './capabilities.ts';
import { connectClickHouse, type SinkClient } from './clickhouse-client.ts';
import { type FlushLog, isDiskFull, openFlushLog } from './flush-log.ts';
import { lockFlusher, lockFlusherWhenFree } from './flusher-lock.ts';
import type { DrainResult, FlusherConfig, FlusherEvent, FlusherStats } from './flusher-types.ts';
import { createBodyBuffers } from './group-body.ts';
import { HorizonWatch } from './horizon-watch.ts';
import { retiredTopics } from './retired-topics.ts';
import { pause, untilDone } from './retry.ts';
import { ServerError } from './server-error.ts';
import { ServerWatch } from './server-watch.ts';
import { TopicFlusher } from './topic-flusher.ts';

const HORIZON_POLL_MS = 50;
const NO_ROOM_PAUSE_MS = 200;

export interface FlusherOptions {
  config: FlusherConfig;
  /** Topics whose tables are made and that are delivered. */
  topics: readonly TopicModel[];
  report: (event: FlusherEvent) => void;
  /** While another flusher delivers this WAL: wait for its end, or fail (default). */
  whenLocked?: 'wait' | 'fail';
  fileSystem?: FileSystem;
  /** Makes a client; called once for each topic, so that topics choose their servers alone. */
  connect?: () => SinkClient;
  random?: () => number;
  /** Says whether `wake` must be called when rows become durable; absent where nobody will. */
  sleep?: (asleep: boolean) => void;
}

export interface Flusher {
  /** Starts to deliver; returns at once. Problems are reported, never thrown. */
  start(): void;
  stats(): FlusherStats;
  /** Rows have become durable. */
  wake(): void;
  /** Delivers all that is durable now, then stops; gives up at the deadline and says what is left. */
  drain(timeoutMs: number): Promise<DrainResult>;
  /** Stops at once; a group in flight is finished after the next start. */
  stop(): Promise<void>;
}

export function createFlusher(options: FlusherOptions): Flusher {
  return new WalFlusher(options);
}

class WalFlusher implements Flusher {
  readonly #options: FlusherOptions;
  readonly #fileSystem: FileSystem;
  readonly #random: () => number;
  readonly #abort = new AbortController();
  readonly #clients: SinkClient[] = [];
  readonly #servers: ServerWatch;
  #horizon: Horizon | null = null;
  #watch: HorizonWatch | null = null;
  #flushers: TopicFlusher[] = [];
  #draining = false;
  /** While draining: what becomes durable from here on is left for the next start. */
  #endLsn: bigint | null = null;
  #running: Promise<void> = Promise.resolve();
  #connection: Promise<Capabilities | null> | null = null;
  /** Why it, or a topic's part of it, has ended for good. */
  #failure: string | null = null;

  constructor(options: FlusherOptions) {
    this.#options = options;
    this.#fileSystem = options.fileSystem ?? realFileSystem;
    this.#random = options.random ?? Math.random;
    this.#servers = new ServerWatch(options.report);
    this.#abort.signal.addEventListener('abort', () => this.#servers.end());
  }

  start(): void {
    this.#running = this.#run();
  }

  stats(): FlusherStats {
    return {
      topics: this.#flushers.map((flusher) => flusher.stats()),
      durableLsn: this.#horizon?.durableLsn() ?? 0n,
    };
  }

  wake(): void {
    this.#watch?.wake();
  }

  async drain(timeoutMs: number): Promise<DrainResult> {
    this.#draining = true;
    this.#endLsn = this.#horizon?.durableLsn() ?? null;
    for (const flusher of this.#flushers) flusher.drain();
    // Nothing to deliver: a server that does not answer need not be waited for.
    if (this.#flushers.length > 0 && this.#rowsLeft().complete) this.#abort.abort();
    const timer = setTimeout(() => this.#abort.abort(), timeoutMs);
    await this.#running;
    clearTimeout(timer);
    return this.#rowsLeft();
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { config } = this.#options;
    let lock: WalLock | null = null;
    let log: FlushLog | null = null;
    try {
      this.#horizon = await this.#waitForHorizon();
      if (this.#horizon === null) return;
      const { walId } = this.#horizon;
      lock = await this.#whenRoom(() => this.#lock());
      if (lock === null) return;
      log = await this.#whenRoom(() => openFlushLog(this.#fileSystem, config.walDir, walId));
      if (log === null) return;
      this.#flushers = this.#makeFlushers(log);
      if (this.#draining) this.#endLsn ??= this.#horizon.durableLsn();
      if (this.#draining) for (const flusher of this.#flushers) flusher.drain();
      await Promise.all(this.#flushers.map((flusher) => flusher.run()));
      await log.end();
    } catch (error) {
      const code = error instanceof RecorderError ? error.code : 'internal';
      this.#report({ kind: 'failed', topic: null, code, message: describeError(error) });
    } finally {
      lock?.release();
      await Promise.all(this.#clients.map((client) => client.close()));
    }
  }

  /** Repeats what needs space on the disk until there is some; null when stopped first. */
  async #whenRoom<T>(action: () => T | Promise<T>): Promise<T | null> {
    const { report } = this.#options;
    const { signal } = this.#abort;
    for (let isWaiting = false; !signal.aborted; ) {
      try {
        const done = await action();
        if (isWaiting) report({ kind: 'recovered', topic: null });
        return done;
      } catch (error) {
        if (!isDiskFull(error)) throw error;
        if (!isWaiting) report({ kind: 'no_room', message: describeError(error) });
        isWaiting = true;
        await pause(NO_ROOM_PAUSE_MS, signal);
      }
    }
    return null;
  }

  async #lock(): Promise<WalLock | null> {
    const { config, report, whenLocked } = this.#options;
    if (whenLocked !== 'wait') return lockFlusher(this.#fileSystem, config.walDir);
    const onWait = (error: RecorderError) => report({ kind: 'waiting', message: error.message });
    const isOver = () => this.#draining;
    return await lockFlusherWhenFree(this.#fileSystem, config.walDir, this.#abort.signal, isOver, onWait);
  }

  /** First LSN that is not delivered for now. */
  #readableLsn(): bigint {
    return this.#endLsn ?? this.#horizon?.durableLsn() ?? 0n;
  }

  #makeFlushers(log: FlushLog): TopicFlusher[] {
    const { config, report } = this.#options;
    const durableLsn = () => this.#readableLsn();
    const known = this.#options.topics;
    const topics = [...known, ...retiredTopics(this.#fileSystem, config.walDir, known, log, durableLsn())];
    const onDamage = (damage: CursorDamage) => {
      const { topic, segment, firstLsn, lastLsn, reason } = damage;
      report({ kind: 'damage', topic, segment, firstLsn, lastLsn, reason });
    };
    const buffer = new ReadBuffer();
    const cursor = { fileSystem: this.#fileSystem, dir: config.walDir, durableLsn, onDamage, buffer };
    const buffers = createBodyBuffers();
    const watch = this.#startWatch(durableLsn);
    const probing = this.#connect();
    const capabilities = () => {
      this.#connection ??= this.#probe(probing);
      return this.#connection;
    };
    return topics.map(
      (model) =>
        new TopicFlusher({
          model,
          config,
          capabilities,
          log,
          cursor,
          watch,
          buffers,
          report: this.#report,
          servers: this.#servers,
          client: this.#connect(),
          fileSystem: this.#fileSystem,
          signal: this.#abort.signal,
          random: this.#random,
        }),
    );
  }

  #startWatch(durableLsn: () => bigint): HorizonWatch {
    const watch = new HorizonWatch({ durableLsn, sleep: this.#options.sleep });
    this.#abort.signal.addEventListener('abort', () => watch.nudge());
    this.#watch = watch;
    return watch;
  }

  #connect(): SinkClient {
    const { connect, config } = this.#options;
    const client = connect === undefined ? connectClickHouse(config.clickhouse) : connect();
    this.#clients.push(client);
    return this.#servers.watched(client);
  }

  /** The WAL may be made after the flusher starts. */
  async #waitForHorizon(): Promise<Horizon | null> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      const found = openHorizon(this.#fileSystem, this.#options.config.walDir);
      if (found !== null || this.#draining) return found;
      await pause(HORIZON_POLL_MS, signal);
    }
    return null;
  }

  async #probe(client: SinkClient): Promise<Capabilities | null> {
    const { config, report } = this.#options;
    const capabilities = await untilDone(() => probeCapabilities(client), {
      retryBaseMs: config.retryBaseMs,
      retryMaxMs: config.retryMaxMs,
      signal: this.#abort.signal,
      random: this.#random,
      wait: (ms) => this.#servers.pause(client, ms, this.#abort.signal),
      onFailure: (error, attempt, waitMs) => {
        client.nextServer();
        const outcome = error instanceof ServerError ? error.outcome : 'refused';
        report({ kind: 'retry', topic: null, outcome, attempt, message: error.message, waitMs });
      },
    });
    if (capabilities !== null) {
      const { version, deduplicationTokens } = capabilities;
      report({ kind: 'connected', url: client.url, version, deduplicationTokens });
    }
    return capabilities;
  }

  readonly #report = (event: FlusherEvent): void => {
    if (event.kind === 'failed') this.#failure ??= event.message;
    this.#options.report(event);
  };

  #rowsLeft(): DrainResult {
    const failure = this.#failure === null ? {} : { failure: this.#failure };
    if (this.#horizon === null) return { complete: true, left: [], ...failure };
    const { config, topics } = this.#options;
    const left =
      this.#flushers.length === 0
        ? undeliveredRows(this.#fileSystem, config.walDir, topics)
        : leftOf(this.#fileSystem, config.walDir, this.#delivered(), this.#readableLsn());
    const isKnown = this.#flushers.length >= topics.length || left.length === 0;
    return { complete: left.length === 0 && isKnown && this.#failure === null, left, ...failure };
  }

  #delivered(): Map<string, bigint> {
    return new Map(this.stats().topics.map((stats) => [stats.topic, stats.deliveredLsn]));
  }
}
