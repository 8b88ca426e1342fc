// Replay: rows of a WAL that a table lacks are sent to it, whatever took them: a dropped partition, a
// restored backup, a new server.
//
// Invariants
// - A row that the table has (recorder, wal_id, wal_lsn) is not sent again.
// - Rows that the flusher has not finished are left to it: were they sent here, it would send them once more.
// - One replay at a time works on a directory (`replay/lock`).
// - A row counts as sent only when the server has been seen to have it.

import { type BlockView, openBlock } from '../../columns/block-codec.ts';
import type { FileSystem } from '../../io/file-system.ts';
import { readTopicModel, type TopicModel } from '../../schema/model.ts';
import { topicByName } from '../../schema/registry.ts';
import type { Capabilities } from '../../sink/capabilities.ts';
import { readTable } from '../../sink/compare-table.ts';
import { tableName } from '../../sink/ddl.ts';
import { readFlushLog } from '../../sink/flush-log.ts';
import { type GroupLimits, partitionBounds } from '../../sink/insert-group.ts';
import type { TablePlan } from '../../sink/table-plan.ts';
import { TopicTable } from '../../sink/topic-table.ts';
import { type CursorDamage, createCursor, type WalBlock } from '../../wal/cursor.ts';
import { openHorizon } from '../../wal/horizon.ts';
import { readableEndLsn } from '../../wal/segment-list.ts';
import { surveySegments } from '../../wal/survey.ts';
import { type RowFilter, type RowRun, selectRows } from './replay-filter.ts';
import {
  missingSlices,
  type ReplayGroup,
  type ReplayServer,
  rowCountOf,
  sendMissing,
} from './replay-group.ts';

export interface ReplayOptions extends ReplayServer {
  fileSystem: FileSystem;
  dir: string;
  database: string;
  capabilities: Capabilities;
  limits: GroupLimits;
  dryRun: boolean;
  onDamage: (damage: CursorDamage) => void;
}

/** What became of the rows that were asked for. */
export interface ReplayCounts {
  selected: number;
  /** The table had them. */
  present: number;
  /** Sent, or with `dryRun` those that would be. */
  sent: number;
  /** Not delivered yet: the flusher's. */
  pending: number;
}

/** Topics of a WAL, by the program's schema where it has one. */
export function topicsOf(fileSystem: FileSystem, dir: string): TopicModel[] {
  const models = new Map<string, TopicModel>();
  for (const { meta } of surveySegments(fileSystem, dir).segments.toReversed()) {
    for (const { topic, bfbs } of meta?.topics ?? []) {
      if (!models.has(topic)) models.set(topic, topicByName(topic) ?? readTopicModel(bfbs));
    }
  }
  return [...models.values()].sort((a, b) => (a.topic < b.topic ? -1 : 1));
}

/**
 * First LSN of a topic that its flusher has not finished; null for a directory that no flusher works on, such
 * as an archive.
 */
export function unfinishedLsn(fileSystem: FileSystem, dir: string, topic: string): bigint | null {
  const horizon = openHorizon(fileSystem, dir);
  const log = readFlushLog(fileSystem, dir);
  if (horizon === null && log === null) return null;
  const isOwn = log !== null && (horizon === null || log.walId === horizon.walId);
  return isOwn ? (log.progress.get(topic)?.nextLsn ?? 0n) : 0n;
}

/** Replays one topic. Throws ReplayError, TableMismatchError, ServerError. */
export async function replayTopic(
  options: ReplayOptions,
  model: TopicModel,
  filter: RowFilter,
): Promise<ReplayCounts> {
  const { fileSystem, dir, signal } = options;
  const endLsn = openHorizon(fileSystem, dir)?.durableLsn() ?? readableEndLsn(fileSystem, dir);
  const replay = new TopicReplay(options, model, unfinishedLsn(fileSystem, dir, model.topic));
  const cursor = createCursor({
    fileSystem,
    dir,
    durableLsn: () => endLsn,
    fromLsn: filter.fromLsn,
    topic: model.topic,
    ownPayloads: true,
    onDamage: options.onDamage,
  });
  try {
    while (!signal.aborted && (filter.endLsn === null || cursor.lsn < filter.endLsn)) {
      const block = cursor.next();
      if (block === null) break;
      await replay.take(block, filter);
    }
    await replay.flush();
  } finally {
    cursor.close();
  }
  return replay.counts;
}

class TopicReplay {
  readonly counts: ReplayCounts = { selected: 0, present: 0, sent: 0, pending: 0 };
  readonly #options: ReplayOptions;
  readonly #model: TopicModel;
  readonly #table: TopicTable;
  readonly #unfinishedLsn: bigint | null;
  #prepared = false;
  #exists: boolean | null = null;
  #group: (ReplayGroup & { model: TopicModel; payloadBytes: number }) | null = null;

  constructor(options: ReplayOptions, model: TopicModel, unfinished: bigint | null) {
    this.#options = options;
    this.#model = model;
    this.#table = new TopicTable(model, options.database);
    this.#unfinishedLsn = unfinished;
  }

  /** Takes the rows of a block that pass, and sends full groups. */
  async take(block: WalBlock, filter: RowFilter): Promise<void> {
    const model = this.#table.modelOf(block);
    const view = openBlock(model, block.payload, block.header.rowCount);
    const { lsn } = block.header;
    for (const run of selectRows(view, lsn, filter)) {
      this.counts.selected += run.toRow - run.fromRow;
      const toRow = this.#finishedEnd(lsn, run);
      this.counts.pending += run.toRow - toRow;
      for (let row = run.fromRow; row < toRow; ) row = await this.#add(block, view, row, toRow);
    }
  }

  /** Sends what is collected. */
  async flush(): Promise<void> {
    const group = this.#group;
    this.#group = null;
    if (group === null) return;
    const rows = rowCountOf(group.slices);
    const sent = this.#options.dryRun
      ? rowCountOf(await missingSlices(this.#options.client, await this.#planToLook(), group))
      : await sendMissing(this.#options, await this.#planToSend(group.model), group);
    this.counts.sent += sent;
    this.counts.present += rows - sent;
  }

  #finishedEnd(lsn: bigint, { fromRow, toRow }: RowRun): number {
    if (this.#unfinishedLsn === null) return toRow;
    return Math.max(fromRow, Math.min(toRow, Number(this.#unfinishedLsn - lsn)));
  }

  /** Adds rows of a block to the group, up to a border of groups; returns the row after them. */
  async #add(block: WalBlock, view: BlockView, row: number, toRow: number): Promise<number> {
    const { limits } = this.#options;
    const timeNs = ingestTsAt(view, row);
    let group = this.#group;
    const fits =
      group !== null &&
      group.model === view.model &&
      group.recorder === block.meta.recorder &&
      group.walId === block.walId &&
      timeNs >= group.partitionStartNs &&
      timeNs < group.partitionEndNs &&
      rowCountOf(group.slices) < limits.rows &&
      group.payloadBytes < limits.bytes;
    if (!fits || group === null) {
      await this.flush();
      const { start, end } = partitionBounds(timeNs, view.model.partitionBy);
      group = {
        topic: view.model.topic,
        model: view.model,
        recorder: block.meta.recorder,
        walId: block.walId,
        partitionStartNs: start,
        partitionEndNs: end,
        slices: [],
        payloadBytes: 0,
      };
      this.#group = group;
    }
    const most = Math.min(toRow, row + limits.rows - rowCountOf(group.slices));
    let next = row + 1;
    while (next < most && isWithin(ingestTsAt(view, next), group)) next++;
    group.slices.push({ view, lsn: block.header.lsn, fromRow: row, toRow: next });
    group.payloadBytes += block.payload.length;
    return next;
  }

  async #planToSend(model: TopicModel): Promise<TablePlan> {
    if (!this.#prepared) await this.#table.prepare(this.#options.client, this.#options.capabilities);
    this.#prepared = true;
    return this.#table.planOf(model);
  }

  /** Nothing is made and nothing checked: null where there is no table. */
  async #planToLook(): Promise<Pick<TablePlan, 'table' | 'ingestBetween'> | null> {
    const { client, database } = this.#options;
    this.#exists ??= (await readTable(client, database, this.#model.table)).length > 0;
    if (!this.#exists) return null;
    return { table: tableName(this.#model, database), ingestBetween: () => '1' };
  }
}

function isWithin(timeNs: bigint, { partitionStartNs, partitionEndNs }: ReplayGroup): boolean {
  return timeNs >= partitionStartNs && timeNs < partitionEndNs;
}

function ingestTsAt(view: BlockView, row: number): bigint {
  const words = view.ingestTsWords;
  return BigInt.asIntN(64, (BigInt(words[row * 2 + 1]!) << 32n) | BigInt(words[row * 2]!));
}
