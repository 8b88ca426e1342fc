import type { Logger } from '../log.ts';

/** A terminal and a wrapper such as npx both pass a Ctrl-C on: what follows this soon is the same wish. */
const SAME_SIGNAL_MS = 1000;

/**
 * Resolves with the name of the first SIGTERM or SIGINT; a second one while the first is worked on ends the
 * process at once.
 */
export function stopSignal(logger: Logger): Promise<string> {
  return new Promise((resolve) => {
    let askedMs = Number.POSITIVE_INFINITY;
    const onSignal = (name: string) => {
      const sinceMs = performance.now() - askedMs;
      if (sinceMs > SAME_SIGNAL_MS) {
        logger.warn(`${name} again: stopping at once; what is not delivered is in the WAL`);
        process.exit(130);
      }
      askedMs = Math.min(askedMs, performance.now());
      resolve(name);
    };
    process.on('SIGTERM', () => onSignal('SIGTERM'));
    process.on('SIGINT', () => onSignal('SIGINT'));
    // The terminal is gone. Without one the signal means something else: reload-signal.ts.
    if (process.stderr.isTTY === true) process.on('SIGHUP', () => onSignal('SIGHUP'));
  });
}
