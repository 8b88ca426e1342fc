// What `GET /api/live` answers: the contract between the recorder and its page.

/** Values by metric name, then by label values joined with '/' in the sample's order; '' without labels. */
export type MetricValues = Record<string, Record<string, number>>;

export interface Condition {
  tag: string;
  subject: string;
  state: 'degraded' | 'critical' | 'data_loss';
  message: string;
  /** What to type next. */
  command: string;
  sinceMs: number;
  /** Rows, frames or sequence numbers lost; 0 where nothing is. */
  count: number;
}

export interface HealthChange {
  kind: string;
  atMs: number;
  from: string;
  to: string;
  added: number;
  condition: Condition;
}

export interface ShownHealth {
  state: 'healthy' | Condition['state'];
  /** ISO time. */
  since: string;
  /** Worst first. */
  conditions: Condition[];
  /** Oldest first. */
  recent: HealthChange[];
}

/** A point of the plots; null: nothing to show there. */
export interface Point {
  /** Rises by one; tells a reader what it has already. */
  number: number;
  atMs: number;
  /** Rows a second since the point before, by topic. */
  received: Record<string, number>;
  /** Rows a second delivered, all topics; null without a flusher. */
  inserted: number | null;
  /** Percentiles over the last few seconds, in seconds. */
  durableP50: number | null;
  durableP99: number | null;
  insertedP50: number | null;
  insertedP99: number | null;
  lagRows: number | null;
  lagSeconds: number | null;
  walBytes: number | null;
  freeBytes: number | null;
  memoryFill: number | null;
}

/** What the page is about. */
export interface Identity {
  name: string;
  version: string;
  mode: string;
  walDir: string;
  walId: string;
  topics: readonly string[];
}

export interface Question {
  title: string;
  sql: string;
}

/** Whether rows go to ClickHouse; `wal_first`: another process delivers them. */
export type Delivery = 'on' | 'off' | 'wal_first';

export interface Live {
  atMs: number;
  /** Start of the process: another one is another history. */
  startedMs: number;
  identity: Identity | null;
  health: ShownHealth;
  /** Why nothing is recorded now; empty: it is. */
  notReady: string[];
  delivery: Delivery;
  /** Whether ClickHouse answers a ping; asked only while it is said to be unreachable, else null. */
  answers: boolean | null;
  sql: { enabled: boolean; questions: readonly Question[] };
  values: MetricValues;
  /** Number of the newest point. */
  number: number;
  points: Point[];
}

/** Newest rows of a topic, newest first. */
export interface TapRows {
  rows: Record<string, unknown>[];
  /** Names of the topic's own columns in their order. */
  columns: readonly string[];
}

/** What the page gets for a statement. */
export interface SqlAnswer {
  columns?: { name: string; type: string }[];
  rows?: unknown[][];
  /** Output of a statement that names a FORMAT of its own. */
  text?: string;
  /** Rows or bytes were left out. */
  truncated?: boolean;
  seconds?: number;
  readRows?: number;
  error?: string;
}
