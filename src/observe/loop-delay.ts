import { everySecond } from '../every-second.ts';

/** Reports how much later than planned a timer ran, each second, in seconds; returns what ends it. */
export function startLoopDelay(report: (seconds: number) => void): () => void {
  let lastMs = performance.now();
  return everySecond(() => {
    const nowMs = performance.now();
    report(Math.max(0, nowMs - lastMs - 1000) / 1000);
    lastMs = nowMs;
  });
}
