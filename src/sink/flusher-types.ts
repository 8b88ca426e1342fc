// What the flusher is told and what it tells. Plain data: it crosses the border of a Worker.

import type { ClickHouseAddress } from './clickhouse-client.ts';
import type { InsertFormat } from './group-encoder.ts';
import type { Outcome } from './server-error.ts';

export interface FlusherConfig {
  walDir: string;
  clickhouse: ClickHouseAddress;
  database: string;
  format: InsertFormat;
  /** Rows that close a group. */
  flushRows: number;
  /** Payload bytes that close a group. */
  flushBytes: number;
  /** Age that closes a group, from its first row's reading. */
  flushIntervalMs: number;
  /** Retries of a group that the server refuses; then it becomes a dead letter. */
  maxRetries: number;
  retryBaseMs: number;
  retryMaxMs: number;
  /**
   * On a server without deduplication tokens: how long an attempt without an answer may be on its way before
   * the server has it.
   */
  settleMs: number;
}

/** What the flusher says while it runs. */
export type FlusherEvent =
  | { kind: 'connected'; url: string; version: string; deduplicationTokens: boolean }
  /** Another flusher delivers this WAL; this one begins when that one ends. */
  | { kind: 'waiting'; message: string }
  /** An attempt failed; `topic` is null while connecting. Sent for every attempt. */
  | {
      kind: 'retry';
      topic: string | null;
      outcome: Outcome;
      attempt: number;
      message: string;
      waitMs: number;
    }
  /** A server that somebody waits for does not answer at all; `sinceMs` is the wall clock's. */
  | { kind: 'silent'; url: string; sinceMs: number; message: string }
  /** It answers again. */
  | { kind: 'answers'; url: string; silentMs: number }
  /** A group is at the server; `oldestNs` is the ingest time of its first row, ns since 1970. */
  | {
      kind: 'inserted';
      topic: string;
      rowCount: number;
      payloadBytes: number;
      seconds: number;
      oldestNs: bigint;
    }
  /** A topic delivers again after retries, or its table was put right. */
  | { kind: 'recovered'; topic: string | null }
  /** The disk has no room for the flusher's own files: nothing is delivered until it has. */
  | { kind: 'no_room'; message: string }
  /** A topic cannot be delivered until an operator acts; its rows stay in the WAL and it is tried again. */
  | { kind: 'blocked'; topic: string; code: string; message: string }
  | {
      kind: 'dead_letter';
      topic: string;
      firstLsn: bigint;
      lastLsn: bigint;
      rowCount: number;
      reason: string;
      path: string;
    }
  /** Rows that cannot be read from the WAL. */
  | {
      kind: 'damage';
      topic: string | null;
      segment: string;
      firstLsn: bigint;
      lastLsn: bigint;
      reason: string;
    }
  /** The server already had rows that the flush log did not know of. */
  | { kind: 'resumed_from_server'; topic: string; nextLsn: bigint; rows: number }
  /** The flusher stopped for good, or a topic's part of it (`topic`): restart needed. */
  | { kind: 'failed'; topic: string | null; code: string; message: string };

export type TopicState =
  | 'starting'
  | 'idle'
  | 'collecting'
  | 'inserting'
  | 'retrying'
  | 'blocked'
  | 'failed'
  | 'stopped';

export interface TopicStats {
  topic: string;
  table: string;
  state: TopicState;
  /** Since the flush log began. */
  insertedRows: bigint;
  insertedGroups: number;
  deadRows: bigint;
  deadGroups: number;
  /** Failed attempts since the start. */
  retries: number;
  /** All rows of the topic below this LSN are delivered (or dead letters). */
  deliveredLsn: bigint;
  lastError: string | null;
}

export interface FlusherStats {
  topics: TopicStats[];
  /** First LSN that is not durable yet; 0 while the WAL is not there. */
  durableLsn: bigint;
}

export interface DrainResult {
  /** Whether all durable rows were delivered. */
  complete: boolean;
  /** Rows left in the WAL, by topic; only topics with some. */
  left: { topic: string; rows: bigint }[];
  /** Why delivery, or that of a topic, had ended for good; absent where it had not. */
  failure?: string;
}
