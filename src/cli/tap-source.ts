// Rows of a WAL that meet a condition, newest first searched, then as they become durable. Reads what the
// recorder wrote, takes no lock and asks the recorder nothing.

import { type BlockView, openBlock } from '../columns/block-codec.ts';
import { cellOf, rowAt } from '../columns/block-rows.ts';
import type { RowFilter } from '../columns/row-filter.ts';
import type { FileSystem } from '../io/file-system.ts';
import { readTopicModel, type TopicModel } from '../schema/model.ts';
import { type CursorDamage, createCursor, type WalBlock } from '../wal/cursor.ts';
import { segmentsAmong } from '../wal/format.ts';

/** A decoded row: `topic` first, then its columns and where it came from. */
export type TapRow = { topic: string } & Record<string, unknown>;

export interface TapRequest {
  fileSystem: FileSystem;
  dir: string;
  /** Empty: all. */
  topics: ReadonlySet<string>;
  /** All of them must be met. */
  filters: readonly RowFilter[];
  onDamage(damage: CursorDamage): void;
}

/** Rows of a block that match, found without decoding the columns that no condition names. */
class BlockFilter {
  readonly #request: TapRequest;
  readonly #models = new Map<bigint, TopicModel>();

  constructor(request: TapRequest) {
    this.#request = request;
  }

  /** Indexes of the matching rows with an LSN from `fromLsn`, and the view to decode them with. */
  matches(block: WalBlock, fromLsn: bigint): { view: BlockView; indexes: number[] } {
    const { topics, filters } = this.#request;
    const model = this.#modelOf(block);
    const view = openBlock(model, block.payload, block.header.rowCount);
    const indexes: number[] = [];
    if (topics.size > 0 && !topics.has(model.topic)) return { view, indexes };
    const { lsn, rowCount } = block.header;
    const first = fromLsn > lsn ? Number(fromLsn - lsn) : 0;
    const named = new Set(filters.flatMap(({ columns }) => columns));
    const columns = view.columns.filter((column) => named.has(column.model.name));
    // A name that is no column of the topic may be one of the provenance.
    const isWhole = columns.length < named.size;
    for (let index = first; index < rowCount; index++) {
      const row: Record<string, unknown> = isWhole ? decode(block, view, index) : {};
      if (!isWhole) for (const column of columns) row[column.model.name] = cellOf(column, index);
      if (filters.every((filter) => filter.matches(row))) indexes.push(index);
    }
    return { view, indexes };
  }

  /** Blocks are read by the schema in their segment, not by the program's. */
  #modelOf({ topic }: WalBlock): TopicModel {
    const known = this.#models.get(topic.fingerprint);
    if (known !== undefined) return known;
    const model = readTopicModel(topic.bfbs);
    this.#models.set(topic.fingerprint, model);
    return model;
  }
}

function decode({ header, meta, walId }: WalBlock, view: BlockView, index: number): TapRow {
  return {
    topic: view.model.topic,
    ...rowAt(view, index, { lsn: header.lsn, recorder: meta.recorder, walId }),
  };
}

/**
 * The last `count` matching rows below `endLsn`, oldest first. Goes back segment by segment, no further than
 * it must.
 */
export function lastRows(request: TapRequest, endLsn: bigint, count: number): TapRow[] {
  const filter = new BlockFilter(request);
  const bases = segmentsAmong(request.fileSystem.list(request.dir))
    .map(({ baseLsn }) => baseLsn)
    .filter((baseLsn) => baseLsn < endLsn);
  let rows: TapRow[] = [];
  let segmentEnd = endLsn;
  for (const baseLsn of bases.reverse()) {
    if (rows.length >= count) break;
    rows = [...lastOfSegment(request, filter, baseLsn, segmentEnd, count - rows.length), ...rows];
    segmentEnd = baseLsn;
  }
  return rows;
}

interface Found {
  block: WalBlock;
  view: BlockView;
  indexes: number[];
}

function lastOfSegment(
  request: TapRequest,
  filter: BlockFilter,
  baseLsn: bigint,
  endLsn: bigint,
  count: number,
): TapRow[] {
  const { fileSystem, dir, topics, onDamage } = request;
  const topic = topics.size === 1 ? [...topics][0]! : null;
  const cursor = createCursor({
    ...{ fileSystem, dir, topic, onDamage, fromLsn: baseLsn, ownPayloads: true, durableLsn: () => endLsn },
  });
  const found: Found[] = [];
  let held = 0;
  try {
    for (let block = cursor.next(); block !== null; block = cursor.next()) {
      const { view, indexes } = filter.matches(block, baseLsn);
      if (indexes.length === 0) continue;
      found.push({ block, view, indexes });
      held += indexes.length;
      while (held - found[0]!.indexes.length >= count) held -= found.shift()!.indexes.length;
    }
  } finally {
    cursor.close();
  }
  const rows = found.flatMap(({ block, view, indexes }) =>
    // Of a block with many, the last ones are enough.
    indexes.slice(-count).map((index) => decode(block, view, index)),
  );
  return rows.slice(-count);
}

/** Follows a WAL from an LSN on. */
export class TapCursor {
  readonly #filter: BlockFilter;
  readonly #cursor;
  readonly #fromLsn: bigint;

  /** @param durableLsn asked at each step; rows at or past it are not shown */
  constructor(request: TapRequest, fromLsn: bigint, durableLsn: () => bigint) {
    const { fileSystem, dir, topics, onDamage } = request;
    const topic = topics.size === 1 ? [...topics][0]! : null;
    this.#filter = new BlockFilter(request);
    this.#fromLsn = fromLsn;
    this.#cursor = createCursor({ fileSystem, dir, topic, onDamage, fromLsn, durableLsn });
  }

  /** Matching rows of the next block, none where it has none; null when nothing durable is left. */
  next(): TapRow[] | null {
    const block = this.#cursor.next();
    if (block === null) return null;
    const { view, indexes } = this.#filter.matches(block, this.#fromLsn);
    return indexes.map((index) => decode(block, view, index));
  }

  close(): void {
    this.#cursor.close();
  }
}
