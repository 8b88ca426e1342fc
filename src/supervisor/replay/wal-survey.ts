// What a WAL directory holds, counted from the WAL itself: rows by topic and the LSNs that each topic's rows
// have. Read-only; takes no lock, so that it runs beside a recorder.

import type { FileSystem } from '../../io/file-system.ts';
import { type CursorDamage, createCursor } from '../../wal/cursor.ts';
import { WalFormatError } from '../../wal/errors.ts';
import { endLsn } from '../../wal/format.ts';
import { openHorizon } from '../../wal/horizon.ts';
import { readTrimmedLsn } from '../../wal/retention.ts';
import { openSegmentFile } from '../../wal/segment-file.ts';
import type { SegmentMeta } from '../../wal/segment-meta.ts';
import { scanSegment } from '../../wal/segment-scan.ts';
import { missingSegments, type SurveyedSegment, surveySegments } from '../../wal/survey.ts';

/** LSNs that follow each other without a gap: `firstLsn` to `firstLsn + rowCount - 1`. */
export interface LsnRun {
  firstLsn: bigint;
  rowCount: number;
}

/** Rows of one topic. */
export interface TopicSurvey {
  topic: string;
  table: string;
  /** Rows in segments that were trimmed away. */
  trimmedRows: number;
  /** Rows in blocks that are there and intact. */
  rows: number;
  /** Where those rows are, ascending; neighbours are joined. */
  runs: LsnRun[];
}

/** All of a WAL below its durable horizon. */
export interface WalSurvey {
  walId: bigint;
  recorder: string;
  /** First LSN of the oldest segment that is there. */
  firstLsn: bigint;
  /** LSN of the first row that is not durable: nothing from here on is counted. */
  endLsn: bigint;
  topics: Map<string, TopicSurvey>;
  /** Rows that cannot be read any more, by LSN range. */
  damages: CursorDamage[];
}

/**
 * Counts the WAL in `dir` up to its durable horizon; null when there is no segment. Throws WalFormatError
 * when no segment can be read.
 */
export function surveyWal(fileSystem: FileSystem, dir: string): WalSurvey | null {
  const segments = fileSystem.exists(dir) ? surveySegments(fileSystem, dir).segments : [];
  if (segments.length === 0) return null;
  const first = segments.find((segment) => segment.header !== null);
  if (first?.header == null || first.meta === null) {
    throw new WalFormatError(`no segment in ${dir} has a valid header`);
  }
  const { walId } = first.header;
  const horizon = openHorizon(fileSystem, dir);
  const durableLsn =
    horizon?.walId === walId ? horizon.durableLsn() : intactEnd(fileSystem, dir, segments.at(-1)!.baseLsn);
  const survey: WalSurvey = {
    walId,
    recorder: first.meta.recorder,
    firstLsn: first.baseLsn,
    endLsn: durableLsn,
    topics: trimmedCounts(first.meta),
    damages: damagedBefore(segments, first, readTrimmedLsn(fileSystem, dir)),
  };
  const cursor = createCursor({
    fileSystem,
    dir,
    durableLsn: () => durableLsn,
    fromLsn: first.baseLsn,
    topic: null,
    onDamage: (damage) => survey.damages.push(damage),
  });
  try {
    for (let block = cursor.next(); block !== null; block = cursor.next()) {
      addRun(topicOf(survey.topics, block.topic), {
        firstLsn: block.header.lsn,
        rowCount: block.header.rowCount,
      });
    }
  } finally {
    cursor.close();
  }
  return survey;
}

/** Without a horizon file: where the intact records of the last segment end. */
function intactEnd(fileSystem: FileSystem, dir: string, baseLsn: bigint): bigint {
  const { file, header } = openSegmentFile(fileSystem, dir, baseLsn);
  let end = baseLsn;
  try {
    const { walId, headerSizeBytes, headerChecksum } = header;
    const start = { offset: headerSizeBytes, lsn: baseLsn, walId, prevChecksum: headerChecksum };
    for (const item of scanSegment(file, start)) if (item.kind === 'block') end = endLsn(item.header);
    return end;
  } finally {
    file.close();
  }
}

/** Segments before the first readable one that are missing or have no valid header. */
function damagedBefore(
  segments: readonly SurveyedSegment[],
  first: SurveyedSegment,
  trimmedLsn: bigint,
): CursorDamage[] {
  const lastLsn = first.baseLsn - 1n;
  const unreadable = segments[0]!;
  const place = { segment: unreadable.name, offset: 0, topic: null };
  if (unreadable !== first) {
    return [{ ...place, firstLsn: unreadable.baseLsn, lastLsn, reason: 'bad_segment_header' }];
  }
  const missing = missingSegments([first], trimmedLsn);
  return missing.map((range) => ({ ...place, firstLsn: range.firstLsn, lastLsn, reason: 'missing_segment' }));
}

function trimmedCounts(meta: SegmentMeta): Map<string, TopicSurvey> {
  const topics = new Map<string, TopicSurvey>();
  for (const entry of meta.topics) topicOf(topics, entry).trimmedRows = Number(entry.rowsBefore);
  return topics;
}

function topicOf(
  topics: Map<string, TopicSurvey>,
  { topic, table }: { topic: string; table: string },
): TopicSurvey {
  const known = topics.get(topic);
  if (known !== undefined) return known;
  const made: TopicSurvey = { topic, table, trimmedRows: 0, rows: 0, runs: [] };
  topics.set(topic, made);
  return made;
}

function addRun(topic: TopicSurvey, run: LsnRun): void {
  topic.rows += run.rowCount;
  const last = topic.runs.at(-1);
  if (last !== undefined && last.firstLsn + BigInt(last.rowCount) === run.firstLsn)
    last.rowCount += run.rowCount;
  else topic.runs.push({ ...run });
}

/** Rows of `runs` at or after `fromLsn`. */
export function rowsFrom(runs: readonly LsnRun[], fromLsn: bigint): number {
  let rows = 0;
  for (const { firstLsn, rowCount } of runs) {
    const skipped = fromLsn > firstLsn ? Number(fromLsn - firstLsn) : 0;
    rows += Math.max(0, rowCount - skipped);
  }
  return rows;
}
