// Asks a server what it has of a group: after an answer that never came, and after a crash.

import type { SinkClient } from './clickhouse-client.ts';
import type { InsertGroup } from './insert-group.ts';
import { quoteString } from './table-columns.ts';
import type { TablePlan } from './table-plan.ts';

/** Rows of a group that the server has. */
export interface Located {
  rows: number;
  /** Greatest LSN among them; meaningless when there are none. */
  lastLsn: bigint;
}

interface LocatedRow {
  rows: string;
  last_lsn: string;
}

/** Rows that came from this group's place in this WAL, by provenance. Throws ServerError. */
export async function locateGroup(client: SinkClient, plan: TablePlan, group: InsertGroup): Promise<Located> {
  const conditions = [
    plan.ingestBetween(group.partitionStartNs, group.partitionEndNs),
    `recorder = ${quoteString(group.recorder)}`,
    `wal_id = ${group.walId}`,
    `wal_lsn BETWEEN ${group.firstLsn} AND ${group.lastLsn}`,
  ];
  return await askRows(client, plan, conditions);
}

/**
 * Rows from LSN `group.firstLsn` on, in any group and partition: what was delivered although the flush log
 * says no.
 */
export async function locateFrom(client: SinkClient, plan: TablePlan, group: InsertGroup): Promise<Located> {
  const conditions = [
    `recorder = ${quoteString(group.recorder)}`,
    `wal_id = ${group.walId}`,
    `wal_lsn >= ${group.firstLsn}`,
  ];
  return await askRows(client, plan, conditions);
}

async function askRows(client: SinkClient, plan: TablePlan, conditions: string[]): Promise<Located> {
  const rows = await client.query<LocatedRow>(
    `SELECT count() AS rows, max(wal_lsn) AS last_lsn FROM ${plan.table} WHERE ${conditions.join(' AND ')}`,
  );
  const row = rows[0];
  return { rows: Number(row?.rows ?? 0), lastLsn: BigInt(row?.last_lsn ?? 0) };
}

/** Beginning of the query ids of all attempts at a group, also of those before a restart. */
export function queryIdPrefix(group: InsertGroup): string {
  return `recorder-${group.walId.toString(16)}-${group.topic}-${group.firstLsn}-${group.lastLsn}-`;
}

/** Whether an earlier attempt at the group still runs on the server. Throws ServerError. */
export async function isStillRunning(client: SinkClient, group: InsertGroup): Promise<boolean> {
  const prefix = quoteString(queryIdPrefix(group));
  const rows = await client.query<{ running: string }>(
    `SELECT count() AS running FROM system.processes WHERE position(query_id, ${prefix}) = 1`,
  );
  return Number(rows[0]?.running ?? 0) > 0;
}
