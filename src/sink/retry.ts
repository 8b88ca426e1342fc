// Waiting and trying again.

import { RecorderError } from '../errors.ts';

/** Waits, or stops waiting when the signal says so; never throws. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
}

/**
 * Exponential backoff with full jitter: uniform between 0 and the bound, so that recorders do not retry in
 * step.
 */
export function backoffMs(attempt: number, baseMs: number, maxMs: number, random: () => number): number {
  return random() * Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30));
}

export interface RetryOptions {
  retryBaseMs: number;
  retryMaxMs: number;
  signal: AbortSignal;
  random: () => number;
  /** How a pause is spent; it may end early. */
  wait: (ms: number) => Promise<void>;
  /** Called for each failure before the pause; `attempt` counts from 1. */
  onFailure: (error: RecorderError, attempt: number, waitMs: number) => void;
}

/**
 * Repeats an action until it succeeds; null when stopped first. Only operating errors are retried, bugs are
 * thrown.
 */
export async function untilDone<T>(action: () => Promise<T>, options: RetryOptions): Promise<T | null> {
  for (let attempt = 1; !options.signal.aborted; attempt++) {
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof RecorderError)) throw error;
      const waitMs = backoffMs(attempt - 1, options.retryBaseMs, options.retryMaxMs, options.random);
      options.onFailure(error, attempt, waitMs);
      await options.wait(waitMs);
    }
  }
  return null;
}
