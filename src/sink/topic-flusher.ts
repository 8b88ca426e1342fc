// Delivers one topic, one group after another. Topics are independent: a slow or blocked one holds no other
// up.
//
// Life cycle of `run`: make and check the table (again and again while it does not fit) → finish the group
// that a crash left open → collect, log, deliver, until drained or stopped.

import { RecorderError } from '../errors.ts';
import type { FileSystem } from '../io/file-system.ts';
import type { TopicModel } from '../schema/model.ts';
import type { CursorOptions } from '../wal/cursor.ts';
import { createByteSink } from './byte-sink.ts';
import type { Capabilities } from './capabilities.ts';
import type { SinkClient } from './clickhouse-client.ts';
import { deliverGroup } from './delivery.ts';
import type { FlushLog } from './flush-log.ts';
import type { OpenGroup } from './flush-log-format.ts';
import type { FlusherConfig, FlusherEvent, TopicState, TopicStats } from './flusher-types.ts';
import { createGroupReader, type GroupReader } from './group-reader.ts';
import { deduplicationToken, type InsertGroup, insertedEvent } from './insert-group.ts';
import { locateFrom } from './locate-group.ts';
import { pause, type RetryOptions, untilDone } from './retry.ts';
import { ServerError } from './server-error.ts';
import { TopicTable } from './topic-table.ts';

/** How often the WAL is looked at for new rows. */
const POLL_INTERVAL_MS = 20;

export interface TopicFlusherOptions {
  model: TopicModel;
  config: FlusherConfig;
  client: SinkClient;
  /** Resolves once a server has answered; null when the flusher stops first. */
  capabilities: () => Promise<Capabilities | null>;
  log: FlushLog;
  fileSystem: FileSystem;
  cursor: Omit<CursorOptions, 'ownPayloads' | 'topic' | 'fromLsn'>;
  signal: AbortSignal;
  random: () => number;
  report: (event: FlusherEvent) => void;
}

export class TopicFlusher {
  readonly #options: TopicFlusherOptions;
  readonly #sink = createByteSink();
  readonly #table: TopicTable;
  #reader: GroupReader | null = null;
  #draining = false;
  #state: TopicState = 'starting';
  #retries = 0;
  #lastError: string | null = null;

  constructor(options: TopicFlusherOptions) {
    this.#options = options;
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
      this.#lastError = error instanceof Error ? error.message : String(error);
      const code = error instanceof RecorderError ? error.code : 'internal';
      report({ kind: 'failed', topic: model.topic, code, message: this.#lastError });
    } finally {
      this.#reader?.close();
    }
  }

  /** From now on groups are closed at once, and `run` ends when nothing durable is left. */
  drain(): void {
    this.#draining = true;
  }

  stats(): TopicStats {
    const { model, log } = this.#options;
    const { insertedRows, insertedGroups, deadRows, deadGroups, nextLsn } = log.progressOf(model.topic);
    const idle = this.#state === 'idle' && this.#reader !== null;
    return {
      topic: model.topic,
      table: model.table,
      state: this.#state,
      insertedRows,
      insertedGroups,
      deadRows,
      deadGroups,
      retries: this.#retries,
      deliveredLsn: idle && this.#reader!.position > nextLsn ? this.#reader!.position : nextLsn,
      lastError: this.#lastError,
    };
  }

  async #deliverAll(): Promise<void> {
    const { model, log, signal } = this.#options;
    if (!(await this.#prepareTable())) return;
    const { open, nextLsn, suspect } = log.progressOf(model.topic);
    if (open !== null && !(await this.#finish(open))) return;
    this.#reader = this.#readerFrom(log.progressOf(model.topic).nextLsn);
    let needsServersWord = suspect || (open === null && nextLsn === 0n);
    while (!signal.aborted) {
      const group = await this.#collect();
      if (group === null) break;
      if (needsServersWord) {
        needsServersWord = false;
        if (await this.#skipDelivered(group)) continue;
      }
      const logged = this.#logged(group);
      await log.open(logged, signal);
      if (!(await this.#deliver(group, logged, false))) return;
    }
    if (this.#state === 'idle' && this.#reader.position > log.progressOf(model.topic).nextLsn) {
      log.skipTo(model.topic, this.#reader.position);
    }
  }

  /** Makes and checks the table, as long as it takes. False when stopped first. */
  async #prepareTable(): Promise<boolean> {
    const { model, client, report } = this.#options;
    const capabilities = await this.#options.capabilities();
    if (capabilities === null) return false;
    let failed = false;
    const prepared = await untilDone(
      () => this.#table.prepare(client, capabilities).then(() => true),
      this.#retryOptions((error, attempt, waitMs) => {
        const isUnavailable = error instanceof ServerError && error.outcome !== 'refused';
        if (isUnavailable) this.#reportRetry(error, attempt, waitMs);
        else if (!failed) {
          const message = error.hint === undefined ? error.message : `${error.message} (${error.hint})`;
          report({ kind: 'blocked', topic: model.topic, code: error.code, message });
        }
        this.#failed(error, isUnavailable ? 'retrying' : 'blocked');
        this.#askElsewhere(error);
        failed = true;
      }),
    );
    if (failed && prepared !== null) this.#recovered();
    return prepared !== null;
  }

  #retryOptions(onFailure: RetryOptions['onFailure']): RetryOptions {
    const { config, signal, random } = this.#options;
    return { retryBaseMs: config.retryBaseMs, retryMaxMs: config.retryMaxMs, signal, random, onFailure };
  }

  #reportRetry(error: RecorderError, attempt: number, waitMs: number): void {
    const { model, report } = this.#options;
    const outcome = error instanceof ServerError ? error.outcome : 'refused';
    report({ kind: 'retry', topic: model.topic, outcome, attempt, message: error.message, waitMs });
  }

  #readerFrom(fromLsn: bigint, toLsn: bigint | null = null): GroupReader {
    const { model, config, cursor } = this.#options;
    // The rows of a group that is sent again are all wanted, whatever the limits are now.
    const limits =
      toLsn === null
        ? { rows: config.flushRows, bytes: config.flushBytes }
        : { rows: Number.MAX_SAFE_INTEGER, bytes: Number.MAX_SAFE_INTEGER };
    return createGroupReader({
      cursor,
      topic: model.topic,
      fromLsn,
      toLsn,
      limits,
      modelOf: this.#table.modelOf,
    });
  }

  /**
   * The next group: full, or old enough, or whatever there is while draining. Null when stopped or drained.
   */
  async #collect(): Promise<InsertGroup | null> {
    const { config, signal } = this.#options;
    let group: InsertGroup | null = null;
    let startedAtMs = 0;
    while (!signal.aborted) {
      const before: number = group?.rowCount ?? 0;
      const filled = this.#reader!.fill(group);
      if (filled !== null) {
        if (group === null) startedAtMs = performance.now();
        group = filled.group;
        if (filled.closed) return group;
        this.#state = 'collecting';
        if (group.rowCount > before) {
          await pause(0, signal);
          continue;
        }
      } else this.#state = 'idle';
      const ageMs = performance.now() - startedAtMs;
      if (this.#draining || (group !== null && ageMs >= config.flushIntervalMs)) return group;
      await pause(POLL_INTERVAL_MS, signal);
    }
    return null;
  }

  #logged(group: InsertGroup): OpenGroup {
    const { topic, firstLsn, lastLsn, rowCount, contentHash } = group;
    const token = deduplicationToken(group);
    return { topic, firstLsn, lastLsn, rowCount, contentHash, token, format: this.#options.config.format };
  }

  /** Delivers and logs the outcome. False when stopped first. */
  async #deliver(group: InsertGroup, logged: OpenGroup, uncertain: boolean): Promise<boolean> {
    const { config, client, fileSystem, signal, random, report, log } = this.#options;
    this.#state = 'inserting';
    const startedMs = performance.now();
    const onFailure = (error: ServerError) => this.#failed(error, 'retrying');
    const outcome = await deliverGroup(
      {
        client,
        plan: this.#table.planOf(group.model),
        config,
        fileSystem,
        sink: this.#sink,
        signal,
        random,
        report,
        onFailure,
      },
      { group, format: logged.format, token: logged.token, uncertain },
    );
    if (outcome === 'stopped') return false;
    if (outcome === 'inserted' && this.#lastError !== null) this.#recovered();
    log.close(logged, outcome);
    if (outcome === 'inserted') report(insertedEvent(group, (performance.now() - startedMs) / 1000));
    log.compact();
    return true;
  }

  /** Sends the group that was open when the last run ended. False when stopped first. */
  async #finish(open: OpenGroup): Promise<boolean> {
    const reader = this.#readerFrom(open.firstLsn, open.lastLsn + 1n);
    try {
      let group: InsertGroup | null = null;
      for (;;) {
        const before: number = group?.rowCount ?? 0;
        const filled = reader.fill(group);
        if (filled === null || (filled.group.rowCount === before && !filled.closed)) break;
        group = filled.group;
        if (filled.closed || group.rowCount >= open.rowCount) break;
      }
      if (group === null || group.contentHash !== open.contentHash || group.rowCount !== open.rowCount) {
        throw new RecorderError(
          'group_changed',
          `${open.topic}: rows ${open.firstLsn} to ${open.lastLsn} were being sent and now read otherwise`,
          { hint: 'run `recorder wal verify`; the rows may be in ClickHouse already' },
        );
      }
      return await this.#deliver(group, open, true);
    } finally {
      reader.close();
    }
  }

  /**
   * Without a reliable flush log the server has the last word on where to go on: groups are delivered in
   * order, so everything up to the greatest LSN there is delivered. True when the group must be collected
   * anew.
   */
  async #skipDelivered(group: InsertGroup): Promise<boolean> {
    const { model, client, log, report } = this.#options;
    const found = await untilDone(
      () => locateFrom(client, this.#table.planOf(model), group),
      this.#retryOptions((error, attempt, waitMs) => {
        this.#failed(error, 'retrying');
        this.#askElsewhere(error);
        this.#reportRetry(error, attempt, waitMs);
      }),
    );
    if (found === null) return true;
    if (found.rows === 0) return false;
    const nextLsn = found.lastLsn + 1n;
    log.skipTo(model.topic, nextLsn);
    this.#reader!.close();
    this.#reader = this.#readerFrom(nextLsn);
    report({ kind: 'resumed_from_server', topic: model.topic, nextLsn, rows: found.rows });
    return true;
  }

  #failed(error: RecorderError, state: TopicState): void {
    this.#retries += 1;
    this.#lastError = error.message;
    this.#state = state;
  }

  /** A failed question changes nothing on any server: the next one may be asked. */
  #askElsewhere(error: RecorderError): void {
    if (error instanceof ServerError && error.clickhouseCode === null) this.#options.client.nextServer();
  }

  #recovered(): void {
    this.#lastError = null;
    this.#options.report({ kind: 'recovered', topic: this.#options.model.topic });
  }
}
