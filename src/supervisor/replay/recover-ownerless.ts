// Recovery of a WAL whose recorder has ended, without starting one: what a power loss left behind an old
// durable horizon is proven, synced and made readable. Nothing is recorded.

import type { Config } from '../../config.ts';
import type { FileSystem } from '../../io/file-system.ts';
import { topics } from '../../schema/registry.ts';
import { sentEndLsn } from '../../sink/flush-log.ts';
import { openWal } from '../../wal/open.ts';
import type { RecoveryReport } from '../../wal/recovery-report.ts';
import { surveySegments } from '../../wal/survey.ts';
import { recoverStreams } from '../ingest/recovered-streams.ts';
import { readStatus, recorderState, writeStatus } from '../status-file.ts';

/**
 * Opens and closes the WAL as the recorder would. Throws the errors of openWal, WalLockedError when there is
 * an owner after all.
 */
export async function recoverOwnerless(
  fileSystem: FileSystem,
  config: Config,
  allowMissingSegments: boolean,
): Promise<RecoveryReport> {
  const dir = config.walDir;
  const wasKilled = recorderState(fileSystem, dir) === 'killed';
  const last = surveySegments(fileSystem, dir).segments.findLast(({ meta }) => meta !== null);
  const streams = recoverStreams(fileSystem, dir, []);
  const wal = await openWal({
    dir,
    fileSystem,
    recorder: last?.meta?.recorder ?? config.recorderId,
    topics,
    // Nothing is appended: no more than a header is needed.
    segmentSizeBytes: Math.min(config.walSegmentBytes, 1024 * 1024),
    allowMissingSegments,
    minNextLsn: sentEndLsn(fileSystem, dir),
    ...streams.walOptions,
  });
  await wal.close();
  const status = wasKilled ? readStatus(fileSystem, dir) : null;
  if (status !== null) writeStatus(fileSystem, dir, { ...status, killed: true });
  return wal.recovery;
}
