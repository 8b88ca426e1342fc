import type { Config } from '../../config.ts';
import type { FileSystem } from '../../io/file-system.ts';
import { topics } from '../../schema/registry.ts';
import { acquireLock } from '../../wal/lock.ts';
import type { RecoveryReport } from '../../wal/recovery-report.ts';
import { type RepairResult, repairWal } from '../../wal/repair.ts';
import { surveySegments } from '../../wal/survey.ts';
import { type VerifyReport, verifyWal } from '../../wal/verify.ts';
import { recoverOwnerless } from './recover-ownerless.ts';

export interface RepairedWal extends RepairResult {
  /** Null when a step was refused: a recorder would not start either. */
  recovery: RecoveryReport | null;
  after: VerifyReport;
}

/**
 * Repairs the WAL of `config.walDir`, recovers its end, and verifies it. Throws WalLockedError while a
 * recorder owns it, and WalFormatError where this program cannot help.
 */
export async function repairAndRecover(fileSystem: FileSystem, config: Config): Promise<RepairedWal> {
  const dir = config.walDir;
  const lock = acquireLock(fileSystem, dir);
  let result: RepairResult;
  try {
    const named = surveySegments(fileSystem, dir).segments.find(({ meta }) => meta !== null);
    const recorder = named?.meta?.recorder ?? config.recorderId;
    result = repairWal({ fileSystem, dir, recorder, topics, now: new Date() });
  } finally {
    lock.release();
  }
  const refused = result.steps.some(({ action }) => action === 'refuse');
  const recovery = refused ? null : await recoverOwnerless(fileSystem, config, true);
  return { ...result, recovery, after: verifyWal(fileSystem, dir) };
}
