// A loader reads a WAL only after it has been recovered from a power loss.
//
// What a power loss left may end in the middle of a group: recovery takes such rows back, their producers
// send them again, and they get other LSNs. A loader that had read them before would bring them twice. A
// killed process leaves nothing of that kind: its writes are in the page cache, and the durable horizon is
// right.

import { readFileSync } from 'node:fs';
import type { FileSystem } from '../../io/file-system.ts';
import type { Logger } from '../../log.ts';
import { type LockOwner, ownerState, readLock } from '../../wal/lock.ts';
import { readStatus } from '../status-file.ts';

const POLL_MS = 50;
/** A recorder that starts with the machine comes within this time. */
const OWNER_PATIENCE_MS = 3000;
/** A recorder that has no room for its status is not waited for any longer. */
const STATUS_PATIENCE_MS = 60_000;

/**
 * Waits until the recorder that has the WAL has recovered it. Resolves to whether the WAL is one that a power
 * loss left, and nobody comes for it: then the caller recovers it.
 */
export async function awaitRecovery(fileSystem: FileSystem, dir: string, logger: Logger): Promise<boolean> {
  let toldWaiting = false;
  for (const startedMs = performance.now(); ; await Bun.sleep(POLL_MS)) {
    const owner = fileSystem.exists(dir) ? readLock(fileSystem, dir) : null;
    if (owner === null) return false;
    const waitedMs = performance.now() - startedMs;
    if (ownerState(owner) === 'dead') {
      if (owner.bootId === bootId()) return false;
      if (waitedMs >= OWNER_PATIENCE_MS) return true;
    } else if (hasRecovered(fileSystem, dir, owner) || waitedMs >= STATUS_PATIENCE_MS) return false;
    if (!toldWaiting) logger.info(`waiting until ${dir} has been recovered`);
    toldWaiting = true;
  }
}

/** A recorder writes its status when it has recovered its WAL. */
function hasRecovered(fileSystem: FileSystem, dir: string, { startedAt }: LockOwner): boolean {
  const status = readStatus(fileSystem, dir);
  return status !== null && Date.parse(status.updatedAt) >= Date.parse(startedAt);
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return '';
  }
}
