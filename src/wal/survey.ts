import type { FileSystem } from '../io/file-system.ts';
import { type SegmentHeader, segmentsAmong } from './format.ts';
import { readSegmentHeader, type SegmentFault } from './segment-file.ts';
import type { SegmentMeta } from './segment-meta.ts';

/** A segment file with its header, or what is wrong with the header. */
export interface SurveyedSegment {
  name: string;
  baseLsn: bigint;
  sizeBytes: number;
  header: SegmentHeader | null;
  meta: SegmentMeta | null;
  fault: SegmentFault | null;
}

export interface Survey {
  /** By LSN. */
  segments: SurveyedSegment[];
  /** Segments that a later header says are void: a power loss brought them back after a failed sync. */
  voided: SurveyedSegment[];
}

/** Reads the headers of all segments of a directory. */
export function surveySegments(fileSystem: FileSystem, dir: string): Survey {
  const all = segmentsAmong(fileSystem.list(dir)).map(({ name, baseLsn }) => {
    const file = fileSystem.open(`${dir}/${name}`, 'read');
    try {
      const sizeBytes = file.sizeBytes();
      const read = readSegmentHeader(file, baseLsn);
      if (typeof read === 'string')
        return { name, baseLsn, sizeBytes, header: null, meta: null, fault: read };
      return { name, baseLsn, sizeBytes, ...read, fault: null };
    } finally {
      file.close();
    }
  });
  // Between the segment that a header names as its predecessor and itself, where it says that no rows are;
  // the predecessor too, when it holds none and its header was never durable.
  const gaps = all.flatMap(({ baseLsn, meta }) => (meta?.gapBefore ? [{ ...meta, baseLsn }] : []));
  const isVoid = ({ baseLsn, fault }: SurveyedSegment) =>
    gaps.some(
      (after) =>
        after.gapBefore!.firstLsn <= baseLsn &&
        baseLsn < after.baseLsn &&
        (fault !== null || after.previousBaseLsn === null || after.previousBaseLsn < baseLsn),
    );
  return { segments: all.filter((segment) => !isVoid(segment)), voided: all.filter(isVoid) };
}

/**
 * Leaves out segments whose removal was under way when the power failed: some are back, others between them
 * and what is kept are not. The next trim removes them.
 */
export function withoutTrimmed(segments: readonly SurveyedSegment[], trimmedLsn: bigint): SurveyedSegment[] {
  return segments.filter((_, index) => {
    const next = segments[index + 1];
    return next === undefined || next.baseLsn > trimmedLsn;
  });
}

export interface MissingSegments {
  /** Name of the segment that follows the missing ones. */
  before: string;
  firstLsn: bigint;
  lastLsn: bigint;
}

/** Segments that a header names as its predecessor and that are not there, unless they were trimmed. */
export function missingSegments(segments: readonly SurveyedSegment[], trimmedLsn: bigint): MissingSegments[] {
  const missing: MissingSegments[] = [];
  segments.forEach((segment, index) => {
    const named = segment.meta?.previousBaseLsn ?? null;
    const previous = segments[index - 1];
    if (named === null || previous?.baseLsn === named) return;
    const rowsUpTo = segment.meta?.gapBefore?.firstLsn ?? segment.baseLsn;
    // Also behind a segment that is there: a power loss may bring back one of those that were removed.
    if (rowsUpTo <= trimmedLsn) return;
    if (rowsUpTo > named) missing.push({ before: segment.name, firstLsn: named, lastLsn: rowsUpTo - 1n });
  });
  return missing;
}

/** LSN at which the rows of segment `index` must end, as the next one says; null for the last. */
export function limitOf(segments: readonly SurveyedSegment[], index: number): bigint | null {
  const next = segments[index + 1];
  if (next === undefined) return null;
  const previous = next.meta?.previousBaseLsn ?? null;
  // A segment between the two is missing: this one goes up to that one.
  if (previous !== null && previous > segments[index]!.baseLsn) return previous;
  return next.meta?.gapBefore?.firstLsn ?? next.baseLsn;
}
