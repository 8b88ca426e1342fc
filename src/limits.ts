// Limits and defaults of the whole program in one place, with the relations between them asserted below.

import { assert } from './errors.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

export const limits = {
  /** Longest frame that is recorded, unless configured. 10,000 book levels on both sides take 320 KB. */
  maxFrameBytes: MIB,
  /** A length prefix above this is not a frame but a broken stream. */
  brokenPrefixBytes: 64 * MIB,
  /** Rows of one topic before its batch is sealed into a block. */
  batchRows: 8192,
  /** Bytes of one topic before its batch is sealed into a block. */
  batchBytes: 4 * MIB,
  /** Size of a WAL segment; a larger block gets a segment of its own size. */
  segmentBytes: 64 * MIB,
  /** Written but not yet synced bytes at which stream producers are paused. */
  unsyncedBytes: 64 * MIB,
  /**
   * Rows of an insert group. ClickHouse keeps an insert in one part below max_insert_block_size
   * (1,048,449).
   */
  flushRows: 250_000,
  /** Payload bytes of an insert group. */
  flushBytes: 64 * MIB,
  /** Sessions whose last sequence number is remembered in every segment header. */
  rememberedSessions: 4096,
  quarantineBytes: 64 * MIB,
  /** Delivered segments stay for a day, so that a table that was spoilt can be filled again from the WAL. */
  retainMs: 24 * 60 * 60 * 1000,
} as const;

assert(limits.maxFrameBytes <= limits.batchBytes, 'a batch holds at least one frame');
assert(limits.batchBytes * 2 <= limits.segmentBytes, 'a segment holds more than one block');
assert(limits.flushRows < 1_048_449, 'an insert group is one block at the server');
