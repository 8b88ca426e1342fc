// `wal repair`: puts a damaged WAL into a state that a recorder starts from and `wal verify` finds clean.
//
// Invariants
// - Intact blocks stay where they are, byte for byte. Nothing is deleted: what is damaged or does not belong
//   here is copied or moved to `evidence-<time>/` in the WAL directory first, and synced.
// - Rows that no file holds are written down as lost (accepted-losses.ts), so that nothing is silent.
// - The end of the log is left to recovery, which knows what a crash leaves there (recovery-report.ts).
//
// Life cycle: planRepair (reads only) → repairWal (the caller holds the lock) → recovery → verifyWal.

import type { FileSystem } from '../io/file-system.ts';
import { acceptLosses } from './accepted-losses.ts';
import { decodeSegmentHeader, SEGMENT_HEADER_SIZE_BYTES, segmentName } from './format.ts';
import { hasRecord, rebuildHeader } from './rebuild-header.ts';
import type { WalTopic } from './segment-meta.ts';
import { surveySegments } from './survey.ts';
import { verifyWal, type WalDamage } from './verify.ts';

/**
 * `accept_loss`: evidence is copied, the rows count as lost. `move_aside`: the file goes to the evidence.
 * `rename_back`: a renamed segment gets its own name again. `rebuild_header`: no segment has a readable
 * header; the oldest gets a new one. `cut_tail`: what a crash left at the end is cut off by recovery.
 * `refuse`: this program cannot help.
 */
export type RepairAction =
  | 'accept_loss'
  | 'move_aside'
  | 'rename_back'
  | 'rebuild_header'
  | 'cut_tail'
  | 'refuse';

export interface RepairStep {
  action: RepairAction;
  damage: WalDamage;
  /** What is done, as a sentence. */
  text: string;
}

/** Steps after which the WAL is looked at anew: they bring rows back that would else count as lost. */
const FIRST_ACTIONS: readonly RepairAction[] = ['rename_back', 'rebuild_header'];

/**
 * What would be done next, in this order; empty for a WAL without findings. Steps that bring rows back come
 * alone: plan again after them. Throws WalFormatError without a WAL.
 */
export function planRepair(fileSystem: FileSystem, dir: string): RepairStep[] {
  const { segments } = surveySegments(fileSystem, dir);
  const headless = segments.every(({ header }) => header === null) ? segments[0]?.name : undefined;
  const steps = verifyWal(fileSystem, dir).damaged.map((damage) => {
    const step = stepFor(fileSystem, dir, damage);
    const isHeader = damage.offset === 0 && damage.kind !== 'foreign';
    return damage.segment === headless && isHeader ? headlessStep(fileSystem, dir, step) : step;
  });
  const first = steps.filter(({ action }) => FIRST_ACTIONS.includes(action));
  return first.length > 0 ? first : steps;
}

/** Without any readable header no recorder starts: the oldest segment gets one, or goes when it is empty. */
function headlessStep(fileSystem: FileSystem, dir: string, step: RepairStep): RepairStep {
  const { segment } = step.damage;
  if (hasRecord(fileSystem, `${dir}/${segment}`)) {
    const text = `${segment}: gets a new header before its records, the old file is kept`;
    return { ...step, action: 'rebuild_header', text };
  }
  return { ...step, action: 'move_aside', text: `${segment}: holds no record: moved to the evidence` };
}

function stepFor(fileSystem: FileSystem, dir: string, damage: WalDamage): RepairStep {
  const { segment, kind, reason, firstLsn, lastLsn, offset, endOffset } = damage;
  if (reason === 'future_version') {
    const text = `${segment}: of a newer format: use the version of the program that wrote it`;
    return { action: 'refuse', damage, text };
  }
  if (kind === 'foreign') {
    const own = ownName(fileSystem, `${dir}/${segment}`);
    const back = reason !== 'foreign_wal' && own !== null && !fileSystem.exists(`${dir}/${own}`);
    const text = back ? `${segment}: gets its own name ${own} again` : `${segment}: moved to the evidence`;
    return { action: back ? 'rename_back' : 'move_aside', damage, text };
  }
  if (kind === 'torn_tail' || kind === 'unborn') {
    return { action: 'cut_tail', damage, text: `${segment}: cut off from byte ${offset}, a copy is kept` };
  }
  const rows = lastLsn < firstLsn ? 'no rows are lost' : `rows ${firstLsn} to ${lastLsn} are lost for good`;
  const copy = endOffset > offset ? `, bytes ${offset} to ${endOffset} are copied` : '';
  return { action: 'accept_loss', damage, text: `${segment}: ${reason}: ${rows}${copy}` };
}

/** The name that a segment's header asks for. */
function ownName(fileSystem: FileSystem, path: string): string | null {
  const file = fileSystem.open(path, 'read');
  try {
    const bytes = new Uint8Array(SEGMENT_HEADER_SIZE_BYTES);
    const header = decodeSegmentHeader(bytes.subarray(0, file.read(bytes, 0)));
    return typeof header === 'string' ? null : segmentName(header.baseLsn);
  } finally {
    file.close();
  }
}

export interface RepairOptions {
  fileSystem: FileSystem;
  dir: string;
  /** For a new header, where no segment has one. */
  recorder: string;
  topics: readonly WalTopic[];
  now: Date;
}

/** What a repair did. `evidence`: directory with what was damaged, null when nothing had to be kept. */
export interface RepairResult {
  steps: RepairStep[];
  evidence: string | null;
}

/**
 * Repairs all but the end of the log, which recovery does (`cut_tail`). The caller holds the lock. Throws
 * WalFormatError where a header cannot be made anew.
 */
export function repairWal(options: RepairOptions): RepairResult {
  const { fileSystem, dir } = options;
  const first = planRepair(fileSystem, dir);
  const evidence = evidenceName(fileSystem, dir, options.now);
  const kept = first.some(needsEvidence);
  if (kept) makeDirectory(fileSystem, dir, evidence);
  for (const step of first) applyStep(options, evidence, step);
  if (!first.some(({ action }) => FIRST_ACTIONS.includes(action))) {
    return { steps: first, evidence: kept ? evidence : null };
  }
  const rest = planRepair(fileSystem, dir);
  const keepsMore = rest.some(needsEvidence);
  if (keepsMore && !kept) makeDirectory(fileSystem, dir, evidence);
  for (const step of rest) applyStep(options, evidence, step);
  return { steps: [...first, ...rest], evidence: kept || keepsMore ? evidence : null };
}

function needsEvidence({ action, damage }: RepairStep): boolean {
  if (action === 'accept_loss') return damage.endOffset > damage.offset;
  return action === 'move_aside' || action === 'rebuild_header';
}

function makeDirectory(fileSystem: FileSystem, dir: string, name: string): void {
  fileSystem.mkdir(`${dir}/${name}`);
  fileSystem.syncDirectoryNow(dir);
}

function applyStep(options: RepairOptions, evidence: string, { action, damage }: RepairStep): void {
  const { fileSystem, dir } = options;
  const path = `${dir}/${damage.segment}`;
  const kept = `${dir}/${evidence}/${damage.segment}`;
  switch (action) {
    case 'accept_loss':
      acceptDamage(options, evidence, damage);
      return;
    case 'rebuild_header':
      rebuildHeader({ ...options, name: damage.segment, keepAt: kept });
      return;
    case 'rename_back':
      fileSystem.rename(path, `${dir}/${ownName(fileSystem, path)}`);
      fileSystem.syncDirectoryNow(dir);
      return;
    case 'move_aside':
      fileSystem.rename(path, kept);
      fileSystem.syncDirectoryNow(`${dir}/${evidence}`);
      fileSystem.syncDirectoryNow(dir);
      return;
    case 'cut_tail':
    case 'refuse':
      return;
  }
}

function evidenceName(fileSystem: FileSystem, dir: string, now: Date): string {
  const base = `evidence-${now.toISOString().replace(/[-:]|\..*/g, '')}`;
  for (let count = 0; ; count++) {
    const name = count === 0 ? base : `${base}-${count}`;
    if (!fileSystem.exists(`${dir}/${name}`)) return name;
  }
}

function acceptDamage({ fileSystem, dir, now }: RepairOptions, evidence: string, damage: WalDamage): void {
  const { segment, offset, endOffset, kind, reason, firstLsn, lastLsn } = damage;
  const copy = endOffset > offset ? `${evidence}/${segment}.${offset}-${endOffset}` : null;
  if (copy !== null) {
    copyRange(fileSystem, `${dir}/${segment}`, offset, endOffset, `${dir}/${copy}`);
    fileSystem.syncDirectoryNow(`${dir}/${evidence}`);
  }
  const acceptedAt = now.toISOString();
  acceptLosses(fileSystem, dir, [
    { segment, offset, kind, reason, firstLsn, lastLsn, acceptedAt, evidence: copy },
  ]);
}

function copyRange(fileSystem: FileSystem, from: string, start: number, end: number, to: string): void {
  const source = fileSystem.open(from, 'read');
  try {
    const target = fileSystem.open(to, 'create');
    try {
      const chunk = new Uint8Array(Math.min(1024 * 1024, end - start));
      for (let at = start; at < end; at += chunk.length) {
        const count = source.read(chunk.subarray(0, Math.min(chunk.length, end - at)), at);
        target.write(chunk.subarray(0, count), at - start);
      }
      target.syncNow();
    } finally {
      target.close();
    }
  } finally {
    source.close();
  }
}
