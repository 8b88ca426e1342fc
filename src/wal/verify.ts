// Reads a whole WAL and says what is wrong with it. Never repairs, takes no lock, and may run beside the
// owner: of a WAL in use only what is durable is looked at.

import type { FileHandle, FileSystem } from '../io/file-system.ts';
import { isAccepted, readAcceptedLosses } from './accepted-losses.ts';
import { WalFormatError } from './errors.ts';
import { decodeSegmentHeader, endLsn, isZero, SEGMENT_HEADER_SIZE_BYTES } from './format.ts';
import { openHorizon } from './horizon.ts';
import { ownerState, readLock } from './lock.ts';
import { firstRecordOffset } from './recovery-plan.ts';
import { readTrimmedLsn } from './retention.ts';
import { recordSizeBytes } from './segment-file.ts';
import { type ScanItem, type ScannedBlock, scanSegment } from './segment-scan.ts';
import { limitOf, missingSegments, type SurveyedSegment, surveySegments } from './survey.ts';

/**
 * `corruption`: bytes that were durable once, or lie before intact records, are damaged. `torn_tail`: what a
 * crash left at the end, nothing of it was durable. `missing`: rows that no file holds. `foreign`: a segment
 * that does not belong here. `unborn`: an empty last segment that a crash left.
 */
export type DamageKind = 'corruption' | 'torn_tail' | 'missing' | 'foreign' | 'unborn';

/**
 * Damage at bytes `offset` to `endOffset` of a file. Rows `firstLsn` to `lastLsn` are lost; none when last <
 * first.
 */
export interface WalDamage {
  segment: string;
  offset: number;
  endOffset: number;
  kind: DamageKind;
  reason: string;
  firstLsn: bigint;
  lastLsn: bigint;
}

export interface VerifyReport {
  walId: bigint | null;
  segments: number;
  blocks: number;
  rows: bigint;
  /** LSN of the oldest row that is there, and of the row after the last. */
  firstLsn: bigint;
  endLsn: bigint;
  /** What the horizon file says; null when there is none. */
  durableLsn: bigint | null;
  /** A process owns the WAL at this moment: rows past the horizon were not looked at. */
  inUse: boolean;
  damaged: WalDamage[];
  /** Damage whose loss has been accepted (accepted-losses.ts): it stays, and is nobody's surprise. */
  accepted: WalDamage[];
}

interface Walk {
  report: VerifyReport;
  /** Rows at or past it are not looked at; null: all are. */
  stopLsn: bigint | null;
  /** Rows below it are known to have been durable. */
  provenLsn: bigint;
  /** LSN that the next segment must begin with, and the checksum that it must name; null when not known. */
  lsn: bigint | null;
  prevChecksum: bigint | null;
  /** Segment looked at last. */
  baseLsn: bigint | null;
}

/**
 * Verifies the WAL in `dir`. Throws WalFormatError when there is none, and the errors of the file system.
 * @param lastSegments how many segments are read in full, from the last; of the others the headers alone
 */
export function verifyWal(
  fileSystem: FileSystem,
  dir: string,
  lastSegments: number = Number.POSITIVE_INFINITY,
): VerifyReport {
  const horizon = fileSystem.exists(dir) ? openHorizon(fileSystem, dir) : null;
  const durableLsn = horizon?.durableLsn() ?? null;
  const segments = fileSystem.exists(dir) ? surveySegments(fileSystem, dir).segments : [];
  if (segments.length === 0 && durableLsn === null) throw new WalFormatError(`there is no WAL in ${dir}`);
  const owner = readLock(fileSystem, dir);
  const inUse = owner !== null && ownerState(owner) !== 'dead' && durableLsn !== null;
  const walId = horizon?.walId ?? segments.find(({ header }) => header !== null)?.header?.walId ?? null;
  const firstLsn = segments[0]?.baseLsn ?? 0n;
  const report: VerifyReport = {
    walId,
    segments: segments.length,
    blocks: 0,
    rows: 0n,
    firstLsn,
    endLsn: firstLsn,
    durableLsn,
    inUse,
    damaged: [],
    accepted: [],
  };
  const provenLsn = durableLsn ?? 0n;
  const walk: Walk = {
    report,
    stopLsn: inUse ? durableLsn : null,
    provenLsn,
    lsn: null,
    prevChecksum: null,
    baseLsn: null,
  };
  const own = segments.filter((segment) => checkOwnership(walk, fileSystem, dir, segments, segment));
  const trimmedLsn = readTrimmedLsn(fileSystem, dir);
  for (const { before, firstLsn: from, lastLsn } of missingSegments(own, trimmedLsn)) {
    add(walk, before, 0, 0, 'missing', 'missing_segment', from, lastLsn);
  }
  own.forEach((_, index) => {
    if (index >= own.length - lastSegments) verifySegment(walk, fileSystem, dir, own, index);
  });
  if (durableLsn !== null && walk.lsn !== null && walk.lsn < durableLsn) {
    add(walk, own.at(-1)!.name, 0, 0, 'missing', 'missing_rows', walk.lsn, durableLsn - 1n);
  } else if (own.length === 0 && durableLsn !== null && durableLsn > trimmedLsn) {
    add(walk, '(none)', 0, 0, 'missing', 'missing_segment', trimmedLsn, durableLsn - 1n);
  }
  // A power loss in the middle of a trim may keep a segment and lose one behind it.
  report.damaged = report.damaged.filter(({ kind, lastLsn }) => kind !== 'missing' || lastLsn >= trimmedLsn);
  const accepted = readAcceptedLosses(fileSystem, dir);
  report.accepted = report.damaged.filter((damage) => isAccepted(accepted, damage));
  report.damaged = report.damaged.filter((damage) => !isAccepted(accepted, damage));
  return report;
}

function add(
  { report }: Walk,
  segment: string,
  offset: number,
  endOffset: number,
  kind: DamageKind,
  reason: string,
  firstLsn: bigint,
  lastLsn: bigint,
): void {
  report.damaged.push({ segment, offset, endOffset, kind, reason, firstLsn, lastLsn });
}

/** Whether a segment belongs to this WAL; reports it when it does not, or when its header cannot be used. */
function checkOwnership(
  walk: Walk,
  fileSystem: FileSystem,
  dir: string,
  segments: readonly SurveyedSegment[],
  segment: SurveyedSegment,
): boolean {
  const { name, baseLsn, header, fault, sizeBytes } = segment;
  if (header !== null && header.walId !== walk.report.walId) {
    add(walk, name, 0, sizeBytes, 'foreign', 'foreign_wal', baseLsn, baseLsn - 1n);
    return false;
  }
  if (fault === 'wrong_name') {
    add(walk, name, 0, sizeBytes, 'foreign', 'duplicate_or_renamed_segment', baseLsn, baseLsn - 1n);
    return false;
  }
  if (fault === null) return true;
  if (fault === 'future_version') {
    add(walk, name, 0, sizeBytes, 'foreign', fault, baseLsn, baseLsn - 1n);
    return false;
  }
  const unborn = segment === segments.at(-1) && walk.provenLsn <= baseLsn;
  const reason = sizeBytes === 0 ? 'empty_segment' : fault;
  const headerEnd = headerEndOf(fileSystem, `${dir}/${name}`);
  add(walk, name, 0, headerEnd, unborn ? 'unborn' : 'corruption', reason, baseLsn, baseLsn - 1n);
  return true;
}

/** Where a damaged header ends: with its metadata where the fixed part is whole. */
function headerEndOf(fileSystem: FileSystem, path: string): number {
  const file = fileSystem.open(path, 'read');
  try {
    const fixed = new Uint8Array(SEGMENT_HEADER_SIZE_BYTES);
    const header = decodeSegmentHeader(fixed.subarray(0, file.read(fixed, 0)));
    const sizeBytes = typeof header === 'string' ? fixed.length : header.headerSizeBytes;
    return Math.min(sizeBytes, file.sizeBytes());
  } finally {
    file.close();
  }
}

function verifySegment(
  walk: Walk,
  fileSystem: FileSystem,
  dir: string,
  segments: readonly SurveyedSegment[],
  index: number,
): void {
  const segment = segments[index]!;
  if (walk.stopLsn !== null && segment.baseLsn >= walk.stopLsn) return;
  checkLink(walk, segment);
  walk.lsn = segment.baseLsn;
  walk.baseLsn = segment.baseLsn;
  walk.prevChecksum = segment.header?.headerChecksum ?? null;
  const limit = limitOf(segments, index);
  const { walId } = walk.report;
  const file = fileSystem.open(`${dir}/${segment.name}`, 'read');
  try {
    const offset = walId === null ? null : firstRecordOffset(file, segment, walId);
    if (offset !== null && walId !== null) {
      const start = { offset, lsn: segment.baseLsn, walId, prevChecksum: walk.prevChecksum };
      for (const item of scanSegment(file, start)) {
        if (!takeItem(walk, segment, item, limit)) break;
        if (item.kind === 'block') checkPadding(walk, segment.name, file, item);
      }
    }
  } finally {
    file.close();
  }
  if (limit !== null && walk.lsn < limit) {
    add(walk, segment.name, 0, segment.sizeBytes, 'missing', 'missing_rows', walk.lsn, limit - 1n);
    walk.prevChecksum = null;
  }
}

/** No checksum covers padding: what is not zero there costs no row, but was not written so. */
function checkPadding(walk: Walk, segment: string, file: FileHandle, { offset, header }: ScannedBlock): void {
  const endOffset = offset + recordSizeBytes(header);
  const padding = new Uint8Array(header.paddingSizeBytes);
  const start = endOffset - padding.length;
  file.read(padding, start);
  const nextLsn = endLsn(header);
  if (!isZero(padding))
    add(walk, segment, start, endOffset, 'corruption', 'bad_padding', nextLsn, nextLsn - 1n);
}

/** A segment must go on where the one before it ended, in LSN and in checksum. */
function checkLink(walk: Walk, { name, baseLsn, header, meta }: SurveyedSegment): void {
  if (header === null || meta === null) return;
  const { gapBefore } = meta;
  if (gapBefore?.reason === 'lost_tail') {
    add(walk, name, 0, 0, 'missing', 'lost_before_restart', gapBefore.firstLsn, gapBefore.lastLsn);
  }
  if (walk.lsn === null || walk.prevChecksum === null || meta.previousBaseLsn !== walk.baseLsn) return;
  if (walk.lsn === (gapBefore?.firstLsn ?? baseLsn) && walk.prevChecksum !== header.prevChecksum) {
    add(walk, name, 0, header.headerSizeBytes, 'corruption', 'chain_broken', baseLsn, baseLsn - 1n);
  }
}

/** Counts a block or reports what is damaged; false when the rest of the segment does not count. */
function takeItem(walk: Walk, segment: SurveyedSegment, item: ScanItem, limit: bigint | null): boolean {
  const { report } = walk;
  const { stopLsn } = walk;
  const beyond = stopLsn === null || (limit !== null && limit < stopLsn) ? limit : stopLsn;
  if (item.kind === 'block') {
    const { header } = item;
    if (beyond !== null && header.lsn >= beyond) return false;
    report.blocks++;
    report.rows += BigInt(header.rowCount);
    if (header.syncedLsn > walk.provenLsn) walk.provenLsn = header.syncedLsn;
    walk.lsn = endLsn(header);
    report.endLsn = walk.lsn;
    walk.prevChecksum = header.headerChecksum;
    return true;
  }
  const firstLsn = item.kind === 'damage' ? item.firstLsn : item.lsn;
  if (beyond !== null && firstLsn >= beyond) return false;
  const { name } = segment;
  if (item.kind === 'damage') {
    add(walk, name, item.offset, item.endOffset, 'corruption', item.reason, firstLsn, item.lastLsn);
    return true;
  }
  if (item.reason === null) return false;
  const torn = limit === null && firstLsn >= walk.provenLsn;
  const lastLsn = item.lastLsn ?? (limit ?? (torn ? firstLsn : walk.provenLsn)) - 1n;
  add(
    walk,
    name,
    item.offset,
    item.endOffset,
    torn ? 'torn_tail' : 'corruption',
    item.reason,
    firstLsn,
    lastLsn,
  );
  walk.lsn = lastLsn + 1n > firstLsn ? lastLsn + 1n : firstLsn;
  walk.prevChecksum = null;
  return false;
}
