const INTERVAL_MS = 1000;

/** Reports how much later than planned a timer ran, each second, in seconds; returns what ends it. */
export function startLoopDelay(report: (seconds: number) => void): () => void {
  let plannedMs = performance.now() + INTERVAL_MS;
  const timer = setInterval(() => {
    const nowMs = performance.now();
    report(Math.max(0, nowMs - plannedMs) / 1000);
    plannedMs = nowMs + INTERVAL_MS;
  }, INTERVAL_MS);
  timer.unref();
  return () => clearInterval(timer);
}
