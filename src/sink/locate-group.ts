// Asks a server what it has of a group: after an answer that never came, and after a crash.

import type { SinkClient } from './clickhouse-client.ts';
import type { InsertGroup } from './insert-group.ts';
import { ServerError } from './server-error.ts';
import { quoteString } from './table-columns.ts';
import type { TablePlan } from './table-plan.ts';

/** QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING */
const ALREADY_RUNNING = 216;

/** What names a group. */
export type GroupPlace = Pick<InsertGroup, 'walId' | 'topic' | 'firstLsn' | 'lastLsn'>;

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
export function queryIdPrefix(group: GroupPlace): string {
  return `recorder-${group.walId.toString(16)}-${group.topic}-${group.firstLsn}-${group.lastLsn}-`;
}

/**
 * Whether an earlier attempt at the group still runs on the server. Throws ServerError.
 * @param queryIds attempts without an answer: a server that does not list what it runs (the embedded one)
 * still refuses the same id twice
 */
export async function isStillRunning(
  client: SinkClient,
  group: GroupPlace,
  queryIds: readonly string[],
): Promise<boolean> {
  const rows = await client.query<{ running: string }>(
    `SELECT count() AS running FROM system.processes WHERE ${isAttemptAt(group)}`,
  );
  if (Number(rows[0]?.running ?? 0) > 0) return true;
  for (const id of queryIds) if (await isTaken(client, id)) return true;
  return false;
}

/** Throws ServerError while an earlier attempt at the group still runs, or where that is not known. */
export async function expectNoneRuns(
  client: SinkClient,
  group: GroupPlace,
  queryIds: readonly string[] = [],
): Promise<true> {
  if (!(await isStillRunning(client, group, queryIds))) return true;
  throw new ServerError('unknown', null, 'an earlier attempt at the group still runs on the server');
}

/** Asks the server to end all attempts at the group, as far as it can. Throws ServerError. */
export async function killAttempts(client: SinkClient, group: InsertGroup): Promise<void> {
  await client.command(`KILL QUERY WHERE ${isAttemptAt(group)}`);
}

function isAttemptAt(group: GroupPlace): string {
  return `position(query_id, ${quoteString(queryIdPrefix(group))}) = 1`;
}

async function isTaken(client: SinkClient, queryId: string): Promise<boolean> {
  try {
    await client.query('SELECT 1 AS one', queryId);
    return false;
  } catch (error) {
    if (error instanceof ServerError && error.clickhouseCode === ALREADY_RUNNING) return true;
    throw error;
  }
}
