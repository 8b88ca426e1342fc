// The backlog that earlier runs left: from headers alone, so that a start does not read the whole log.

import { describeError } from '../../errors.ts';
import { realFileSystem } from '../../io/real-file-system.ts';
import type { Logger } from '../../log.ts';
import { readFlushLog } from '../../sink/flush-log.ts';
import { listSegments } from '../../wal/segment-list.ts';
import type { LagTracker } from './lag-tracker.ts';

/** Tells the tracker of the rows in the WAL, and how far the flush log says they are delivered. */
export function seedLag(lag: LagTracker, walDir: string, logger: Logger): void {
  try {
    const progress = readFlushLog(realFileSystem, walDir)?.progress;
    for (const { segment, endLsn, rows, rowsByTopic, usedSizeBytes } of listSegments(
      realFileSystem,
      walDir,
    )) {
      const createdMs = Date.parse(segment.meta?.createdAt ?? '') || Date.now();
      for (const [topic, count] of rowsByTopic) {
        const bytes = Math.round((usedSizeBytes * Number(count)) / Number(rows));
        lag.backlog(topic, segment.baseLsn, endLsn, Number(count), bytes, createdMs);
      }
    }
    for (const [topic, { nextLsn }] of progress ?? []) lag.delivered(topic, nextLsn);
  } catch (error) {
    logger.warn(`the backlog of earlier runs is not counted: ${describeError(error)}`);
  }
}
