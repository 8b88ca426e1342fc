// Retention as the recorder does it: on a timer, with its findings in the log.

import type { Config } from '../../config.ts';
import { describeError } from '../../errors.ts';
import { realFileSystem } from '../../io/real-file-system.ts';
import type { Logger } from '../../log.ts';
import type { Wal } from '../../wal/writer.ts';
import { Retention } from './retention.ts';

/** How often is looked while the disk runs short. */
const SHORT_CHECK_MS = 1000;
/** A timer that fires a little early is not a whole round late. */
const TIMER_SLACK_MS = 5;

export interface RunningRetention {
  /** Ends after the look that is under way. */
  stop(): Promise<void>;
}

/**
 * Whether this recorder may remove segments: when it delivers, or when a loader does. With ClickHouse off
 * nothing is ever removed, whatever an older flush log says.
 */
export function mayRemove(config: Config, deliver: boolean): boolean {
  return deliver || (config.mode === 'wal_first' && !config.clickhouseDisabled);
}

/**
 * Looks every `walRetainCheckMs` for segments that may go, and each second while `isShort` says that the disk
 * runs short. `wal` is open, so this process has its lock.
 */
export function startRetention(
  config: Config,
  wal: Wal,
  isShort: () => boolean,
  logger: Logger,
): RunningRetention {
  const archiveDir = config.walArchiveDir === '' ? null : config.walArchiveDir;
  const retention = new Retention({
    fileSystem: realFileSystem,
    dir: config.walDir,
    walId: wal.walId,
    retainMs: config.walRetainMs,
    retainBytes: config.walRetainBytes,
    archiveDir,
    isShort,
    trim: (beforeLsn) => wal.trim(beforeLsn),
    now: Date.now,
  });
  let problem = '';
  const say = (text: string) => {
    // The same finding at every look is one line.
    if (text !== problem && text !== '') logger.warn(text);
    problem = text;
  };
  const look = async () => {
    try {
      const { removed, hold } = await retention.run();
      if (removed.length > 0) {
        const copies = archiveDir === null ? '' : `, copies in ${archiveDir}`;
        logger.info(`removed ${removed.length} delivered segments, the last ${removed.at(-1)}${copies}`);
      }
      say(hold === null ? '' : `segments are kept: ${hold.segment}: ${hold.reason}`);
    } catch (error) {
      say(`segments are kept: ${describeError(error)}`);
    }
  };
  let running: Promise<void> | null = null;
  let lookedMs = performance.now();
  const timer = setInterval(
    () => {
      const isDue = performance.now() - lookedMs >= config.walRetainCheckMs - TIMER_SLACK_MS;
      if (!isDue && !isShort()) return;
      lookedMs = performance.now();
      running ??= look().finally(() => {
        running = null;
      });
    },
    Math.min(config.walRetainCheckMs, SHORT_CHECK_MS),
  );
  return {
    stop: async () => {
      clearInterval(timer);
      await running;
    },
  };
}
