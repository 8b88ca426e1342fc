// The last minutes as points, one a second, so that a page that is opened now shows what was before. Pure.

import type { MetricValues, Point } from './live.ts';
import { type Buckets, greatestOf, quantileBetween, totalOf } from './snapshot.ts';

/** What one look at the metrics found. */
export interface Look {
  atMs: number;
  values: MetricValues;
  durable: Buckets;
  inserted: Buckets;
}

/** Looks that one percentile spans: a second alone has too few syncs for a 99th. */
const LATENCY_WINDOW = 5;

export class History {
  readonly #capacity: number;
  readonly #points: Point[] = [];
  /** Oldest first, `LATENCY_WINDOW` + 1 at most. */
  readonly #looks: Look[] = [];
  #number = 0;

  /** @param capacity points that are kept */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Number of the newest point; 0: none yet. */
  get number(): number {
    return this.#number;
  }

  /** Adds a point; the first look only gives later ones something to compare with. */
  add(look: Look): void {
    const before = this.#looks.at(-1);
    this.#looks.push(look);
    if (before === undefined) return;
    this.#number++;
    this.#points.push(pointOf(this.#number, this.#looks[0]!, before, look));
    if (this.#looks.length > LATENCY_WINDOW) this.#looks.shift();
    if (this.#points.length > this.#capacity) this.#points.shift();
  }

  /** Points with a greater number, oldest first; all when `number` is not one of this history. */
  after(number: number): Point[] {
    if (number > this.#number || number <= 0) return [...this.#points];
    return this.#points.filter((point) => point.number > number);
  }
}

function pointOf(
  number: number,
  windowStart: Look,
  before: Look,
  { atMs, values, durable, inserted }: Look,
): Point {
  const seconds = Math.max(0.001, (atMs - before.atMs) / 1000);
  const received: Record<string, number> = {};
  for (const [topic, rows] of Object.entries(values['recorder_received_rows_total'] ?? {})) {
    received[topic] =
      Math.max(0, rows - (before.values['recorder_received_rows_total']?.[topic] ?? rows)) / seconds;
  }
  const delivered = 'recorder_inserted_rows_total';
  const hadDelivered = before.values[delivered] !== undefined && values[delivered] !== undefined;
  const addedRows = totalOf(values, delivered) - totalOf(before.values, delivered);
  const { durable: durableBefore, inserted: insertedBefore } = windowStart;
  return {
    number,
    atMs,
    received,
    inserted: hadDelivered ? Math.max(0, addedRows) / seconds : null,
    durableP50: quantileBetween(durableBefore, durable, 0.5),
    durableP99: quantileBetween(durableBefore, durable, 0.99),
    insertedP50: quantileBetween(insertedBefore, inserted, 0.5),
    insertedP99: quantileBetween(insertedBefore, inserted, 0.99),
    lagRows: values['recorder_lag_rows'] === undefined ? null : totalOf(values, 'recorder_lag_rows'),
    lagSeconds: greatestOf(values, 'recorder_lag_seconds'),
    walBytes: greatestOf(values, 'recorder_wal_bytes'),
    freeBytes: greatestOf(values, 'recorder_disk_free_bytes'),
    memoryFill: greatestOf(values, 'recorder_memory_fill_ratio'),
  };
}
