// Delivers one topic, one group after another. Topics are independent: a slow or blocked one holds no other
// up.
//
// Life cycle of `run`: make and check the table (again and again while it does not fit) → finish the group
// that a crash left open → collect, log, deliver, until drained or stopped.

import { RecorderError } from '../errors.ts';
import type { FileSystem } from '../io/file-system.ts';
import type { TopicModel } from '../schema/model.ts';
import type { CursorOptions } from '../wal/cursor.ts';
import type { Capabilities } from './capabilities.ts';
import type { SinkClient } from './clickhouse-client.ts';
import { type DeliveryContext, deliverGroup } from './delivery.ts';
import type { FlushLog } from './flush-log.ts';
import type { OpenGroup } from './flush-log-format.ts';
import type { FlusherConfig, FlusherEvent, TopicState, TopicStats } from './flusher-types.ts';
import { type BodyBuffers, groupBody } from './group-body.ts';
import { GroupCollector } from './group-collector.ts';
import { createGroupReader, type GroupReader, readWhole } from './group-reader.ts';
import type { HorizonWatch } from './horizon-watch.ts';
import { type InsertGroup, insertedEvent, openGroupOf } from './insert-group.ts';
import { expectNoneRuns, locateFrom } from './locate-group.ts';
import type { ServerError } from './server-error.ts';
import type { ServerWatch } from './server-watch.ts';
import { TopicAttempts } from './topic-attempts.ts';
import { TopicTable } from './topic-table.ts';

export interface TopicFlusherOptions {
  model: TopicModel;
  config: FlusherConfig;
  client: SinkClient;
  /** Resolves once a server has answered; null when the flusher stops first. */
  capabilities: () => Promise<Capabilities | null>;
  log: FlushLog;
  fileSystem: FileSystem;
  cursor: Omit<CursorOptions, 'ownPayloads' | 'topic' | 'fromLsn'>;
  watch: HorizonWatch;
  /** Shared by all topics. */
  buffers: BodyBuffers;
  servers: ServerWatch;
  signal: AbortSignal;
  random: () => number;
  report: (event: FlusherEvent) => void;
}

export class TopicFlusher {
  readonly #options: TopicFlusherOptions;
  readonly #table: TopicTable;
  #collector: GroupCollector | null = null;
  #draining = false;
  /** A group is on its way. */
  #isDelivering = false;
  #state: TopicState = 'starting';
  readonly #attempts: TopicAttempts;

  constructor(options: TopicFlusherOptions) {
    this.#options = options;
    this.#attempts = new TopicAttempts({ ...options, topic: options.model.topic });
    this.#table = new TopicTable(options.model, options.config.database);
  }

  /** Delivers until drained or stopped. Never rejects: what ends it for good is reported as `failed`. */
  async run(): Promise<void> {
    const { model, report } = this.#options;
    try {
      await this.#deliverAll();
      this.#state = 'stopped';
    } catch (error) {
      this.#state = 'failed';
      const message = error instanceof Error ? error.message : String(error);
      this.#attempts.lastError = message;
      const code = error instanceof RecorderError ? error.code : 'internal';
      report({ kind: 'failed', topic: model.topic, code, message });
    } finally {
      this.#collector?.close();
    }
  }

  /** From now on groups are closed at once, and `run` ends when nothing durable is left. */
  drain(): void {
    this.#draining = true;
    this.#options.watch.nudge();
  }

  stats(): TopicStats {
    const { model, log } = this.#options;
    const { insertedRows, insertedGroups, deadRows, deadGroups, nextLsn } = log.progressOf(model.topic);
    const position = this.#isIdle ? this.#collector!.position : 0n;
    return {
      topic: model.topic,
      table: model.table,
      state: this.#shownState,
      insertedRows,
      insertedGroups,
      deadRows,
      deadGroups,
      retries: this.#attempts.failures,
      deliveredLsn: position > nextLsn ? position : nextLsn,
      lastError: this.#attempts.lastError,
    };
  }

  /** Everything that was read is delivered. */
  get #isIdle(): boolean {
    return this.#state === 'idle' && !this.#isDelivering && this.#collector?.hasRows === false;
  }

  get #shownState(): TopicState {
    return this.#state === 'idle' && this.#collector?.hasRows === true ? 'collecting' : this.#state;
  }

  async #deliverAll(): Promise<void> {
    const { model, log, signal, watch } = this.#options;
    if (!(await this.#prepareTable())) return;
    const { open, nextLsn, suspect } = log.progressOf(model.topic);
    if (open !== null && !(await this.#finish(open))) return;
    this.#collectFrom(log.progressOf(model.topic).nextLsn);
    let next = this.#collector!.next();
    let needsServersWord = suspect || (open === null && nextLsn === 0n);
    while (!signal.aborted) {
      const group = await next;
      if (group === null) break;
      const skipped = needsServersWord ? await this.#skipDelivered(group) : false;
      if (skipped === null) return;
      needsServersWord = false;
      if (skipped) {
        next = this.#collector!.next();
        continue;
      }
      this.#isDelivering = true;
      const logged = openGroupOf(group, this.#options.config.format);
      await log.open(logged, signal);
      next = this.#collector!.next();
      // It is awaited when this group is delivered; what it throws meanwhile is not forgotten.
      next.catch(() => undefined);
      if (!(await this.#deliverNew(group, logged))) return;
      this.#isDelivering = false;
      this.#state = 'idle';
      // The next group may have been old enough for long.
      watch.nudge();
    }
    if (this.#isIdle && this.#collector!.position > log.progressOf(model.topic).nextLsn) {
      log.skipTo(model.topic, this.#collector!.position);
    }
  }

  #collectFrom(lsn: bigint): void {
    const { config, watch, signal } = this.#options;
    this.#collector?.close();
    this.#collector = new GroupCollector({
      reader: this.#readerFrom(lsn),
      watch,
      flushIntervalMs: config.flushIntervalMs,
      signal,
      isFree: () => !this.#isDelivering,
      isDraining: () => this.#draining,
    });
    this.#state = 'idle';
  }

  /** Makes and checks the table, as long as it takes. False when stopped first. */
  async #prepareTable(): Promise<boolean> {
    const { model, client, report } = this.#options;
    const capabilities = await this.#options.capabilities();
    if (capabilities === null) return false;
    let isBlocked = false;
    const prepared = await this.#attempts.ask(
      () => this.#table.prepare(client, capabilities).then(() => true),
      (_, isUnavailable) => {
        this.#state = isUnavailable ? 'retrying' : 'blocked';
      },
      (error) => {
        if (isBlocked) return;
        isBlocked = true;
        const message = error.hint === undefined ? error.message : `${error.message} (${error.hint})`;
        report({ kind: 'blocked', topic: model.topic, code: error.code, message });
      },
    );
    return prepared !== null;
  }

  #readerFrom(fromLsn: bigint, toLsn: bigint | null = null): GroupReader {
    const { model, config, cursor } = this.#options;
    // The rows of a group that is sent again are all wanted, whatever the limits are now.
    const limits =
      toLsn === null
        ? { rows: config.flushRows, bytes: config.flushBytes }
        : { rows: Number.MAX_SAFE_INTEGER, bytes: Number.MAX_SAFE_INTEGER, slices: Number.MAX_SAFE_INTEGER };
    return createGroupReader({
      cursor,
      topic: model.topic,
      fromLsn,
      toLsn,
      limits,
      modelOf: this.#table.modelOf,
    });
  }

  /** Delivers and logs the outcome. False when stopped first. `isPart`: see GroupToDeliver. */
  async #deliver(
    group: InsertGroup,
    logged: OpenGroup,
    uncertain: boolean,
    isPart = false,
  ): Promise<boolean> {
    const { config, client, fileSystem, signal, random, report, log, buffers } = this.#options;
    this.#state = 'inserting';
    const startedMs = performance.now();
    const plan = this.#table.planOf(group.model);
    const source = { fileSystem, dir: config.walDir, buffers };
    const { wait } = this.#attempts;
    const onFailure = (error: ServerError) => {
      this.#attempts.failed(error);
      this.#onRetry();
    };
    const body: DeliveryContext['body'] = (part, slices, format) =>
      groupBody(source, part, slices, plan.encoder(format));
    const outcome = await deliverGroup(
      { client, plan, config, fileSystem, body, signal, random, report, wait, onFailure },
      { group, format: logged.format, token: logged.token, uncertain, isPart },
    );
    if (outcome === 'stopped') return false;
    if (outcome === 'inserted') this.#attempts.succeeded();
    log.close(logged, outcome);
    if (outcome === 'inserted') report(insertedEvent(group, (performance.now() - startedMs) / 1000));
    log.compact();
    return true;
  }

  /** Delivers a group that has just been read. False when stopped first. */
  async #deliverNew(group: InsertGroup, logged: OpenGroup): Promise<boolean> {
    try {
      return await this.#deliver(group, logged, false);
    } catch (error) {
      if (!(error instanceof RecorderError) || error.code !== 'group_changed') throw error;
      // A block has been damaged since: the rest of the group is found as after a restart.
      return await this.#finish(logged);
    }
  }

  /**
   * Sends a group of which nobody knows whether the server has it: one that was open when the last run ended.
   * Rows of it that can no longer be read have been reported by the cursor; the others are sent unless the
   * server has them. False when stopped first.
   */
  async #finish(open: OpenGroup): Promise<boolean> {
    const { watch, signal, log } = this.#options;
    // After a power loss the horizon may be older than the flush log, until the recorder has recovered.
    if (!(await watch.passed(open.lastLsn, () => signal.aborted || this.#draining))) return false;
    const reader = this.#readerFrom(open.firstLsn, open.lastLsn + 1n);
    try {
      const group = readWhole(reader, open.rowCount);
      if (group?.contentHash === open.contentHash && group.rowCount === open.rowCount) {
        return await this.#deliver(group, open, true);
      }
      if (!(await this.#noneRuns(open))) return false;
      if (group !== null) {
        const logged = { ...openGroupOf(group, open.format), lastLsn: open.lastLsn };
        return await this.#deliver(group, logged, true, true);
      }
      log.close({ ...open, rowCount: 0 }, 'inserted');
      return true;
    } finally {
      reader.close();
    }
  }

  readonly #onRetry = () => {
    this.#state = 'retrying';
  };

  /** Waits until no earlier attempt at the group runs; false when stopped first. */
  async #noneRuns(open: OpenGroup): Promise<boolean> {
    const { client, log } = this.#options;
    const place = { ...open, walId: log.walId };
    return (await this.#attempts.ask(() => expectNoneRuns(client, place), this.#onRetry)) !== null;
  }

  /**
   * Without a reliable flush log the server has the last word on where to go on: groups are delivered in
   * order, so everything up to the greatest LSN there is delivered. True when the group must be collected
   * anew, null when stopped first.
   */
  async #skipDelivered(group: InsertGroup): Promise<boolean | null> {
    const { model, client, log, report } = this.#options;
    const found = await this.#attempts.ask(
      () => locateFrom(client, this.#table.planOf(model), group),
      this.#onRetry,
    );
    if (found === null) return null;
    if (found.rows === 0) return false;
    const nextLsn = found.lastLsn + 1n;
    log.skipTo(model.topic, nextLsn);
    this.#collectFrom(nextLsn);
    report({ kind: 'resumed_from_server', topic: model.topic, nextLsn, rows: found.rows });
    return true;
  }
}
