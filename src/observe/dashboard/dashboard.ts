// The page for people: served by the recorder, with all it needs in the program itself.
//
// Invariants
// - The page shows what /metrics and /health say: its values are read from the same samples.
// - Nothing is done for a row: a look at the metrics each second; rows are read and decoded when a page asks.
// - SQL from the page is read-only at the server; its answer is bounded in rows, bytes and time.
// - No credential, and no address of a server, reaches the page.
//
// Life cycle: createDashboard → looks each second, requests → stop.

import { everySecond } from '../../every-second.ts';
import type { Routes } from '../http-server.ts';
import type { Metrics, Sample } from '../metrics.ts';
import { pageRoutes } from './assets.ts';
import { History } from './history.ts';
import type { Delivery, Identity, Live, ShownHealth, TapRows } from './live.ts';
import { bucketsOf, type HistogramValue, valuesOf } from './snapshot.ts';
import { answerSql, type SqlConsole } from './sql-console.ts';

export interface DashboardOptions {
  metrics: Pick<Metrics, 'durable' | 'inserted'>;
  samples(): Iterable<Sample>;
  identity(): Identity | null;
  /** Health as JSON shows it. */
  health(): ShownHealth;
  /** Why nothing is recorded now; empty: it is. */
  notReady(): string[];
  delivery(): Delivery;
  /** Whether ClickHouse answers; called with whether it is said to be unreachable. */
  answers(isUnreachable: boolean): boolean | null;
  /** Newest durable rows; null for an unknown topic. */
  tap(topic: string, limit: number): TapRows | null;
  /** Null: ClickHouse is not configured. */
  sql(): SqlConsole | null;
  onError(error: unknown): void;
}

export interface Dashboard {
  readonly routes: Routes;
  stop(): void;
}

const HISTORY_POINTS = 600;
const SENT_CHANGES = 100;
/** Tag of the condition that rows wait because no server takes them. */
const UNREACHABLE = 'clickhouse_unreachable';
const MAX_TAP_ROWS = 50;
const DEFAULT_TAP_ROWS = 12;

/** Makes the routes of the page and begins to keep its history. */
export function createDashboard(options: DashboardOptions): Dashboard {
  const history = new History(HISTORY_POINTS);
  const startedMs = Date.now() - performance.now();
  let isLooking = false;
  const look = async () => {
    if (isLooking) return;
    isLooking = true;
    try {
      const [durable, inserted] = await Promise.all([
        options.metrics.durable.get(),
        options.metrics.inserted.get(),
      ]);
      history.add({
        atMs: Date.now(),
        values: valuesOf(options.samples()),
        durable: bucketsOf(durable.values as HistogramValue[]),
        inserted: bucketsOf(inserted.values as HistogramValue[]),
      });
    } catch (error) {
      options.onError(error);
    } finally {
      isLooking = false;
    }
  };
  const stop = everySecond(() => void look());
  void look();
  const routes: Routes = {
    ...pageRoutes(),
    'GET /api/live': (_, url) => {
      const sql = options.sql();
      const health = options.health();
      return json({
        atMs: Date.now(),
        startedMs,
        identity: options.identity(),
        health: { ...health, recent: health.recent.slice(-SENT_CHANGES) },
        notReady: options.notReady(),
        delivery: options.delivery(),
        answers: options.answers(health.conditions.some(({ tag }) => tag === UNREACHABLE)),
        sql: { enabled: sql !== null, questions: sql?.questions ?? [] },
        values: valuesOf(options.samples()),
        number: history.number,
        points: history.after(Number(url.searchParams.get('after') ?? 0)),
      } satisfies Live);
    },
    'GET /api/tap': (_, url) => {
      const limit = Number(url.searchParams.get('limit') ?? DEFAULT_TAP_ROWS);
      const bounded = Number.isInteger(limit) ? Math.min(Math.max(limit, 1), MAX_TAP_ROWS) : DEFAULT_TAP_ROWS;
      const rows = options.tap(url.searchParams.get('topic') ?? '', bounded);
      return rows === null ? json({ error: 'no such topic' }, 404) : json(rows);
    },
    'POST /api/sql': async (request) => await answerSql(options.sql(), await request.text()),
  };
  return { routes, stop };
}

function json(value: unknown, status = 200): Response {
  return Response.json(value, { status });
}
