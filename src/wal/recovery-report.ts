// What recovery decides in which case, and how it reports it.
//
// The proven horizon is the LSN below which rows are known to have been durable: the larger of the durable
// horizon file and the syncedLsn of every record. Damage below it is corruption, at or above it the end of
// what a crash left.
//
// Decision table (also as data below; `wal verify` uses the same names)
//   case                what lies there                                        decision
//   clean_end           zeros or the end of the file after the last record     keep
//   torn_tail           no record, at or above the proven horizon              copy aside, cut there
//   open_group          records after the last complete group, above it        copy aside, cut after that
// group
//   corruption          no record, below the proven horizon                    keep the rest, report the LSN
// range
//   unborn_segment      last segment: no valid header, nothing in it was durable   move aside
//   bad_segment_header  no valid header, but durable records                   keep, report
//   missing_segment     a segment that the next one names is not there         refuse, or report when allowed
//   foreign_segment     another walId                                          refuse
//   future_version      a newer format                                         refuse
//
// After a cut the LSNs go on at the largest number that anybody may have seen, so that none is used twice;
// the next segment's header names the numbers left out (gapBefore).

import type { FileSystem } from '../io/file-system.ts';
import type { Chain } from './active-segment.ts';
import type { RecordHeader } from './format.ts';
import type { CountedTopic, StreamPosition, WalTopic } from './segment-meta.ts';

export const RECOVERY_DECISIONS = {
  clean_end: 'keep',
  torn_tail: 'cut',
  open_group: 'cut',
  corruption: 'report',
  unborn_segment: 'move_aside',
  bad_segment_header: 'report',
  missing_segment: 'refuse',
  foreign_segment: 'refuse',
  future_version: 'refuse',
} as const satisfies Record<string, 'keep' | 'cut' | 'report' | 'move_aside' | 'refuse'>;

export type RecoveryCase = keyof typeof RECOVERY_DECISIONS;

/**
 * Something that recovery found, and what it did about it. Rows `firstLsn` to `lastLsn`, none when last <
 * first.
 */
export interface RecoveryFinding {
  case: RecoveryCase;
  segment: string;
  offset: number;
  reason: string;
  firstLsn: bigint;
  lastLsn: bigint;
  /** File that holds the bytes that were cut off or moved. */
  copiedTo: string | null;
}

export interface RecoveryReport {
  /** False for a WAL that has just been made. */
  existed: boolean;
  segments: number;
  /** Blocks and rows that were read again: those after the last streams snapshot. */
  blocks: number;
  rows: bigint;
  findings: RecoveryFinding[];
}

export interface RecoveredState {
  walId: bigint;
  nextLsn: bigint;
  /** Where the next segment links on. */
  chain: Chain;
  /** A segment without rows that goes when the next one is durable; null where that one has its name. */
  stale: string | null;
  /** All topics that the WAL has had, `rowsBefore` counting all rows so far. */
  topics: CountedTopic[];
  report: RecoveryReport;
}

export interface RecoveryOptions {
  fileSystem: FileSystem;
  dir: string;
  /** LSNs below this one are taken, whatever the WAL says: what a flush log knows to be delivered. */
  minNextLsn: bigint;
  allowMissingSegments: boolean;
  /** Called once, before the blocks, with the streams of the header from which recovery reads on. */
  onRecoveredStreams?: ((streams: StreamPosition[]) => void) | undefined;
  /**
   * Called for every block after that header that is kept, in LSN order; `payload` is valid during the call.
   */
  onRecoveredBlock?: ((header: RecordHeader, payload: Uint8Array, topic: WalTopic) => void) | undefined;
}
