// What the owner does with the WAL that an earlier run left. Reads everything first, decides, and only then repairs.
//
// The proven horizon is the LSN below which rows are known to have been durable: the larger of the durable horizon
// file and the syncedLsn of every record. Damage below it is corruption, at or above it the end of what a crash left.
//
// Decision table (also as data below; `wal verify` uses the same names)
//   case                what lies there                                        decision
//   clean_end           zeros or the end of the file after the last record     keep
//   torn_tail           no record, at or above the proven horizon              copy aside, cut there
//   open_group          records after the last complete group, above it        copy aside, cut after that group
//   corruption          no record, below the proven horizon                    keep the rest, report the LSN range
//   unborn_segment      last segment: no valid header and no record in it      move aside
//   bad_segment_header  no valid header, but records                           keep, report
//   missing_segment     a segment that the next one names is not there         refuse, or report when allowed
//   foreign_segment     another walId                                          refuse
//   future_version      a newer format                                         refuse
//
// After a cut the LSNs go on at the largest number that anybody may have seen, so that none is used twice; the next
// segment's header names the numbers left out (gapBefore).

import type { FileSystem } from '../io/file-system.ts';
import { WalFormatError, WalMissingSegmentError } from './errors.ts';
import { endLsn, type RecordHeader } from './format.ts';
import { type Horizon, openHorizon } from './horizon.ts';
import { type CutPlan, collectFindings, planCut, provenHorizon } from './recovery-plan.ts';
import { applyCut, moveAside, type RepairContext, repairStamp } from './recovery-repair.ts';
import { readTrimmedLsn } from './retention.ts';
import { findRecord, ReadBuffer, readPayload } from './segment-file.ts';
import type { LsnGap, StreamPosition, WalTopic } from './segment-meta.ts';
import { missingSegments, type SurveyedSegment, surveySegments } from './survey.ts';

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

/** Something that recovery found, and what it did about it. Rows `firstLsn` to `lastLsn`, none when last < first. */
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
  prevChecksum: bigint;
  previousBaseLsn: bigint | null;
  gapBefore: LsnGap | null;
  /** All topics that the WAL has had, `rowsBefore` counting all rows so far. */
  topics: (WalTopic & { rowsBefore: bigint })[];
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
  /** Called for every block after that header that is kept, in LSN order; `payload` is valid during the call. */
  onRecoveredBlock?: ((header: RecordHeader, payload: Uint8Array, topic: WalTopic) => void) | undefined;
}

type CountedTopic = WalTopic & { rowsBefore: bigint };

/** Recovers the WAL of `dir`, whose lock the caller holds. Throws the errors of the table's refusals. */
export function recoverWal(options: RecoveryOptions): RecoveredState {
  const { fileSystem, dir } = options;
  const horizon = openHorizon(fileSystem, dir);
  const report: RecoveryReport = { existed: true, segments: 0, blocks: 0, rows: 0n, findings: [] };
  const stamp = repairStamp(fileSystem, dir, new Date());
  const context: RepairContext = { fileSystem, dir, stamp };
  const surveyed = surveySegments(fileSystem, dir);
  refuseForeign(surveyed, horizon);
  const walId = surveyed.find((segment) => segment.header !== null)?.header?.walId ?? horizon?.walId ?? null;
  const segments = walId === null ? surveyed : withoutUnborn(context, surveyed, walId, report);
  checkMissing(options, segments, horizon, report);
  if (segments.length === 0) return freshState(options, horizon, report);
  const startIndex = startOf(segments);
  if (walId === null || startIndex === -1) {
    throw new WalFormatError(`no segment in ${dir} has a readable header`);
  }
  const findings = collectFindings(fileSystem, dir, segments, startIndex, walId);
  const horizonLsn = horizon?.durableLsn() ?? 0n;
  const proven = provenHorizon(findings, horizonLsn);
  const start = segments[startIndex]!;
  const plan = planCut(findings, start.baseLsn, proven);
  const repaired = applyCut(context, segments, startIndex, plan, horizonLsn);
  reportPlan(plan, segments, repaired.copiedTo, report);
  report.segments = repaired.segments.length;
  const topics = countRows(repaired.segments, startIndex, plan);
  replay(options, repaired.segments, start, plan, report);
  return {
    walId,
    topics,
    report,
    ...chainEnd(options, context, repaired.segments, startIndex, plan, proven, report),
  };
}

function refuseForeign(segments: readonly SurveyedSegment[], horizon: Horizon | null): void {
  const future = segments.find((segment) => segment.fault === 'future_version');
  if (future !== undefined) {
    throw new WalFormatError(`segment ${future.name} is of a newer version of the format`, {
      hint: 'use the version of the program that wrote it',
    });
  }
  const readable = segments.filter((segment) => segment.header !== null);
  const walId = horizon?.walId ?? readable[0]?.header?.walId;
  const foreign = readable.find((segment) => segment.header?.walId !== walId);
  if (foreign !== undefined) {
    throw new WalFormatError(
      `segment ${foreign.name} belongs to WAL ${foreign.header!.walId.toString(16)}, the directory to ${walId!.toString(16)}`,
      { hint: 'move the segment to the directory that it came from' },
    );
  }
}

/** The last segment without a header and without a record was being born: nothing in it was ever durable. */
function withoutUnborn(
  context: RepairContext,
  segments: SurveyedSegment[],
  walId: bigint,
  report: RecoveryReport,
): SurveyedSegment[] {
  const last = segments.at(-1);
  if (last === undefined || last.fault === null || last.fault === 'wrong_name') return segments;
  const file = context.fileSystem.open(`${context.dir}/${last.name}`, 'read');
  const found = findRecord(file, 0, walId, last.baseLsn);
  file.close();
  const kind = found === null ? 'unborn_segment' : 'bad_segment_header';
  const copiedTo = found === null ? moveAside(context, last.name) : null;
  const place = { segment: last.name, offset: 0, firstLsn: last.baseLsn, lastLsn: last.baseLsn - 1n };
  report.findings.push({ case: kind, reason: last.fault, copiedTo, ...place });
  return found === null ? segments.slice(0, -1) : segments;
}

function checkMissing(
  options: RecoveryOptions,
  segments: readonly SurveyedSegment[],
  horizon: Horizon | null,
  report: RecoveryReport,
): void {
  const trimmedLsn = readTrimmedLsn(options.fileSystem, options.dir);
  const missing = missingSegments(segments, trimmedLsn);
  const durableLsn = horizon?.durableLsn() ?? 0n;
  if (segments.length === 0 && durableLsn > 0n) {
    missing.push({ before: '(end)', firstLsn: trimmedLsn, lastLsn: durableLsn - 1n });
  }
  for (const { before, firstLsn, lastLsn } of missing) {
    const message = `segments before ${before} are missing in ${options.dir}: rows ${firstLsn} to ${lastLsn}`;
    if (!options.allowMissingSegments) throw new WalMissingSegmentError(message, firstLsn, lastLsn);
    const finding = {
      segment: before,
      offset: 0,
      reason: 'missing_segment',
      firstLsn,
      lastLsn,
      copiedTo: null,
    };
    report.findings.push({ case: 'missing_segment', ...finding });
  }
}

function freshState(
  options: RecoveryOptions,
  horizon: Horizon | null,
  report: RecoveryReport,
): RecoveredState {
  const nextLsn = largest(options.minNextLsn, horizon?.durableLsn() ?? 0n);
  const gapBefore = nextLsn === 0n ? null : { firstLsn: 0n, lastLsn: nextLsn - 1n, reason: 'lost_tail' };
  report.existed = horizon !== null;
  const walId = horizon?.walId ?? crypto.getRandomValues(new BigUint64Array(1))[0]!;
  return { walId, nextLsn, prevChecksum: 0n, previousBaseLsn: null, gapBefore, topics: [], report };
}

/** Latest segment that begins with a group, else the oldest with a header: from there on the log is read again. */
function startOf(segments: readonly SurveyedSegment[]): number {
  const atGroup = segments.findLastIndex(
    ({ meta, baseLsn }) => meta !== null && meta.groupEndLsn === baseLsn,
  );
  return atGroup !== -1 ? atGroup : segments.findIndex(({ meta }) => meta !== null);
}

function reportPlan(
  plan: CutPlan,
  segments: readonly SurveyedSegment[],
  copiedTo: readonly string[],
  report: RecoveryReport,
): void {
  for (const { segmentIndex, item, firstLsn, endLsn: end } of plan.corruption) {
    const place = { segment: segments[segmentIndex]!.name, offset: item.offset, firstLsn, lastLsn: end - 1n };
    report.findings.push({
      case: 'corruption',
      reason: item.reason ?? 'missing_rows',
      copiedTo: null,
      ...place,
    });
  }
  if (plan.cause === 'clean_end' && copiedTo.length === 0) return;
  const last = plan.kept.at(-1);
  report.findings.push({
    case: plan.cause,
    segment: segments[last?.segmentIndex ?? segments.length - 1]!.name,
    offset: last?.endOffset ?? 0,
    reason: plan.reason,
    firstLsn: plan.cutLsn,
    lastLsn: plan.cutLsn - 1n,
    copiedTo: copiedTo.join(', ') || null,
  });
}

/** Topics with their rows so far: what the latest header says, and the kept blocks after it. */
function countRows(segments: readonly SurveyedSegment[], startIndex: number, plan: CutPlan): CountedTopic[] {
  const topics = new Map<string, CountedTopic>();
  for (let index = startIndex; index < segments.length; index++) {
    const meta = segments[index]!.meta;
    for (const entry of meta?.topics ?? []) topics.set(entry.topic, { ...entry });
    for (const { segmentIndex, header } of plan.kept) {
      if (segmentIndex !== index) continue;
      const topic = topics.get(topicOf(segments, index, header)?.topic ?? '');
      if (topic !== undefined) topic.rowsBefore += BigInt(header.rowCount);
    }
  }
  return [...topics.values()];
}

/** The topic of a block: by its segment's list, or by fingerprint when that segment's header is damaged. */
function topicOf(
  segments: readonly SurveyedSegment[],
  segmentIndex: number,
  header: RecordHeader,
): WalTopic | undefined {
  const own = segments[segmentIndex]!.meta;
  if (own !== null) return own.topics[header.topicIndex];
  return segments
    .flatMap(({ meta }) => meta?.topics ?? [])
    .find(({ fingerprint }) => fingerprint === header.schemaFingerprint);
}

function replay(
  options: RecoveryOptions,
  segments: readonly SurveyedSegment[],
  start: SurveyedSegment,
  plan: CutPlan,
  report: RecoveryReport,
): void {
  options.onRecoveredStreams?.(start.meta!.streams);
  const buffer = new ReadBuffer();
  let open = { index: -1, file: null as ReturnType<FileSystem['open']> | null };
  for (const { segmentIndex, offset, header } of plan.kept) {
    report.blocks++;
    report.rows += BigInt(header.rowCount);
    if (options.onRecoveredBlock === undefined) continue;
    if (open.index !== segmentIndex) {
      open.file?.close();
      const path = `${options.dir}/${segments[segmentIndex]!.name}`;
      open = { index: segmentIndex, file: options.fileSystem.open(path, 'read') };
    }
    const payload = readPayload(open.file!, offset, header, buffer);
    const topic = topicOf(segments, segmentIndex, header);
    if (payload !== null && topic !== undefined) options.onRecoveredBlock(header, payload, topic);
  }
  open.file?.close();
}

/** Where the next segment links on. A last segment without rows goes: the next one takes its place. */
function chainEnd(
  options: RecoveryOptions,
  context: RepairContext,
  segments: readonly SurveyedSegment[],
  startIndex: number,
  plan: CutPlan,
  proven: bigint,
  report: RecoveryReport,
): Pick<RecoveredState, 'nextLsn' | 'prevChecksum' | 'previousBaseLsn' | 'gapBefore'> {
  const last = segments.at(-1)!;
  const lastKept = plan.kept.at(-1);
  const touched = [...plan.kept, ...plan.corruption].some(
    (found) => found.segmentIndex === segments.length - 1,
  );
  const empty = last.header !== null && !touched;
  const gapOfEmpty = empty ? last.meta!.gapBefore : null;
  const recordsEnd =
    gapOfEmpty?.firstLsn ?? (lastKept === undefined ? last.baseLsn : endLsn(lastKept.header));
  const nextLsn = largest(
    largest(recordsEnd, proven),
    largest(options.minNextLsn, empty ? last.baseLsn : 0n),
  );
  if (empty) {
    context.fileSystem.unlink(`${context.dir}/${last.name}`);
    report.segments--;
  }
  return {
    nextLsn,
    prevChecksum:
      lastKept?.header.headerChecksum ?? (empty ? last : segments[startIndex]!).header!.prevChecksum,
    previousBaseLsn: empty ? last.meta!.previousBaseLsn : last.baseLsn,
    gapBefore:
      nextLsn === recordsEnd
        ? null
        : { firstLsn: recordsEnd, lastLsn: nextLsn - 1n, reason: gapOfEmpty?.reason ?? 'lost_tail' },
  };
}

function largest(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
