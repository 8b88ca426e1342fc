import { type AcceptedLoss, acceptLosses, areAccepted, readAcceptedLosses } from './accepted-losses.ts';
import { WalFormatError, WalMissingSegmentError } from './errors.ts';
import type { Horizon } from './horizon.ts';
import { hasRecord } from './rebuild-header.ts';
import { collectFindings, provenHorizon } from './recovery-plan.ts';
import { moveAside, type RepairContext } from './recovery-repair.ts';
import type { RecoveryOptions, RecoveryReport } from './recovery-report.ts';
import { readTrimmedLsn } from './retention.ts';
import { missingSegments, type SurveyedSegment } from './survey.ts';

/**
 * Refuses segments of a newer format and of another WAL: and copies under another name: all are an operator's
 * mistake. Throws WalFormatError.
 */
export function refuseForeign(segments: readonly SurveyedSegment[], horizon: Horizon | null): void {
  const future = segments.find((segment) => segment.fault === 'future_version');
  if (future !== undefined) {
    throw new WalFormatError(`segment ${future.name} is of a newer version of the format`, {
      hint: 'use the version of the program that wrote it',
    });
  }
  const renamed = segments.find((segment) => segment.fault === 'wrong_name');
  if (renamed !== undefined) {
    throw new WalFormatError(`segment ${renamed.name} is a copy of another one, or was renamed`, {
      hint: 'remove the copy, or give it back its name',
    });
  }
  const readable = segments.filter((segment) => segment.header !== null);
  const walId = horizon?.walId ?? readable[0]?.header?.walId;
  const foreign = readable.find((segment) => segment.header?.walId !== walId);
  if (foreign !== undefined) {
    throw new WalFormatError(
      `segment ${foreign.name} belongs to WAL ${foreign.header!.walId.toString(16)}, ` +
        `the directory to ${walId!.toString(16)}`,
      { hint: 'move the segment to the directory that it came from' },
    );
  }
}

/**
 * Moves aside a last segment that was being born: it has no header, and nothing in it is known to have been
 * durable. Returns the segments that remain.
 */
export function withoutUnborn(
  context: RepairContext,
  segments: SurveyedSegment[],
  walId: bigint,
  horizonLsn: bigint,
  report: RecoveryReport,
): SurveyedSegment[] {
  const last = segments.at(-1);
  if (last === undefined || last.fault === null) return segments;
  const isBorn = provenFrom(context, segments, segments.length - 1, walId, horizonLsn) > last.baseLsn;
  const kind = isBorn ? 'bad_segment_header' : 'unborn_segment';
  const copiedTo = isBorn ? null : moveAside(context, last.name);
  const place = { segment: last.name, offset: 0, firstLsn: last.baseLsn, lastLsn: last.baseLsn - 1n };
  report.findings.push({ case: kind, reason: last.fault, copiedTo, ...place });
  return isBorn ? segments : withoutUnborn(context, segments.slice(0, -1), walId, horizonLsn, report);
}

/**
 * Moves aside segments of a WAL that nothing names: without a horizon its first start has not ended.
 * They stay where one holds a record: then both headers and horizon were lost, and an operator decides.
 */
export function withoutNameless(
  context: RepairContext,
  segments: SurveyedSegment[],
  report: RecoveryReport,
): SurveyedSegment[] {
  const { fileSystem, dir } = context;
  if (segments.some(({ name }) => hasRecord(fileSystem, `${dir}/${name}`))) return segments;
  for (const { name, baseLsn, fault } of segments) {
    const place = { segment: name, offset: 0, firstLsn: baseLsn, lastLsn: baseLsn - 1n };
    const copiedTo = moveAside(context, name);
    report.findings.push({ case: 'unborn_segment', reason: fault ?? 'unborn', copiedTo, ...place });
  }
  return [];
}

/** What the horizon and the segments from `index` on prove to have been durable. */
function provenFrom(
  { fileSystem, dir }: RepairContext,
  segments: readonly SurveyedSegment[],
  index: number,
  walId: bigint,
  horizonLsn: bigint,
): bigint {
  const findings = collectFindings(fileSystem, dir, segments, index, walId);
  const synced = segments.slice(index).map(({ meta }) => meta?.syncedLsn ?? 0n);
  return provenHorizon(
    findings,
    [horizonLsn, ...synced].reduce((a, b) => (a > b ? a : b)),
  );
}

/**
 * Moves aside segments behind a missing one of which nothing is known to have been durable: a power loss may
 * keep the name of a later segment and lose that of an earlier one. Returns the segments that remain.
 */
export function withoutUnreached(
  context: RepairContext,
  segments: SurveyedSegment[],
  walId: bigint,
  horizonLsn: bigint,
  report: RecoveryReport,
): SurveyedSegment[] {
  const { fileSystem, dir } = context;
  const gap = missingSegments(segments, readTrimmedLsn(fileSystem, dir))[0];
  const index = segments.findIndex(({ name }) => name === gap?.before);
  if (gap === undefined || index === -1) return segments;
  const behind = segments.slice(index);
  if (provenFrom(context, segments, index, walId, horizonLsn) > gap.firstLsn) return segments;
  const copiedTo = behind.map(({ name }) => moveAside(context, name)).join(', ');
  const place = { segment: gap.before, offset: 0, firstLsn: gap.firstLsn, lastLsn: gap.firstLsn - 1n };
  report.findings.push({ case: 'torn_tail', reason: 'missing_segment', copiedTo, ...place });
  return segments.slice(0, index);
}

/** Reports segments that are not there, or throws WalMissingSegmentError when that is not allowed. */
export function checkMissing(
  options: RecoveryOptions,
  segments: readonly SurveyedSegment[],
  horizon: Horizon | null,
  report: RecoveryReport,
): void {
  const trimmedLsn = readTrimmedLsn(options.fileSystem, options.dir);
  const missing = missingSegments(segments, trimmedLsn);
  const durableLsn = horizon?.durableLsn() ?? 0n;
  if (segments.length === 0 && durableLsn > trimmedLsn) {
    missing.push({ before: '(end)', firstLsn: trimmedLsn, lastLsn: durableLsn - 1n });
  }
  const accepted = readAcceptedLosses(options.fileSystem, options.dir);
  const losses: AcceptedLoss[] = [];
  for (const { before, firstLsn, lastLsn } of missing) {
    if (areAccepted(accepted, firstLsn, lastLsn)) continue;
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
    const acceptedAt = new Date().toISOString();
    losses.push({ ...finding, kind: 'missing', acceptedAt, evidence: null });
  }
  // Once is enough: the next start does not ask again.
  acceptLosses(options.fileSystem, options.dir, losses);
}
