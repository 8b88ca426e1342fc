// Applies a cut: copies aside first, then truncates, then syncs. Nothing is ever deleted that held a record.

import type { FileHandle, FileSystem } from '../io/file-system.ts';
import type { CutPlan } from './recovery-plan.ts';
import { findNonZero } from './segment-file.ts';
import type { SurveyedSegment } from './survey.ts';

export interface RepairContext {
  fileSystem: FileSystem;
  dir: string;
  /** Goes into the names of files that keep what was cut off. */
  stamp: string;
}

/** Name suffix for kept remains: the time, as `20260131T235959`, made unique by the directory's content. */
export function repairStamp(fileSystem: FileSystem, dir: string, now: Date): string {
  const base = now.toISOString().replace(/[-:]|\..*/g, '');
  const taken = fileSystem.list(dir);
  for (let count = 0; ; count++) {
    const stamp = count === 0 ? base : `${base}-${count}`;
    if (!taken.some((name) => name.endsWith(`.torn-${stamp}`))) return stamp;
  }
}

/** Moves a whole segment file aside; returns its new name. */
export function moveAside(context: RepairContext, name: string): string {
  const aside = `${name}.torn-${context.stamp}`;
  context.fileSystem.rename(`${context.dir}/${name}`, `${context.dir}/${aside}`);
  return aside;
}

/**
 * Cuts a segment at `offset`. Bytes behind it that are not zero go to a file whose name is returned. Not
 * durable before the segment is synced.
 */
function cutSegment(context: RepairContext, file: FileHandle, name: string, offset: number): string | null {
  const { fileSystem, dir, stamp } = context;
  if (offset >= file.sizeBytes()) return null;
  let copiedTo: string | null = null;
  if (findNonZero(file, offset) !== -1) {
    copiedTo = `${name}.torn-${stamp}`;
    copyTail(fileSystem, file, offset, `${dir}/${copiedTo}`);
    fileSystem.syncDirectoryNow(dir);
  }
  file.truncate(offset);
  return copiedTo;
}

function copyTail(
  fileSystem: FileSystem,
  from: { read(target: Uint8Array, offset: number): number; sizeBytes(): number },
  offset: number,
  path: string,
): void {
  const target = fileSystem.open(path, 'create');
  try {
    const chunk = new Uint8Array(Math.min(1024 * 1024, from.sizeBytes()));
    for (let done = offset; done < from.sizeBytes(); done += chunk.length) {
      const count = from.read(chunk, done);
      // Zeros at the end are not worth keeping: the file system makes a hole of what is not written.
      if (findLastNonZero(chunk, count) !== -1) target.write(chunk.subarray(0, count), done - offset);
    }
    target.syncNow();
  } finally {
    target.close();
  }
}

function findLastNonZero(bytes: Uint8Array, count: number): number {
  return bytes.subarray(0, count).findLastIndex((byte) => byte !== 0);
}

/** Outcome of a repair: where the log ends now. */
export interface RepairResult {
  /** Segments that remain. */
  segments: SurveyedSegment[];
  copiedTo: string[];
}

/**
 * Applies the plan to the segments from `startIndex` on, and makes durable what stays of all of them.
 * @param syncedLsn rows below it are known to have been synced
 */
export function applyCut(
  context: RepairContext,
  segments: readonly SurveyedSegment[],
  startIndex: number,
  plan: CutPlan,
  syncedLsn: bigint,
): RepairResult {
  const { fileSystem, dir } = context;
  const last = plan.kept.at(-1);
  const damagedTo = plan.corruption.at(-1);
  const lastIndex = Math.max(last?.segmentIndex ?? startIndex, damagedTo?.segmentIndex ?? startIndex);
  const copiedTo: string[] = [];
  segments.forEach((segment, index) => {
    const next = segments[index + 1];
    if (index < lastIndex && next !== undefined && next.baseLsn <= syncedLsn) return;
    const file = fileSystem.open(`${dir}/${segment.name}`, 'write');
    try {
      const headerEnd = segment.header?.headerSizeBytes ?? 0;
      const keptEnd = last?.segmentIndex === index ? last.endOffset : headerEnd;
      const damageEnd = damagedTo?.segmentIndex === index ? damagedTo.item.endOffset : 0;
      const end = index < lastIndex ? file.sizeBytes() : Math.max(keptEnd, damageEnd);
      const copy = cutSegment(context, file, segment.name, end);
      if (copy !== null) copiedTo.push(copy);
      if (index > lastIndex) fileSystem.unlink(`${dir}/${segment.name}`);
      else makeDurable(file, unsyncedOffset(segment, index, startIndex, plan, syncedLsn));
    } finally {
      file.close();
    }
  });
  fileSystem.syncDirectoryNow(dir);
  return { segments: segments.slice(0, lastIndex + 1), copiedTo };
}

/** Where the first record begins that may not have been synced; 0 where the header may not have been. */
function unsyncedOffset(
  { baseLsn }: SurveyedSegment,
  segmentIndex: number,
  startIndex: number,
  { kept }: CutPlan,
  syncedLsn: bigint,
): number {
  if (segmentIndex < startIndex || baseLsn >= syncedLsn) return 0;
  const first = kept.find((block) => block.segmentIndex === segmentIndex && block.header.lsn >= syncedLsn);
  return first?.offset ?? Number.POSITIVE_INFINITY;
}

/**
 * Writes a file's bytes from `offset` on over themselves, and syncs it. A sync that failed in an earlier
 * process has left pages that are whole in memory and taken for clean: a sync alone would report success and
 * write none of them.
 */
function makeDurable(file: FileHandle, offset: number): void {
  const sizeBytes = file.sizeBytes();
  const chunk = new Uint8Array(Math.min(1024 * 1024, sizeBytes));
  for (let done = offset; done < sizeBytes; done += chunk.length) {
    file.write(chunk.subarray(0, file.read(chunk, done)), done);
  }
  file.syncNow();
}
