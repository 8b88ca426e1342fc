// What must be known of the streams before the WAL's first new segment begins: its header names the position
// of every session, and after the next start that header is all that is read of what lies before it.

import type { FileSystem } from '../../io/file-system.ts';
import { PLAIN_SESSION_PREFIX, type StreamPosition } from '../../net/session.ts';
import type { WalOptions } from '../../wal/open.ts';
import type { StreamPosition as WalStreamPosition } from '../../wal/segment-meta.ts';
import { readQuarantineIndex } from './quarantine.ts';
import { advanceOverRefused } from './quarantine-positions.ts';
import { readRefusedRuns } from './refused-runs.ts';
import { StreamRecovery } from './stream-recovery.ts';

export type StreamOptions = Required<
  Pick<WalOptions, 'onRecoveredStreams' | 'onRecoveredBlock' | 'streamsSnapshot'>
>;

/** Positions that a WAL had before it was opened. */
export interface RecoveredStreams {
  /** Options for openWal. */
  walOptions: StreamOptions;
  /** All positions, once openWal has resolved. */
  positions(): StreamPosition[];
  /** Takes over what later segments say. */
  follow(snapshot: (isWithinGroup: boolean) => StreamPosition[]): void;
}

/**
 * Collects the positions while the WAL in `walDir` is opened, and says them to the segments that it begins.
 * @param datagramSources names of the UDP feeds
 */
export function recoverStreams(
  fileSystem: FileSystem,
  walDir: string,
  datagramSources: readonly string[],
): RecoveredStreams {
  const recovery = new StreamRecovery(new Set(datagramSources));
  let found: StreamPosition[] | null = null;
  const positions = () => {
    found ??= advanceOverRefused(
      recovery.positions(),
      readQuarantineIndex(walDir, fileSystem),
      readRefusedRuns(walDir, fileSystem),
    );
    return found;
  };
  let snapshot = (_isWithinGroup: boolean) =>
    positions().filter(({ session }) => !session.startsWith(PLAIN_SESSION_PREFIX));
  return {
    walOptions: {
      onRecoveredStreams: (streams) => recovery.streams(streams),
      onRecoveredBlock: (header, payload, topic) => recovery.block(header, payload, topic),
      streamsSnapshot: (isWithinGroup) => snapshot(isWithinGroup).map(toWalPosition),
    },
    positions,
    follow: (later) => {
      snapshot = later;
    },
  };
}

function toWalPosition({ source, session, lastSeq, unreported = [] }: StreamPosition): WalStreamPosition {
  const name = { source: Buffer.from(source), session: Buffer.from(session) };
  const missing = unreported.map(({ first, last }) => [BigInt(first), BigInt(last)] as const);
  return { ...name, lastSeq: BigInt(lastSeq), ...(missing.length > 0 ? { unreported: missing } : {}) };
}
