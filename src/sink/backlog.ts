// Counts rows of the WAL that are not delivered, from block headers alone: for what is left after a drain,
// and for `recorder reconcile`. Damaged stretches are left out; the cursor reports those.

import type { FileSystem } from '../io/file-system.ts';
import { errorCode } from '../io/file-system.ts';
import { WalFormatError } from '../wal/errors.ts';
import { endLsn, segmentsAmong } from '../wal/format.ts';
import { openHorizon } from '../wal/horizon.ts';
import {
  openSegmentFile,
  ReadBuffer,
  readRecordHeader,
  recordSizeBytes,
  type SegmentFile,
} from '../wal/segment-file.ts';
import { readFlushLog } from './flush-log.ts';

/** What a topic has in the WAL that is not delivered. */
export interface Backlog {
  rows: bigint;
  /** Payload of its blocks, those that are delivered in part in full. */
  bytes: number;
  /** Ingest time of the first row of the oldest such block, ns since 1970. */
  oldestNs: bigint;
}

/**
 * Rows by topic from each topic's LSN up to `durableLsn` (not included); topics without rows are absent.
 * @param fromLsn first LSN to count of a topic; null leaves the topic out
 */
export function countBacklog(
  fileSystem: FileSystem,
  directory: string,
  fromLsn: (topic: string) => bigint | null,
  leastLsn: bigint,
  durableLsn: bigint,
): Map<string, bigint> {
  const measured = measureBacklog(fileSystem, directory, fromLsn, leastLsn, durableLsn);
  return new Map([...measured].map(([topic, { rows }]) => [topic, rows]));
}

/** Rows that are not delivered, by topic; only topics with some. `delivered`: first LSN that is not. */
export function leftOf(
  fileSystem: FileSystem,
  directory: string,
  delivered: ReadonlyMap<string, bigint>,
  endLsn: bigint,
): { topic: string; rows: bigint }[] {
  let leastLsn = endLsn;
  for (const lsn of delivered.values()) if (lsn < leastLsn) leastLsn = lsn;
  const fromLsn = (topic: string) => delivered.get(topic) ?? null;
  const counts = countBacklog(fileSystem, directory, fromLsn, leastLsn, endLsn);
  return [...counts].map(([topic, rows]) => ({ topic, rows }));
}

/** The same where no flusher runs: as the flush log and the durable horizon say. */
export function undeliveredRows(
  fileSystem: FileSystem,
  directory: string,
  topics: readonly { topic: string }[],
): { topic: string; rows: bigint }[] {
  const horizon = openHorizon(fileSystem, directory);
  if (horizon === null) return [];
  const log = readFlushLog(fileSystem, directory);
  const isOwn = log !== null && (log.walId === null || log.walId === horizon.walId);
  const progress = isOwn ? log.progress : new Map<string, { nextLsn: bigint }>();
  const delivered = new Map(topics.map(({ topic }) => [topic, progress.get(topic)?.nextLsn ?? 0n]));
  return leftOf(fileSystem, directory, delivered, horizon.durableLsn());
}

/** As countBacklog, with bytes and age. */
export function measureBacklog(
  fileSystem: FileSystem,
  directory: string,
  fromLsn: (topic: string) => bigint | null,
  leastLsn: bigint,
  durableLsn: bigint,
): Map<string, Backlog> {
  const counts = new Map<string, Backlog>();
  const segments = segmentsAmong(fileSystem.list(directory));
  for (const [index, { baseLsn }] of segments.entries()) {
    const nextBase = segments[index + 1]?.baseLsn;
    if (baseLsn >= durableLsn || (nextBase !== undefined && nextBase <= leastLsn)) continue;
    const segment = tryOpen(fileSystem, directory, baseLsn);
    if (segment === null) continue;
    try {
      countSegment(segment, fromLsn, durableLsn, counts);
    } finally {
      segment.file.close();
    }
  }
  return counts;
}

function tryOpen(fileSystem: FileSystem, directory: string, baseLsn: bigint): SegmentFile | null {
  try {
    return openSegmentFile(fileSystem, directory, baseLsn);
  } catch (error) {
    if (error instanceof WalFormatError || errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

function countSegment(
  { file, header, meta }: SegmentFile,
  fromLsn: (topic: string) => bigint | null,
  durableLsn: bigint,
  counts: Map<string, Backlog>,
): void {
  const buffer = new ReadBuffer();
  const fileSizeBytes = file.sizeBytes();
  let offset = header.headerSizeBytes;
  for (;;) {
    const record = readRecordHeader(file, offset, fileSizeBytes, header.walId, buffer);
    if (typeof record === 'string' || record.lsn >= durableLsn) return;
    offset += recordSizeBytes(record);
    const topic = meta.topics[record.topicIndex]?.topic;
    const from = topic === undefined ? null : fromLsn(topic);
    if (topic === undefined || from === null || endLsn(record) <= from) continue;
    const before = from > record.lsn ? from - record.lsn : 0n;
    const sum = counts.get(topic) ?? { rows: 0n, bytes: 0, oldestNs: record.firstIngestTs };
    sum.rows += BigInt(record.rowCount) - before;
    sum.bytes += record.payloadSizeBytes;
    counts.set(topic, sum);
  }
}
