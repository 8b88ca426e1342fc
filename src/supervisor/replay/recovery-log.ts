import type { Logger } from '../../log.ts';
import type { RecoveryReport } from '../../wal/recovery-report.ts';

/** Says what recovery found in the WAL and what it did about it, a line for each finding. */
export function logRecovery(logger: Logger, walDir: string, report: RecoveryReport): void {
  if (!report.existed) {
    logger.info(`new WAL in ${walDir}`);
    return;
  }
  logger.info(`WAL in ${walDir}: ${report.segments} segments, ${report.rows} rows read again`);
  for (const { case: name, segment, offset, reason, firstLsn, lastLsn, copiedTo } of report.findings) {
    const rows =
      lastLsn < firstLsn ? 'no durable row is affected' : `rows ${firstLsn} to ${lastLsn} are affected`;
    const copy = copiedTo === null ? '' : `; the bytes are kept in ${copiedTo}`;
    logger.warn(
      { case: name, segment, offset },
      `${segment}, byte ${offset}: ${name} (${reason}); ${rows}${copy}`,
    );
  }
}
