import type { FileSystem } from '../io/file-system.ts';
import { endLsn } from './format.ts';
import { firstRecordOffset } from './recovery-plan.ts';
import { ReadBuffer, readRecordHeader, recordSizeBytes } from './segment-file.ts';
import { limitOf, type SurveyedSegment, surveySegments } from './survey.ts';

/** A segment and what it holds, by its headers alone. */
export interface ListedSegment {
  segment: SurveyedSegment;
  endLsn: bigint;
  blocks: number;
  rows: bigint;
  rowsByTopic: Map<string, bigint>;
  usedSizeBytes: number;
}

/**
 * Lists the segments of a directory by LSN. Reads headers only: a damaged payload does not show here, and a
 * damaged header ends the counting of its segment (see verify.ts).
 */
export function listSegments(fileSystem: FileSystem, dir: string): ListedSegment[] {
  const { segments } = surveySegments(fileSystem, dir);
  return segments.map((segment, index) => countSegment(fileSystem, dir, segment, limitOf(segments, index)));
}

function countSegment(
  fileSystem: FileSystem,
  dir: string,
  segment: SurveyedSegment,
  limit: bigint | null,
): ListedSegment {
  const listed: ListedSegment = {
    segment,
    endLsn: segment.baseLsn,
    blocks: 0,
    rows: 0n,
    rowsByTopic: new Map(),
    usedSizeBytes: segment.header?.headerSizeBytes ?? 0,
  };
  if (segment.header === null || segment.meta === null) return listed;
  const { walId } = segment.header;
  const file = fileSystem.open(`${dir}/${segment.name}`, 'read');
  try {
    const buffer = new ReadBuffer();
    let offset = firstRecordOffset(file, segment, walId) ?? segment.sizeBytes;
    for (;;) {
      const header = readRecordHeader(file, offset, segment.sizeBytes, walId, buffer);
      if (typeof header === 'string' || (limit !== null && header.lsn >= limit)) return listed;
      offset += recordSizeBytes(header);
      const topic = segment.meta.topics[header.topicIndex]?.topic ?? '?';
      const rows = BigInt(header.rowCount);
      listed.rowsByTopic.set(topic, (listed.rowsByTopic.get(topic) ?? 0n) + rows);
      listed.rows += rows;
      listed.blocks++;
      listed.endLsn = endLsn(header);
      listed.usedSizeBytes = offset;
    }
  } finally {
    file.close();
  }
}

/** LSN after the last row that can be read, for a WAL that nobody writes to. */
export function readableEndLsn(fileSystem: FileSystem, dir: string): bigint {
  return listSegments(fileSystem, dir).at(-1)?.endLsn ?? 0n;
}
