// What the owner does with the WAL that an earlier run left. Reads everything first, decides
// (recovery-plan.ts), and only then repairs (recovery-repair.ts). The cases and decisions stand in
// recovery-report.ts.

import type { FileSystem } from '../io/file-system.ts';
import { WalFormatError } from './errors.ts';
import { endLsn, type RecordHeader } from './format.ts';
import { type Horizon, openHorizon } from './horizon.ts';
import {
  checkMissing,
  refuseForeign,
  withoutNameless,
  withoutUnborn,
  withoutUnreached,
} from './recovery-checks.ts';
import { type CutPlan, collectFindings, type FoundBlock, planCut, provenHorizon } from './recovery-plan.ts';
import { applyCut, moveAside, type RepairContext, repairStamp } from './recovery-repair.ts';
import type { RecoveredState, RecoveryOptions, RecoveryReport } from './recovery-report.ts';
import { readTrimmedLsn } from './retention.ts';
import { ReadBuffer, readPayload } from './segment-file.ts';
import { type CountedTopic, isStart, topicOf, type WalTopic } from './segment-meta.ts';
import { type SurveyedSegment, surveySegments, withoutTrimmed } from './survey.ts';

/** Recovers the WAL of `dir`, whose lock the caller holds. Throws the errors of the table's refusals. */
export function recoverWal(options: RecoveryOptions): RecoveredState {
  const { fileSystem, dir } = options;
  const horizon = openHorizon(fileSystem, dir);
  const horizonLsn = horizon?.durableLsn() ?? 0n;
  const report: RecoveryReport = { existed: true, segments: 0, blocks: 0, rows: 0n, findings: [] };
  const stamp = repairStamp(fileSystem, dir, new Date());
  const context: RepairContext = { fileSystem, dir, stamp };
  const { segments: found, voided } = surveySegments(fileSystem, dir);
  const surveyed = withoutTrimmed(found, readTrimmedLsn(fileSystem, dir));
  refuseForeign(surveyed, horizon);
  for (const { name } of voided) moveAside(context, name);
  const walId = surveyed.find((segment) => segment.header !== null)?.header?.walId ?? horizon?.walId ?? null;
  const segments =
    walId === null
      ? withoutNameless(context, surveyed, report)
      : withoutLeftovers(context, surveyed, walId, horizonLsn, report);
  checkMissing(options, segments, horizon, report);
  if (segments.length === 0) return freshState(options, horizon, report);
  const startIndex = startOf(segments, horizonLsn);
  if (walId === null || startIndex === -1) {
    throw new WalFormatError(`no segment in ${dir} has a readable header`);
  }
  const findings = collectFindings(fileSystem, dir, segments, startIndex, walId);
  const proven = provenHorizon(findings, horizonLsn);
  const start = segments[startIndex]!;
  const plan = planCut(findings, start.baseLsn, proven);
  const synced = provenHorizon(findings, largestSynced(segments, horizon?.syncedLsn() ?? 0n));
  const repaired = applyCut(context, segments, startIndex, plan, synced);
  reportPlan(plan, segments, repaired.copiedTo, report);
  report.segments = repaired.segments.length;
  const topics = countRows(repaired.segments, startIndex, plan);
  replay(options, repaired.segments, start, plan, report);
  const end = chainEnd(options, repaired.segments, startIndex, plan, proven, report);
  return { walId, topics, report, ...end };
}

function freshState(
  options: RecoveryOptions,
  horizon: Horizon | null,
  report: RecoveryReport,
): RecoveredState {
  const nextLsn = largest(options.minNextLsn, horizon?.durableLsn() ?? 0n);
  const gapBefore = nextLsn === 0n ? null : { firstLsn: 0n, lastLsn: nextLsn - 1n, reason: 'numbers_taken' };
  report.existed = horizon !== null;
  options.onRecoveredStreams?.([]);
  const walId = horizon?.walId ?? crypto.getRandomValues(new BigUint64Array(1))[0]!;
  const chain = { prevChecksum: 0n, previousBaseLsn: null, gapBefore };
  return { walId, nextLsn, chain, stale: null, topics: [], report };
}

/** Segments that a crash left and of which nothing counts go first. */
function withoutLeftovers(
  context: RepairContext,
  segments: SurveyedSegment[],
  walId: bigint,
  horizonLsn: bigint,
  report: RecoveryReport,
): SurveyedSegment[] {
  const born = withoutUnborn(context, segments, walId, horizonLsn, report);
  return withoutUnreached(context, born, walId, horizonLsn, report);
}

/**
 * Where to read on from: the latest segment whose positions of the streams are known to be right; else the
 * oldest with a header. -1 when no segment has one.
 */
function startOf(segments: readonly SurveyedSegment[], horizonLsn: bigint): number {
  const synced = largestSynced(segments, horizonLsn);
  const start = segments.findLastIndex(
    ({ meta, baseLsn }) => meta !== null && isStart(meta, baseLsn, synced),
  );
  return start !== -1 ? start : segments.findIndex(({ meta }) => meta !== null);
}

function largestSynced(segments: readonly SurveyedSegment[], least: bigint): bigint {
  return segments.reduce((lsn, { meta }) => largest(lsn, meta?.syncedLsn ?? 0n), least);
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
      const topic = topics.get(topicOfBlock(segments, index, header)?.topic ?? '');
      if (topic !== undefined) topic.rowsBefore += BigInt(header.rowCount);
    }
  }
  return [...topics.values()];
}

/** The topic of a block, by its segment's header or by another's when that is damaged. */
function topicOfBlock(
  segments: readonly SurveyedSegment[],
  segmentIndex: number,
  header: RecordHeader,
): WalTopic | undefined {
  const metas = [segments[segmentIndex]!, ...segments].flatMap(({ meta }) => meta ?? []);
  for (const meta of metas) {
    const topic = topicOf(meta, header);
    if (topic !== undefined) return topic;
  }
  return undefined;
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
    const topic = topicOfBlock(segments, segmentIndex, header);
    if (payload !== null && topic !== undefined) options.onRecoveredBlock(header, payload, topic);
  }
  open.file?.close();
}

/**
 * Where the next segment links on, and with which LSN. A last segment without rows goes: the next one takes
 * its place.
 */
function chainEnd(
  options: RecoveryOptions,
  segments: readonly SurveyedSegment[],
  startIndex: number,
  plan: CutPlan,
  proven: bigint,
  report: RecoveryReport,
): Pick<RecoveredState, 'nextLsn' | 'chain' | 'stale'> {
  const last = segments.at(-1)!;
  const lastKept = plan.kept.at(-1);
  const touched = [...plan.kept, ...plan.corruption].some(
    ({ segmentIndex }) => segmentIndex === segments.length - 1,
  );
  const empty = last.header !== null && !touched;
  const gapOfEmpty = empty ? last.meta!.gapBefore : null;
  const rowsEnd = lastKept === undefined ? last.baseLsn : endLsn(lastKept.header);
  const recordsEnd = gapOfEmpty?.firstLsn ?? rowsEnd;
  const nextLsn = [proven, options.minNextLsn, empty ? last.baseLsn : 0n].reduce(largest, recordsEnd);
  if (empty) report.segments--;
  // Not before the next one is there: a log without any segment looks like one that somebody has removed.
  const stale = empty && nextLsn !== last.baseLsn ? last.name : null;
  reportLostRows(last.name, plan, largest(rowsEnd, empty ? last.baseLsn : 0n), proven, report);
  const reason = gapOfEmpty?.reason ?? (proven > recordsEnd ? 'lost_tail' : 'numbers_taken');
  const gapBefore = nextLsn === recordsEnd ? null : { firstLsn: recordsEnd, lastLsn: nextLsn - 1n, reason };
  const { prevChecksum } = empty
    ? last.header!
    : { prevChecksum: lastChecksum(segments, startIndex, lastKept) };
  const previousBaseLsn = empty ? last.meta!.previousBaseLsn : last.baseLsn;
  return { nextLsn, chain: { prevChecksum, previousBaseLsn, gapBefore }, stale };
}

/** Checksum of the last intact header: of a record, or of the last segment where it holds none. */
function lastChecksum(
  segments: readonly SurveyedSegment[],
  startIndex: number,
  lastKept: FoundBlock | undefined,
): bigint {
  const last = segments.at(-1)!;
  if (lastKept?.segmentIndex === segments.length - 1) return lastKept.header.headerChecksum;
  const before = lastKept?.header.headerChecksum ?? segments[startIndex]!.header!.headerChecksum;
  return last.header?.headerChecksum ?? before;
}

/** Rows at the end that were durable once, or counted as such, and that no file holds any more. */
function reportLostRows(
  segment: string,
  plan: CutPlan,
  rowsEnd: bigint,
  proven: bigint,
  report: RecoveryReport,
): void {
  const known = plan.corruption.reduce((end, damage) => largest(end, damage.endLsn), rowsEnd);
  if (known >= proven) return;
  const place = { segment, offset: 0, firstLsn: known, lastLsn: proven - 1n };
  report.findings.push({ case: 'corruption', reason: 'missing_rows', copiedTo: null, ...place });
}

function largest(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
