// Refused frames take sequence numbers and are acknowledged, but lie in the quarantine, not in the WAL.
// Without them a session whose last frames were refused would seem to have a gap there after a restart.

import { FramingFault } from '../../net/frame-sink.ts';
import { removeRange, type SequenceRange } from '../../net/sequence-ranges.ts';
import type { StreamPosition } from '../../net/session.ts';
import type { QuarantineEntry } from './quarantine.ts';
import type { RefusedRun } from './refused-runs.ts';

/** Refused bytes with these reasons are no frame of their own: the number they name may still come. */
export const WITHOUT_NUMBER: ReadonlySet<string> = new Set([
  FramingFault.badLength,
  FramingFault.truncated,
  FramingFault.badCount,
  FramingFault.trailingBytes,
]);

/**
 * Moves each position on over the refused frames that follow it without a break; a stream of which nothing
 * but refused frames came is added. `entries` in the order in which they were kept; `runs`: frames that may
 * not have been kept.
 */
export function advanceOverRefused(
  positions: readonly StreamPosition[],
  entries: readonly QuarantineEntry[],
  runs: readonly RefusedRun[],
): StreamPosition[] {
  const byName = new Map<string, StreamPosition & { unreported: SequenceRange[] }>();
  const key = (source: string, session: string) => JSON.stringify([source, session]);
  for (const position of positions) {
    const { source, session, unreported = [] } = position;
    byName.set(key(source, session), { ...position, unreported: [...unreported] });
  }
  const advance = ({ source, session, first, last }: RefusedRun): void => {
    const name = key(source, session);
    const position = byName.get(name) ?? { source, session, lastSeq: 0, unreported: [] };
    removeRange(position.unreported, first, last);
    if (first > position.lastSeq + 1 || last <= position.lastSeq) return;
    position.lastSeq = last;
    byName.set(name, position);
  };
  for (const { source, session, seq, reason } of entries) {
    if (source !== '' && !WITHOUT_NUMBER.has(reason)) advance({ source, session, first: seq, last: seq });
  }
  for (const run of runs) advance(run);
  return [...byName.values()].map(({ unreported, ...position }) =>
    unreported.length > 0 ? { ...position, unreported } : position,
  );
}
