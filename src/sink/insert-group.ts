// Insert groups: which rows travel in one insert. Planning only, no IO.
//
// A group is consecutive rows of one topic, with one schema, one recorder and one ingest_ts partition: it is
// one block and one part at the server, stored whole or not at all. It is closed by rows, by bytes, or by its
// caller's clock. Boundaries are rows, not blocks: a block that spans midnight is cut there.
//
// A group holds no rows, only where they lie in the WAL: its blocks are read when it is encoded, part
// after part, so that the memory of a delivery does not depend on the size of its group.

import { ingestTimes } from '../columns/block-codec.ts';
import type { TopicModel } from '../schema/model.ts';
import type { WalBlock } from '../wal/cursor.ts';
import type { RecordHeader } from '../wal/format.ts';
import type { OpenGroup } from './flush-log-format.ts';
import type { InsertFormat } from './group-encoder.ts';

export interface GroupLimits {
  rows: number;
  /** Payload bytes of the blocks. */
  bytes: number;
  /** Slices, where not MAX_GROUP_SLICES. */
  slices?: number;
}

/** A log of one-row blocks must not fill the memory with their places: some 200 bytes each. */
const MAX_GROUP_SLICES = 32_768;

/** Where a block lies in the WAL, and what shows that it is still the same. */
export interface BlockPlace {
  /** File name. */
  segment: string;
  /** Of the record's header. */
  offset: number;
  payloadSizeBytes: number;
  payloadChecksum: bigint;
  rowCount: number;
}

/** Rows `fromRow` to `toRow` (not included) of a block of the WAL; `lsn` is that of the block's first row. */
export interface GroupSlice extends BlockPlace {
  lsn: bigint;
  fromRow: number;
  toRow: number;
}

/** What a run of rows says of its place, whether they lie in memory or in the WAL. */
type Run = Pick<GroupSlice, 'lsn' | 'fromRow' | 'toRow'>;

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
  /** Ingest time of the first row, or of the first one of its block, ns since 1970. */
  oldestNs: bigint;
  slices: GroupSlice[];
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

function ingestTsAt(words: Uint32Array, row: number): bigint {
  return BigInt.asIntN(64, (BigInt(words[row * 2 + 1]!) << 32n) | BigInt(words[row * 2]!));
}

/** Says that a group is at the server. */
export function insertedEvent(group: InsertGroup, seconds: number) {
  const { topic, rowCount, payloadBytes, oldestNs } = group;
  return { kind: 'inserted' as const, topic, rowCount, payloadBytes, seconds, oldestNs };
}

/** First row from `fromRow` on whose time lies outside [start, end); the row count when there is none. */
function partitionRunEnd(
  words: Uint32Array,
  fromRow: number,
  toRow: number,
  start: bigint,
  end: bigint,
): number {
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
  block: Omit<WalBlock, 'payload'>;
  model: TopicModel;
  place: BlockPlace;
  /**
   * A copy, as long as the rows or longer: the block's payload is not needed any more. Null where the header
   * says enough.
   */
  ingestTsWords: Uint32Array | null;
  /** Rows before it are in a group already, or were never wanted. */
  nextRow: number;
  /** Rows from here on are not wanted. */
  endRow: number;
}

/**
 * Whether a block's payload must be read to know which partitions its rows belong to: not where their times
 * lie in order between a first and a last one of the same day (UTC), and so of the same month.
 */
export function needsTimes({ inTimeOrder, firstIngestTs, lastIngestTs }: RecordHeader): boolean {
  return !inTimeOrder || lastIngestTs >= partitionBounds(firstIngestTs, 'day').end;
}

/**
 * Opens a block for grouping. Its payload, which is there where `needsTimes` says so, has been checked by its
 * checksum; what it says is checked when it is encoded. Rows outside `fromLsn` to `toLsn` (not included;
 * null: no end) are left out. The block's payload may change afterwards. Throws BlockFormatError.
 * @param words the times of a block that was opened before and is no longer used: memory for this one's
 */
export function openForGroups(
  block: WalBlock,
  model: TopicModel,
  fromLsn: bigint,
  toLsn: bigint | null,
  words?: Uint32Array,
): OpenBlock {
  const { lsn, rowCount, payloadSizeBytes, payloadChecksum } = block.header;
  const { segment, offset } = block;
  const ingestTsWords = needsTimes(block.header) ? copyTimes(block, words) : null;
  const place = { segment, offset, payloadSizeBytes, payloadChecksum, rowCount };
  const nextRow = fromLsn > lsn ? Number(fromLsn - lsn) : 0;
  const endRow = toLsn !== null && toLsn < lsn + BigInt(rowCount) ? Number(toLsn - lsn) : rowCount;
  return { block, model, place, ingestTsWords, nextRow, endRow: Math.max(endRow, 0) };
}

function copyTimes({ header, payload }: WalBlock, words: Uint32Array | undefined): Uint32Array {
  const count = header.rowCount * 2;
  const copy = words !== undefined && words.length >= count ? words : new Uint32Array(count);
  copy.set(ingestTimes(payload, header.rowCount));
  return copy;
}

/** Whether all rows of the block have been taken. */
export function isUsedUp(open: OpenBlock): boolean {
  return open.nextRow >= open.endRow;
}

/** Starts a group at the block's next row. */
export function startGroup(open: OpenBlock): InsertGroup {
  const { block, model, ingestTsWords, nextRow } = open;
  const { firstIngestTs } = block.header;
  const oldestNs = ingestTsWords === null ? firstIngestTs : ingestTsAt(ingestTsWords, nextRow);
  const { start, end } = partitionBounds(oldestNs, model.partitionBy);
  const firstLsn = block.header.lsn + BigInt(nextRow);
  return {
    topic: model.topic,
    model,
    recorder: block.meta.recorder,
    walId: block.walId,
    firstLsn,
    lastLsn: firstLsn - 1n,
    rowCount: 0,
    payloadBytes: 0,
    partitionStartNs: start,
    partitionEndNs: end,
    oldestNs,
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
  const { block, model, place, nextRow } = open;
  if (model !== group.model || block.meta.recorder !== group.recorder) return false;
  if (block.walId !== group.walId) return false;
  const payloadBytes = place.payloadSizeBytes;
  const room = limits.rows - group.rowCount;
  if (group.slices.length >= (limits.slices ?? MAX_GROUP_SLICES)) return false;
  if (room <= 0 || (group.rowCount > 0 && group.payloadBytes + payloadBytes > limits.bytes)) return false;
  const wantedEnd = Math.min(open.endRow, nextRow + room);
  const toRow = runEnd(open, wantedEnd, group);
  if (toRow > nextRow) {
    const { lsn } = block.header;
    const slice = { ...place, lsn, fromRow: nextRow, toRow };
    group.slices.push(slice);
    group.rowCount += toRow - nextRow;
    group.payloadBytes += payloadBytes;
    group.lastLsn = lsn + BigInt(toRow - 1);
    group.contentHash = hashSlice(group.contentHash, slice);
    open.nextRow = toRow;
  }
  return toRow === open.endRow && group.rowCount < limits.rows;
}

function runEnd({ block, ingestTsWords, nextRow }: OpenBlock, endRow: number, group: InsertGroup): number {
  const { partitionStartNs, partitionEndNs } = group;
  if (ingestTsWords === null) {
    const { firstIngestTs } = block.header;
    return firstIngestTs >= partitionStartNs && firstIngestTs < partitionEndNs ? endRow : nextRow;
  }
  return partitionRunEnd(ingestTsWords, nextRow, endRow, partitionStartNs, partitionEndNs);
}

function hashSlice(before: bigint, slice: GroupSlice): bigint {
  const words = new BigUint64Array([
    before,
    slice.lsn + BigInt(slice.fromRow),
    BigInt(slice.toRow - slice.fromRow),
    slice.payloadChecksum,
  ]);
  return Bun.hash.xxHash3(new Uint8Array(words.buffer));
}

/**
 * The slices' rows with an LSN greater than `lsn`: what is left of a group of which the server has the
 * beginning.
 */
export function slicesAfter<Slice extends Run>(slices: readonly Slice[], lsn: bigint): Slice[] {
  return slices.flatMap((slice) => {
    const kept = lsn - slice.lsn + 1n;
    const fromRow = kept <= BigInt(slice.fromRow) ? slice.fromRow : Number(kept);
    return fromRow < slice.toRow ? [{ ...slice, fromRow }] : [];
  });
}

/** Rows in slices. */
export function rowsOf(slices: readonly Run[]): number {
  return slices.reduce((sum, { fromRow, toRow }) => sum + toRow - fromRow, 0);
}

/** Same for every attempt at a group, and for no other group. */
export function deduplicationToken(group: InsertGroup): string {
  const hex = (value: bigint) => value.toString(16).padStart(16, '0');
  return `${hex(group.walId)}:${group.topic}:${group.firstLsn}-${group.lastLsn}:${hex(group.contentHash)}`;
}

/** The group's line in the flush log: what every attempt at it has in common. */
export function openGroupOf(group: InsertGroup, format: InsertFormat): OpenGroup {
  const { topic, firstLsn, lastLsn, rowCount, contentHash } = group;
  return { topic, firstLsn, lastLsn, rowCount, contentHash, token: deduplicationToken(group), format };
}
