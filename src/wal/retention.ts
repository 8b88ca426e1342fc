import type { FileSystem } from '../io/file-system.ts';
import { errorCode, replaceFile } from '../io/file-system.ts';
import { segmentsAmong } from './format.ts';

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
 * Removes the segments all of whose rows lie below `beforeLsn`, never the last two: were the last one void
 * after a failed sync, the other would still tell where the sessions stand. The new beginning is durable
 * before the first file goes. Returns the names of the removed files.
 */
export async function trimSegments(
  fileSystem: FileSystem,
  dir: string,
  beforeLsn: bigint,
): Promise<string[]> {
  const segments = segmentsAmong(fileSystem.list(dir));
  const holds = segments.findLastIndex((segment) => segment.baseLsn <= beforeLsn);
  const kept = Math.min(holds, segments.length - 2);
  const removed = segments.slice(0, Math.max(kept, 0));
  const first = segments[kept];
  if (removed.length === 0 || first === undefined) return [];
  const content = JSON.stringify({ keptFromLsn: first.baseLsn.toString() });
  replaceFile(fileSystem, dir, TRIM_FILE, new TextEncoder().encode(content));
  for (const segment of removed) fileSystem.unlink(`${dir}/${segment.name}`);
  await fileSystem.syncDirectory(dir);
  return removed.map((segment) => segment.name);
}
