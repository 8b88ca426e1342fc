import type { FileSystem } from '../io/file-system.ts';
import { errorCode, replaceFile } from '../io/file-system.ts';
import { segmentsAmong } from './format.ts';
import { headerOf } from './segment-file.ts';

/** File that says from which LSN on the WAL is kept, as JSON; without it the whole WAL must be there. */
export const TRIM_FILE = 'trimmed.json';

/** LSN below which segments may be absent because they were trimmed; 0 when nothing was. */
export function readTrimmedLsn(fileSystem: FileSystem, dir: string): bigint {
  try {
    const text = new TextDecoder().decode(fileSystem.readFile(`${dir}/${TRIM_FILE}`));
    return BigInt((JSON.parse(text) as { keptFromLsn: string }).keptFromLsn);
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || error instanceof SyntaxError) return 0n;
    throw error;
  }
}

/**
 * Removes segments all of whose rows lie below `beforeLsn`: up to one that begins with a group, because
 * recovery may have to begin there, and never the last two, of which a failed sync may void one. The new
 * beginning is durable before the first file goes. Returns the names of the removed files.
 */
export async function trimSegments(
  fileSystem: FileSystem,
  dir: string,
  beforeLsn: bigint,
): Promise<string[]> {
  const segments = segmentsAmong(fileSystem.list(dir));
  const holds = Math.min(
    segments.findLastIndex((segment) => segment.baseLsn <= beforeLsn),
    segments.length - 2,
  );
  const beginsGroup = (baseLsn: bigint) => headerOf(fileSystem, dir, baseLsn)?.meta.groupEndLsn === baseLsn;
  const kept = segments.findLastIndex(({ baseLsn }, index) => index <= holds && beginsGroup(baseLsn));
  const removed = segments.slice(0, Math.max(kept, 0));
  const first = segments[kept];
  if (removed.length === 0 || first === undefined) return [];
  const content = JSON.stringify({ keptFromLsn: first.baseLsn.toString() });
  replaceFile(fileSystem, dir, TRIM_FILE, new TextEncoder().encode(content));
  for (const segment of removed) fileSystem.unlink(`${dir}/${segment.name}`);
  await fileSystem.syncDirectory(dir);
  return removed.map((segment) => segment.name);
}
