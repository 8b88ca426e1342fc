// Insert groups: which rows travel in one insert. Planning only, no IO.
//
// A group is consecutive rows of one topic, with one schema, one recorder and one ingest_ts partition: it is
// one block and one part at the server, stored whole or not at all. It is closed by rows, by bytes, or by its
// caller's clock. Boundaries are rows, not blocks: a block that spans midnight is cut there.

import { type BlockView, openBlock } from '../columns/block-codec.ts';
import type { TopicModel } from '../schema/model.ts';
import type { WalBlock } from '../wal/cursor.ts';
import type { BlockSlice } from './group-encoder.ts';

export interface GroupLimits {
  rows: number;
  /** Payload bytes of the blocks. */
  bytes: number;
}

/** Rows of a topic that go to the server in one insert. */
export interface InsertGroup {
  topic: string;
  model: TopicModel;
  recorder: string;
  walId: bigint;
  firstLsn: bigint;
  /** Included. LSNs between the two that other topics have are not the group's. */
  lastLsn: bigint;
  rowCount: number;
  payloadBytes: number;
  /** First ns of the partition that all rows lie in, and of the one after it. */
  partitionStartNs: bigint;
  partitionEndNs: bigint;
  slices: BlockSlice[];
  /** XXH3-64 over place, row count and payload checksum of every slice: same WAL content, same hash. */
  contentHash: bigint;
}

const NS_PER_SECOND = 1_000_000_000n;

/** Bounds in ns since 1970 of the UTC day or month that holds a time. */
export function partitionBounds(
  timeNs: bigint,
  partitionBy: 'day' | 'month',
): { start: bigint; end: bigint } {
  const date = new Date(Number(timeNs / 1_000_000n) - (timeNs % 1_000_000n < 0n ? 1 : 0));
  const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()];
  const startMs = partitionBy === 'day' ? Date.UTC(year, month, day) : Date.UTC(year, month);
  const endMs = partitionBy === 'day' ? Date.UTC(year, month, day + 1) : Date.UTC(year, month + 1);
  return { start: (BigInt(startMs) * NS_PER_SECOND) / 1000n, end: (BigInt(endMs) * NS_PER_SECOND) / 1000n };
}

function ingestTsAt(view: BlockView, row: number): bigint {
  const words = view.ingestTsWords;
  return BigInt.asIntN(64, (BigInt(words[row * 2 + 1]!) << 32n) | BigInt(words[row * 2]!));
}

/** Says that a group is at the server. */
export function insertedEvent({ topic, rowCount, payloadBytes, slices }: InsertGroup, seconds: number) {
  const { view, fromRow } = slices[0]!;
  const oldestNs = ingestTsAt(view, fromRow);
  return { kind: 'inserted' as const, topic, rowCount, payloadBytes, seconds, oldestNs };
}

/** First row from `fromRow` on whose time lies outside [start, end); the row count when there is none. */
function partitionRunEnd(
  view: BlockView,
  fromRow: number,
  toRow: number,
  start: bigint,
  end: bigint,
): number {
  const words = view.ingestTsWords;
  const [startLow, startHigh] = [Number(start & 0xffff_ffffn), Number(start >> 32n)];
  const [endLow, endHigh] = [Number(end & 0xffff_ffffn), Number(end >> 32n)];
  for (let row = fromRow; row < toRow; row++) {
    const low = words[row * 2]!;
    const high = words[row * 2 + 1]! | 0;
    if (high < startHigh || (high === startHigh && low < startLow)) return row;
    if (high > endHigh || (high === endHigh && low >= endLow)) return row;
  }
  return toRow;
}

/** A block that is being cut into groups. */
export interface OpenBlock {
  block: WalBlock;
  view: BlockView;
  /** Rows before it are in a group already, or were never wanted. */
  nextRow: number;
  /** Rows from here on are not wanted. */
  endRow: number;
}

/**
 * Opens a block for grouping. Rows outside `fromLsn` to `toLsn` (not included; null: no end) are left out.
 * The block's payload must stay valid as long as a group refers to it.
 */
export function openForGroups(
  block: WalBlock,
  model: TopicModel,
  fromLsn: bigint,
  toLsn: bigint | null,
): OpenBlock {
  const view = openBlock(model, block.payload, block.header.rowCount);
  const { lsn, rowCount } = block.header;
  const nextRow = fromLsn > lsn ? Number(fromLsn - lsn) : 0;
  const endRow = toLsn !== null && toLsn < lsn + BigInt(rowCount) ? Number(toLsn - lsn) : rowCount;
  return { block, view, nextRow, endRow: Math.max(endRow, 0) };
}

/** Whether all rows of the block have been taken. */
export function isUsedUp(open: OpenBlock): boolean {
  return open.nextRow >= open.endRow;
}

/** Starts a group at the block's next row. */
export function startGroup(open: OpenBlock): InsertGroup {
  const { block, view, nextRow } = open;
  const { start, end } = partitionBounds(ingestTsAt(view, nextRow), view.model.partitionBy);
  const firstLsn = block.header.lsn + BigInt(nextRow);
  return {
    topic: view.model.topic,
    model: view.model,
    recorder: block.meta.recorder,
    walId: block.walId,
    firstLsn,
    lastLsn: firstLsn - 1n,
    rowCount: 0,
    payloadBytes: 0,
    partitionStartNs: start,
    partitionEndNs: end,
    slices: [],
    contentHash: 0n,
  };
}

/**
 * Moves rows from the block to the group. Returns false when the group takes no more: it is full, or the next
 * row belongs to another partition, schema or recorder. A group takes at least one row of the block that it
 * was started with.
 */
export function addToGroup(group: InsertGroup, open: OpenBlock, limits: GroupLimits): boolean {
  const { block, view, nextRow } = open;
  if (view.model !== group.model || block.meta.recorder !== group.recorder) return false;
  if (block.walId !== group.walId) return false;
  const payloadBytes = block.payload.length;
  const room = limits.rows - group.rowCount;
  if (room <= 0 || (group.rowCount > 0 && group.payloadBytes + payloadBytes > limits.bytes)) return false;
  const wantedEnd = Math.min(open.endRow, nextRow + room);
  const toRow = partitionRunEnd(view, nextRow, wantedEnd, group.partitionStartNs, group.partitionEndNs);
  if (toRow > nextRow) {
    const { lsn, payloadChecksum } = block.header;
    const slice = { view, lsn, fromRow: nextRow, toRow };
    group.slices.push(slice);
    group.rowCount += toRow - nextRow;
    group.payloadBytes += payloadBytes;
    group.lastLsn = lsn + BigInt(toRow - 1);
    group.contentHash = hashSlice(group.contentHash, slice, payloadChecksum);
    open.nextRow = toRow;
  }
  return toRow === open.endRow && group.rowCount < limits.rows;
}

function hashSlice(before: bigint, slice: BlockSlice, payloadChecksum: bigint): bigint {
  const words = new BigUint64Array([
    before,
    slice.lsn + BigInt(slice.fromRow),
    BigInt(slice.toRow - slice.fromRow),
    payloadChecksum,
  ]);
  return Bun.hash.xxHash3(new Uint8Array(words.buffer));
}

/**
 * The slices' rows with an LSN greater than `lsn`: what is left of a group of which the server has the
 * beginning.
 */
export function slicesAfter(slices: readonly BlockSlice[], lsn: bigint): BlockSlice[] {
  return slices.flatMap((slice) => {
    const kept = lsn - slice.lsn + 1n;
    const fromRow = kept <= BigInt(slice.fromRow) ? slice.fromRow : Number(kept);
    return fromRow < slice.toRow ? [{ ...slice, fromRow }] : [];
  });
}

/** Rows in slices. */
export function rowsOf(slices: readonly BlockSlice[]): number {
  return slices.reduce((sum, { fromRow, toRow }) => sum + toRow - fromRow, 0);
}

/** Same for every attempt at a group, and for no other group. */
export function deduplicationToken(group: InsertGroup): string {
  const hex = (value: bigint) => value.toString(16).padStart(16, '0');
  return `${hex(group.walId)}:${group.topic}:${group.firstLsn}-${group.lastLsn}:${hex(group.contentHash)}`;
}
