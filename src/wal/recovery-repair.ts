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
 * Cuts a segment at `offset` and syncs it. Bytes behind it that are not zero go to a file whose name is
 * returned.
 */
export function cutSegment(context: RepairContext, name: string, offset: number): string | null {
  const { fileSystem, dir, stamp } = context;
  const file = fileSystem.open(`${dir}/${name}`, 'write');
  try {
    let copiedTo: string | null = null;
    if (offset < file.sizeBytes()) {
      if (findNonZero(file, offset) !== -1) {
        copiedTo = `${name}.torn-${stamp}`;
        copyTail(fileSystem, file, offset, `${dir}/${copiedTo}`);
        fileSystem.syncDirectoryNow(dir);
      }
      file.truncate(offset);
    }
    rewrite(file);
    file.syncNow();
    return copiedTo;
  } finally {
    file.close();
  }
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

/** Applies the plan to the segments from `startIndex` on, and syncs every segment that may not have been. */
export function applyCut(
  context: RepairContext,
  segments: readonly SurveyedSegment[],
  startIndex: number,
  plan: CutPlan,
  unsyncedFromLsn: bigint,
): RepairResult {
  const { fileSystem, dir } = context;
  const last = plan.kept.at(-1);
  const damagedTo = plan.corruption.at(-1);
  const lastIndex = Math.max(last?.segmentIndex ?? startIndex, damagedTo?.segmentIndex ?? startIndex);
  const copiedTo: string[] = [];
  segments.forEach((segment, index) => {
    if (index < lastIndex) {
      const next = segments[index + 1];
      if (next !== undefined && next.baseLsn > unsyncedFromLsn) syncSegment(fileSystem, dir, segment.name);
      return;
    }
    if (index > lastIndex) {
      const copy = cutSegment(context, segment.name, segment.header?.headerSizeBytes ?? 0);
      if (copy !== null) copiedTo.push(copy);
      fileSystem.unlink(`${dir}/${segment.name}`);
      return;
    }
    const keptEnd = last?.segmentIndex === index ? last.endOffset : (segment.header?.headerSizeBytes ?? 0);
    const damageEnd = damagedTo?.segmentIndex === index ? damagedTo.item.endOffset : 0;
    const copy = cutSegment(context, segment.name, Math.max(keptEnd, damageEnd));
    if (copy !== null) copiedTo.push(copy);
  });
  fileSystem.syncDirectoryNow(dir);
  return { segments: segments.slice(0, lastIndex + 1), copiedTo };
}

function syncSegment(fileSystem: FileSystem, dir: string, name: string): void {
  const file = fileSystem.open(`${dir}/${name}`, 'write');
  try {
    rewrite(file);
    file.syncNow();
  } finally {
    file.close();
  }
}

/**
 * Writes a file's bytes over themselves. A sync that failed in an earlier process has left pages that are
 * whole in memory and taken for clean: the next sync would report success and write none of them.
 */
function rewrite(file: FileHandle): void {
  const sizeBytes = file.sizeBytes();
  const chunk = new Uint8Array(Math.min(1024 * 1024, sizeBytes));
  for (let done = 0; done < sizeBytes; done += chunk.length) {
    file.write(chunk.subarray(0, file.read(chunk, done)), done);
  }
}
