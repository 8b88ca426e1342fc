// Decides where the log ends, from what the scan found. Pure.

import type { FileHandle, FileSystem } from '../io/file-system.ts';
import { endLsn, type RecordHeader } from './format.ts';
import { findRecord, recordSizeBytes } from './segment-file.ts';
import { type ScannedDamage, type ScannedTail, scanSegment } from './segment-scan.ts';
import { limitOf, type SurveyedSegment } from './survey.ts';

export interface FoundBlock {
  segmentIndex: number;
  offset: number;
  endOffset: number;
  header: RecordHeader;
}

export interface FoundDamage {
  segmentIndex: number;
  item: ScannedDamage | ScannedTail;
  firstLsn: bigint;
  /** First LSN after the damaged rows, as far as it is known. */
  endLsn: bigint;
}

export interface Findings {
  blocks: FoundBlock[];
  damages: FoundDamage[];
}

/** Offset of the first record of a segment: behind the header, or searched for when the header is damaged. */
export function firstRecordOffset(file: FileHandle, segment: SurveyedSegment, walId: bigint): number | null {
  if (segment.header !== null) return segment.header.headerSizeBytes;
  return findRecord(file, 0, walId, segment.baseLsn)?.offset ?? null;
}

/**
 * Reads all records of the segments from `startIndex` on; rows past a segment's limit are void and left out.
 */
export function collectFindings(
  fileSystem: FileSystem,
  dir: string,
  segments: readonly SurveyedSegment[],
  startIndex: number,
  walId: bigint,
): Findings {
  const findings: Findings = { blocks: [], damages: [] };
  for (let index = startIndex; index < segments.length; index++) {
    const file = fileSystem.open(`${dir}/${segments[index]!.name}`, 'read');
    try {
      collectSegment(file, segments, index, walId, findings);
    } finally {
      file.close();
    }
  }
  return findings;
}

function collectSegment(
  file: FileHandle,
  segments: readonly SurveyedSegment[],
  segmentIndex: number,
  walId: bigint,
  findings: Findings,
): void {
  const segment = segments[segmentIndex]!;
  const limit = limitOf(segments, segmentIndex);
  const offset = firstRecordOffset(file, segment, walId);
  if (offset === null) return;
  if (isChainBroken(segments, segmentIndex, findings)) {
    const { baseLsn } = segment;
    const nothing = { firstLsn: baseLsn, lastLsn: baseLsn - 1n };
    const item = { kind: 'damage', offset: 0, endOffset: 0, reason: 'chain_broken', ...nothing } as const;
    findings.damages.push({ segmentIndex, item, firstLsn: baseLsn, endLsn: baseLsn });
  }
  const prevChecksum = segment.header?.headerChecksum ?? null;
  for (const item of scanSegment(file, { offset, lsn: segment.baseLsn, walId, prevChecksum })) {
    if (item.kind === 'block') {
      if (limit !== null && item.header.lsn >= limit) return;
      const endOffset = item.offset + recordSizeBytes(item.header);
      findings.blocks.push({ segmentIndex, offset: item.offset, endOffset, header: item.header });
      continue;
    }
    const firstLsn = item.kind === 'damage' ? item.firstLsn : item.lsn;
    if (limit !== null && firstLsn >= limit) return;
    if (item.kind === 'tail' && item.reason === null && limit === null) return;
    const known = item.lastLsn === null ? firstLsn : item.lastLsn + 1n;
    findings.damages.push({
      segmentIndex,
      item,
      firstLsn,
      endLsn: limit !== null && item.kind === 'tail' ? limit : known,
    });
  }
}

/**
 * Whether a segment goes on where the one before it ended, but names another last record. A crash can leave
 * that: a header was written again, with the end of its group, and that did not reach the file.
 */
function isChainBroken(segments: readonly SurveyedSegment[], index: number, { blocks }: Findings): boolean {
  const { header, meta, baseLsn } = segments[index]!;
  const last = blocks.at(-1);
  if (header === null || meta === null || meta.gapBefore !== null || last === undefined) return false;
  const isNext = last.segmentIndex === index - 1 && meta.previousBaseLsn === segments[index - 1]!.baseLsn;
  return isNext && endLsn(last.header) === baseLsn && header.prevChecksum !== last.header.headerChecksum;
}

export interface CutPlan {
  /** Blocks that stay, in order. */
  kept: FoundBlock[];
  /** Damage below the proven horizon: stays where it is and is reported. */
  corruption: FoundDamage[];
  /** Rows at or past this LSN are cut off. */
  cutLsn: bigint;
  cause: 'clean_end' | 'torn_tail' | 'open_group';
  reason: string;
}

/**
 * The decision: what is damaged below `provenLsn` was durable once and is corruption; the first damage at or
 * above it is where the crash cut the log; and a group that is not complete there goes as a whole.
 */
export function planCut(findings: Findings, startLsn: bigint, provenLsn: bigint): CutPlan {
  const corruption = findings.damages.filter((damage) => damage.firstLsn < provenLsn);
  const torn = findings.damages.find((damage) => damage.firstLsn >= provenLsn);
  const candidates = findings.blocks.filter(({ header }) => torn === undefined || header.lsn < torn.firstLsn);
  const lastEnd = candidates.findLast(({ header }) => header.endsGroup);
  let cutLsn = lastEnd === undefined ? startLsn : endLsn(lastEnd.header);
  if (provenLsn > cutLsn) cutLsn = provenLsn;
  const kept = candidates.filter(({ header }) => header.lsn < cutLsn);
  const cause =
    torn !== undefined ? 'torn_tail' : kept.length < findings.blocks.length ? 'open_group' : 'clean_end';
  return { kept, corruption, cutLsn, cause, reason: torn?.item.reason ?? cause };
}

/** The largest LSN below which a record or the horizon proves that rows were durable. */
export function provenHorizon(findings: Findings, horizonLsn: bigint): bigint {
  let proven = horizonLsn;
  for (const { header } of findings.blocks) if (header.syncedLsn > proven) proven = header.syncedLsn;
  return proven;
}
