import type { FileSystem } from '../io/file-system.ts';
import { errorCode, replaceFile } from '../io/file-system.ts';
import { segmentName, segmentsAmong } from './format.ts';
import { headerOf } from './segment-file.ts';
import { isStart } from './segment-meta.ts';

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
 * Removes segments all of whose rows are durable and lie below `beforeLsn`: up to one that recovery can begin
 * at, and never the last two, of which a failed sync may void one. The new beginning is durable before the
 * first file goes. Returns the names of the removed files.
 * @param isSynced rows below `durableLsn`, and the headers before them, have been synced
 */
export async function trimSegments(
  fileSystem: FileSystem,
  dir: string,
  beforeLsn: bigint,
  durableLsn: bigint,
  isSynced: boolean,
): Promise<string[]> {
  const segments = segmentsAmong(fileSystem.list(dir));
  const holds = Math.min(
    // A header is durable with the first row behind it.
    segments.findLastIndex(({ baseLsn }) => baseLsn <= beforeLsn && baseLsn < durableLsn),
    segments.length - 2,
  );
  const mayBegin = (baseLsn: bigint) => {
    const meta = headerOf(fileSystem, dir, baseLsn)?.meta;
    return meta !== undefined && isStart(meta, baseLsn, durableLsn);
  };
  const kept = segments.findLastIndex(({ baseLsn }, index) => index <= holds && mayBegin(baseLsn));
  const removed = segments.slice(0, Math.max(kept, 0));
  const first = segments[kept];
  if (removed.length === 0 || first === undefined) return [];
  if (!isSynced) syncHeader(fileSystem, dir, first.baseLsn);
  const content = JSON.stringify({ keptFromLsn: first.baseLsn.toString() });
  replaceFile(fileSystem, dir, TRIM_FILE, new TextEncoder().encode(content));
  for (const segment of removed) fileSystem.unlink(`${dir}/${segment.name}`);
  await fileSystem.syncDirectory(dir);
  return removed.map((segment) => segment.name);
}

/**
 * Makes a segment's header durable, of which no sync has said so. Written over itself first: a failed sync
 * may have left it in memory alone. Never beside the writer's own syncs: what one of the two is told of a
 * failure the other is not.
 */
function syncHeader(fileSystem: FileSystem, dir: string, baseLsn: bigint): void {
  const header = headerOf(fileSystem, dir, baseLsn)?.header;
  const file = fileSystem.open(`${dir}/${segmentName(baseLsn)}`, 'write');
  try {
    const bytes = new Uint8Array(header?.headerSizeBytes ?? 0);
    file.write(bytes.subarray(0, file.read(bytes, 0)), 0);
    file.syncNow();
  } finally {
    file.close();
  }
}
