// The HTTP answers about a recorder or a loader: metrics, health, status.

import type { Routes } from '../../observe/http-server.ts';
import type { Metrics, Sample } from '../../observe/metrics.ts';
import type { HealthReport, HealthTracker } from '../health/health.ts';

export interface Watched {
  metrics: Metrics;
  samples(): Iterable<Sample>;
  health: HealthTracker;
  /** Why nothing is recorded now; empty: it is. */
  notReady(): string[];
  status(): unknown;
  /** After losses were acknowledged. */
  acknowledged(): void;
}

/** Makes the routes. */
export function watchRoutes(watched: Watched): Routes {
  const { metrics, health } = watched;
  return {
    'GET /metrics': async () =>
      new Response(await metrics.expose(watched.samples()), {
        headers: { 'content-type': metrics.contentType },
      }),
    // The answer itself is the proof: the event loop turns.
    'GET /health/live': () => json({ live: true }),
    'GET /health/ready': () => {
      const reasons = watched.notReady();
      return json({ ready: reasons.length === 0, reasons }, reasons.length === 0 ? 200 : 503);
    },
    'GET /health': () => {
      const report = health.report();
      return json(shownHealth(report), isBad(report) ? 503 : 200);
    },
    'POST /health/acknowledge': () => {
      const losses = health.acknowledge();
      watched.acknowledged();
      return json({ acknowledged: losses.length, health: shownHealth(health.report()) });
    },
    'GET /status': () => json(watched.status()),
  };
}

/** Health as JSON: times as ISO texts, what to type next with each condition. */
export function shownHealth({ state, sinceMs, conditions, recent }: HealthReport) {
  return {
    state,
    since: isoTime(sinceMs),
    conditions: conditions.map((condition) => ({ ...condition, since: isoTime(condition.sinceMs) })),
    recent: recent.map((change) => ({ ...change, at: isoTime(change.atMs) })),
  };
}

const isBad = ({ state }: HealthReport) => state === 'critical' || state === 'data_loss';
const isoTime = (ms: number) => new Date(ms).toISOString();

function json(value: unknown, status = 200): Response {
  return new Response(`${JSON.stringify(value, exactNumbers)}\n`, {
    status,
    headers: { 'content-type': 'application/json' },
  });
}

function exactNumbers(_key: string, value: unknown): unknown {
  if (typeof value !== 'bigint') return value;
  return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
}
