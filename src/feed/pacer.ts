import { FeedError } from './feed-error.ts';

/** How fast a feed is played: as fast as the recorder takes it, or a multiple of the recorded time. */
export type Speed = 'max' | number;

/** Reads `max`, `1x`, `10x`, `0.5x`. @throws FeedError for anything else */
export function parseSpeed(text: string): Speed {
  if (text === 'max') return 'max';
  const factor = /^(\d+(?:\.\d+)?)x?$/.exec(text)?.[1];
  if (factor === undefined || Number(factor) <= 0)
    throw new FeedError('feed_usage', `--speed ${text}: expected max, or a factor as 1x, 10x, 0.5x`);
  return Number(factor);
}

/** Says how long to wait before an event is due. */
export type Pacer = (eventTimeNs: bigint) => number;

/**
 * Makes the pacer of one replay; the first event it is asked for is due at once. Returns milliseconds, 0
 * for now.
 */
export function createPacer(factor: number, nowMs: () => number = performance.now.bind(performance)): Pacer {
  let firstNs: bigint | null = null;
  let startMs = 0;
  return (eventTimeNs) => {
    if (firstNs === null) {
      firstNs = eventTimeNs;
      startMs = nowMs();
    }
    const dueMs = startMs + Number(eventTimeNs - firstNs) / 1e6 / factor;
    return Math.max(0, dueMs - nowMs());
  };
}
