// Rows of a WAL that are lost for good, as an operator has accepted: `wal repair` and
// --allow-missing-segments write them down. Recovery, verify and retention do not stop at them again.
//
// <walDir>/lost.json   {"lost": [AcceptedLoss, …]}, LSNs as decimal strings; replaced atomically and synced

import type { FileSystem } from '../io/file-system.ts';
import { errorCode, replaceFile } from '../io/file-system.ts';

export const ACCEPTED_LOSSES_FILE = 'lost.json';

/** Damage that stays: where it is, what it took, and where its evidence lies. */
export interface AcceptedLoss {
  segment: string;
  offset: number;
  kind: string;
  reason: string;
  /** Rows `firstLsn` to `lastLsn` are lost; none when `lastLsn < firstLsn`. */
  firstLsn: bigint;
  lastLsn: bigint;
  /** ISO time. */
  acceptedAt: string;
  /** Copy of the damaged bytes, relative to the WAL directory; null where there are none. */
  evidence: string | null;
}

/** All accepted losses of a WAL; none when the file is absent or torn. */
export function readAcceptedLosses(fileSystem: FileSystem, dir: string): AcceptedLoss[] {
  try {
    const text = new TextDecoder().decode(fileSystem.readFile(`${dir}/${ACCEPTED_LOSSES_FILE}`));
    const { lost } = JSON.parse(text) as { lost: Record<'firstLsn' | 'lastLsn', string>[] };
    return lost.map((loss) => ({
      ...(loss as unknown as AcceptedLoss),
      firstLsn: BigInt(loss.firstLsn),
      lastLsn: BigInt(loss.lastLsn),
    }));
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || error instanceof SyntaxError) return [];
    throw error;
  }
}

/** Adds losses, durably; what is written down already stays as it is. */
export function acceptLosses(fileSystem: FileSystem, dir: string, losses: readonly AcceptedLoss[]): void {
  const known = readAcceptedLosses(fileSystem, dir);
  const added = losses.filter((loss) => !isAccepted(known, loss));
  if (added.length === 0) return;
  const json = JSON.stringify(
    { lost: [...known, ...added] },
    (_, value: unknown) => (typeof value === 'bigint' ? value.toString() : value),
    2,
  );
  replaceFile(fileSystem, dir, ACCEPTED_LOSSES_FILE, new TextEncoder().encode(`${json}\n`));
}

/** Whether this damage has been accepted: all its rows, or the same place where it took none. */
export function isAccepted(
  accepted: readonly AcceptedLoss[],
  { segment, offset, firstLsn, lastLsn }: Pick<AcceptedLoss, 'segment' | 'offset' | 'firstLsn' | 'lastLsn'>,
): boolean {
  if (lastLsn >= firstLsn) return areAccepted(accepted, firstLsn, lastLsn);
  return accepted.some((loss) => loss.segment === segment && loss.offset === offset);
}

/** Whether all rows `firstLsn` to `lastLsn` are accepted as lost. */
export function areAccepted(accepted: readonly AcceptedLoss[], firstLsn: bigint, lastLsn: bigint): boolean {
  const ranges = accepted
    .filter((loss) => loss.lastLsn >= loss.firstLsn)
    .toSorted((a, b) => (a.firstLsn < b.firstLsn ? -1 : 1));
  let next = firstLsn;
  for (const loss of ranges) if (loss.firstLsn <= next && loss.lastLsn >= next) next = loss.lastLsn + 1n;
  return next > lastLsn;
}
