import { RecorderError } from '../errors.ts';

/** The WAL directory is owned by a process that lives, or may live. */
export class WalLockedError extends RecorderError {
  constructor(message: string, hint: string) {
    super('wal_locked', message, { hint });
  }
}

/** Bytes that should be a WAL are not, or come from a newer version of the format. */
export class WalFormatError extends RecorderError {
  constructor(message: string, options: { hint?: string; cause?: unknown } = {}) {
    super('wal_format', message, options);
  }
}

/**
 * No room for a further block: the next segment could not be made. `wal.writable` turns true when it could.
 */
export class WalFullError extends RecorderError {
  constructor(message: string, cause: unknown) {
    super('wal_full', message, { cause, hint: 'free disk space; the WAL tries again by itself' });
  }
}

/**
 * A write into the current segment failed; the block is not in the WAL and the segment is closed as suspect.
 */
export class WalWriteError extends RecorderError {
  constructor(message: string, cause: unknown) {
    super('wal_write', message, { cause });
  }
}

/**
 * A sync failed. Rows `firstLsn` to `lastLsn` (both included) are not durable, and no row will ever have
 * these LSNs: they have been read back and are written again under new ones, which the next sync covers. When
 * they cannot be read back the WAL is closed: what was not acknowledged has to be sent again. `lastLsn <
 * firstLsn`: no row was affected.
 */
export class WalSyncError extends RecorderError {
  readonly segment: string;
  readonly firstLsn: bigint;
  readonly lastLsn: bigint;

  constructor(segment: string, firstLsn: bigint, lastLsn: bigint, cause: unknown) {
    super('wal_sync', `sync of ${segment} failed: rows ${firstLsn} to ${lastLsn} are not durable`, { cause });
    this.segment = segment;
    this.firstLsn = firstLsn;
    this.lastLsn = lastLsn;
  }
}

/** Segments that belong to the WAL are not there. */
export class WalMissingSegmentError extends RecorderError {
  readonly firstLsn: bigint;
  readonly lastLsn: bigint;

  constructor(message: string, firstLsn: bigint, lastLsn: bigint) {
    super('wal_missing_segment', message, {
      hint: 'put the missing files back, or start with --allow-missing-segments to go on without these rows',
    });
    this.firstLsn = firstLsn;
    this.lastLsn = lastLsn;
  }
}

/** The WAL is closed, or failed in a way that it cannot go on from. */
export class WalClosedError extends RecorderError {
  constructor(message: string, cause?: unknown) {
    super('wal_closed', message, { cause });
  }
}
