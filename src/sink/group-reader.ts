// Collects a topic's durable rows from the WAL into insert groups.
//
// Invariants: rows come in LSN order, each in exactly one group; what the cursor skips as damaged is reported
// by the cursor. No payload is kept; a reader without an end reads only those that the borders of groups
// depend on, the others are checked when they are encoded.

import type { TopicModel } from '../schema/model.ts';
import {
  type CursorDamage,
  type CursorOptions,
  createCursor,
  type WalBlock,
  type WalCursor,
} from '../wal/cursor.ts';
import type { RecordHeader } from '../wal/format.ts';
import {
  addToGroup,
  type GroupLimits,
  type InsertGroup,
  isUsedUp,
  needsTimes,
  type OpenBlock,
  openForGroups,
  startGroup,
} from './insert-group.ts';

/** Finds the model that a block was written with; throws when its schema cannot be read. */
export type ModelOf = (block: WalBlock) => TopicModel;

export interface GroupReader {
  /**
   * Adds what is durable to the group, or starts one. `closed`: the group takes no more. Null: no row is
   * there.
   */
  fill(group: InsertGroup | null): { group: InsertGroup; closed: boolean } | null;
  /** All rows of the topic below it have been given out. */
  readonly position: bigint;
  close(): void;
}

export interface GroupReaderOptions {
  cursor: Omit<CursorOptions, 'ownPayloads' | 'topic' | 'fromLsn'>;
  topic: string;
  fromLsn: bigint;
  /**
   * First LSN that is not wanted: that of a group which may be at the server, so that all payloads are read,
   * and what is damaged is known before the group is made. Null: no end.
   */
  toLsn: bigint | null;
  limits: GroupLimits;
  modelOf: ModelOf;
}

/**
 * Blocks that are read before the caller gets its turn again, so that timers and answers are not kept
 * waiting.
 */
const BLOCKS_IN_A_ROW = 64;

export function createGroupReader(options: GroupReaderOptions): GroupReader {
  const { topic, fromLsn, toLsn, limits, modelOf } = options;
  const needsPayload = (header: RecordHeader) => toLsn !== null || needsTimes(header);
  // A block that is damaged may belong to several groups: each has lost its own rows.
  const onDamage = (damage: CursorDamage) => {
    let { firstLsn, lastLsn } = damage;
    if (firstLsn < fromLsn) firstLsn = fromLsn;
    if (toLsn !== null && lastLsn >= toLsn) lastLsn = toLsn - 1n;
    if (firstLsn <= lastLsn) options.cursor.onDamage?.({ ...damage, firstLsn, lastLsn });
  };
  const cursor: WalCursor = createCursor({ ...options.cursor, topic, fromLsn, needsPayload, onDamage });
  let open: OpenBlock | null = null;
  let words: Uint32Array = new Uint32Array(0);

  const nextOpen = (): OpenBlock | null => {
    while (open === null || isUsedUp(open)) {
      words = open?.ingestTsWords ?? words;
      open = null;
      if (toLsn !== null && cursor.lsn >= toLsn) return null;
      const block = cursor.next();
      if (block === null) return null;
      open = openForGroups(block, modelOf(block), fromLsn, toLsn, words);
    }
    return open;
  };

  return {
    fill(group) {
      let filled = group;
      for (let count = 0; count < BLOCKS_IN_A_ROW; count++) {
        const block = nextOpen();
        if (block === null) break;
        filled ??= startGroup(block);
        if (!addToGroup(filled, block, limits)) return { group: filled, closed: true };
      }
      return filled === null ? null : { group: filled, closed: false };
    },
    get position() {
      return open === null || isUsedUp(open) ? cursor.lsn : open.block.header.lsn + BigInt(open.nextRow);
    },
    close: () => cursor.close(),
  };
}

/** All rows that a reader with an end gives, `rowCount` at most, as one group; null when there are none. */
export function readWhole(reader: GroupReader, rowCount: number): InsertGroup | null {
  let group: InsertGroup | null = null;
  for (;;) {
    const rowsBefore: number = group?.rowCount ?? 0;
    const filled = reader.fill(group);
    if (filled === null) return group;
    group = filled.group;
    if (filled.closed || group.rowCount >= rowCount || group.rowCount === rowsBefore) return group;
  }
}
