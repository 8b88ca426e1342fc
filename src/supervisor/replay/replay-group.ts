// Sends the rows of a group that its table does not have, and looks again until it has them all.
//
// Rows are known by (recorder, wal_id, wal_lsn). Before every attempt the server is asked which of them it
// has, once no attempt of this replay runs there any more: so an unknown outcome doubles nothing, and a row
// that is there is never sent.

import { RecorderError } from '../../errors.ts';
import { createByteSink, resetSink, writtenBytes } from '../../sink/byte-sink.ts';
import type { SinkClient } from '../../sink/clickhouse-client.ts';
import type { BlockSlice, InsertFormat } from '../../sink/group-encoder.ts';
import { backoffMs, pause } from '../../sink/retry.ts';
import { ServerError } from '../../sink/server-error.ts';
import { quoteString } from '../../sink/table-columns.ts';
import { insertSettings, type TablePlan } from '../../sink/table-plan.ts';
import { findDifferences, type LsnRange } from './lsn-difference.ts';
import type { LsnRun } from './wal-survey.ts';

/** Rows of one topic, schema, WAL and partition, in LSN order. */
export interface ReplayGroup {
  topic: string;
  recorder: string;
  walId: bigint;
  partitionStartNs: bigint;
  partitionEndNs: bigint;
  slices: BlockSlice[];
}

export interface ReplayServer {
  client: SinkClient;
  format: InsertFormat;
  /** Attempts after the first. */
  maxRetries: number;
  retryBaseMs: number;
  retryMaxMs: number;
  /** Names this replay in query ids and tokens: another one may send the same rows again. */
  id: string;
  signal: AbortSignal;
}

/** The rows do not get to the server; what was sent before stays there. */
export class ReplayError extends RecorderError {
  constructor(message: string, cause?: unknown) {
    super('replay', message, { cause, hint: 'run the same replay again: rows that are there are not sent' });
  }
}

const sink = createByteSink();

/** Rows as runs of LSNs, neighbours joined. */
export function runsOf(slices: readonly BlockSlice[]): LsnRun[] {
  const runs: LsnRun[] = [];
  for (const { lsn, fromRow, toRow } of slices) {
    const firstLsn = lsn + BigInt(fromRow);
    const last = runs.at(-1);
    if (last !== undefined && last.firstLsn + BigInt(last.rowCount) === firstLsn)
      last.rowCount += toRow - fromRow;
    else runs.push({ firstLsn, rowCount: toRow - fromRow });
  }
  return runs;
}

export function rowCountOf(slices: readonly BlockSlice[]): number {
  return slices.reduce((sum, { fromRow, toRow }) => sum + toRow - fromRow, 0);
}

/**
 * The slices' rows that a table does not have. `plan` null: there is no table. Throws ServerError.
 */
export async function missingSlices(
  client: SinkClient,
  plan: Pick<TablePlan, 'table' | 'ingestBetween'> | null,
  group: ReplayGroup,
): Promise<BlockSlice[]> {
  if (plan === null) return group.slices;
  const runs = runsOf(group.slices);
  const last = runs.at(-1)!;
  const firstLsn = runs[0]!.firstLsn;
  const endLsn = last.firstLsn + BigInt(last.rowCount);
  const filter =
    `${plan.ingestBetween(group.partitionStartNs, group.partitionEndNs)}` +
    ` AND recorder = ${quoteString(group.recorder)} AND wal_id = ${group.walId} AND wal_lsn < ${endLsn}`;
  const source = { client, table: plan.table, filter };
  const { missing } = await findDifferences(source, runs, firstLsn, endLsn);
  return group.slices.flatMap((slice) => within(slice, missing));
}

function within(slice: BlockSlice, ranges: readonly LsnRange[]): BlockSlice[] {
  const parts: BlockSlice[] = [];
  for (const { firstLsn, lastLsn } of ranges) {
    const fromRow = Math.max(slice.fromRow, Number(firstLsn - slice.lsn));
    const toRow = Math.min(slice.toRow, Number(lastLsn - slice.lsn) + 1);
    if (fromRow < toRow) parts.push({ ...slice, fromRow, toRow });
  }
  return parts;
}

/**
 * Sends what the table lacks, and does not return before it is there. Returns the rows sent. Throws
 * ReplayError when the server refuses or does not answer.
 */
export async function sendMissing(
  server: ReplayServer,
  plan: TablePlan,
  group: ReplayGroup,
): Promise<number> {
  const { client, signal } = server;
  let sent = 0;
  let spentTokens = 0;
  let failure: unknown;
  for (let attempt = 0; attempt <= server.maxRetries + 1 && !signal.aborted; attempt++) {
    try {
      if (attempt > 0) await awaitEarlier(server);
      const slices = await missingSlices(client, plan, group);
      if (slices.length === 0) return sent;
      // One more look after the last attempt.
      if (attempt > server.maxRetries) break;
      if (attempt === 0 || sent === 0) sent = rowCountOf(slices);
      await insert(server, plan, group, slices, attempt, spentTokens);
      // Where the rows are not there after this, the server knows the token without having them.
      spentTokens++;
      failure = undefined;
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      failure = error;
      const waitMs = backoffMs(attempt, server.retryBaseMs, server.retryMaxMs, Math.random);
      await pause(waitMs, signal);
    }
  }
  const [first, last] = [group.slices[0]!, group.slices.at(-1)!];
  const range = `${first.lsn + BigInt(first.fromRow)} to ${last.lsn + BigInt(last.toRow - 1)}`;
  throw new ReplayError(`${group.topic}: rows with LSN ${range} are not all at the server`, failure);
}

/** An attempt whose answer was lost may still be on its way. */
async function awaitEarlier({ client, id }: ReplayServer): Promise<void> {
  const rows = await client.query<{ running: string }>(
    `SELECT count() AS running FROM system.processes WHERE position(query_id, ${quoteString(id)}) = 1`,
  );
  if (Number(rows[0]?.running ?? 0) > 0) {
    throw new ServerError('unknown', null, 'an earlier attempt still runs on the server');
  }
}

async function insert(
  { client, format, id }: ReplayServer,
  plan: TablePlan,
  group: ReplayGroup,
  slices: readonly BlockSlice[],
  attempt: number,
  spentTokens: number,
): Promise<void> {
  resetSink(sink);
  const origin = { recorder: new TextEncoder().encode(group.recorder), walId: group.walId };
  plan.encoder(format)(sink, slices, origin);
  const body = writtenBytes(sink);
  const rows = rowCountOf(slices);
  const token = `${id}:${group.topic}:${Bun.hash.xxHash3(body).toString(16)}:${spentTokens}`;
  const queryId = `${id}-${group.topic}-${crypto.randomUUID()}-${attempt}`;
  const settings = insertSettings(plan.capabilities, token, rows);
  await client.insert({ sql: plan.insertSql(format), body, queryId, settings });
}
