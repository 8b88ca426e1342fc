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
  /**
   * Looks now, or waits for the look that is under way. True: the disk runs short, as the look knew when it
   * began, and there is nothing that may go.
   */
  look(): Promise<boolean>;
  /** Takes other limits, from the next look on. */
  reconfigure(config: Config): void;
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
  let checkMs = config.walRetainCheckMs;
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
  const lookOnce = async (): Promise<boolean> => {
    const wasShort = isShort();
    try {
      const { removed, hold } = await retention.run();
      if (removed.length > 0) {
        const copies = archiveDir === null ? '' : `, copies in ${archiveDir}`;
        logger.info(`removed ${removed.length} delivered segments, the last ${removed.at(-1)}${copies}`);
      }
      say(hold === null ? '' : `segments are kept: ${hold.segment}: ${hold.reason}`);
      return wasShort && removed.length === 0;
    } catch (error) {
      say(`segments are kept: ${describeError(error)}`);
      return wasShort;
    }
  };
  let running: Promise<boolean> | null = null;
  let lookedMs = performance.now();
  const look = (): Promise<boolean> => {
    lookedMs = performance.now();
    running ??= lookOnce().finally(() => {
      running = null;
    });
    return running;
  };
  const schedule = (): ReturnType<typeof setTimeout> =>
    setTimeout(
      () => {
        const isDue = performance.now() - lookedMs >= checkMs - TIMER_SLACK_MS;
        if (isDue || isShort()) void look();
        timer = schedule();
      },
      Math.min(checkMs, SHORT_CHECK_MS),
    );
  let timer = schedule();
  return {
    look,
    reconfigure: ({ walRetainMs, walRetainBytes, walRetainCheckMs }) => {
      retention.setLimits(walRetainMs, walRetainBytes);
      checkMs = walRetainCheckMs;
    },
    stop: async () => {
      clearTimeout(timer);
      await running;
    },
  };
}
