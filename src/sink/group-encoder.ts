// What both insert formats share: rows as slices of WAL blocks that lie in memory, and where they come from.

import type { BlockView } from '../columns/block-codec.ts';
import type { ByteSink } from './byte-sink.ts';

export type InsertFormat = 'RowBinary' | 'Native';

/** Rows `fromRow` to `toRow` (not included) of a block; `lsn` is that of the block's first row. */
export interface BlockSlice {
  view: BlockView;
  lsn: bigint;
  fromRow: number;
  toRow: number;
}

/** The provenance that all rows of a group share. */
export interface GroupOrigin {
  /** UTF-8. */
  recorder: Uint8Array;
  walId: bigint;
}

/**
 * Appends the slices' rows in their order, as a body of an insert or as the next part of one. The same slices
 * give the same bytes. All slices have the model that the encoder was made for.
 */
export type GroupEncoder = (sink: ByteSink, slices: readonly BlockSlice[], origin: GroupOrigin) => void;
