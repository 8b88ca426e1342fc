// Delivers one insert group exactly once.
//
// - Server not reachable, busy, or without an answer: tried again for ever; the rows are safe in the WAL.
// - Refused: a bounded number of retries, then the group becomes a dead letter.
// - After an attempt whose outcome is unknown, and after a restart, the server is asked first, by provenance,
//   what it has of the group. On a server with deduplication tokens the token guards against the attempt that
//   is still on its way; on one without, nothing is sent while an earlier attempt still runs.
// - A server that died between noting a token and committing its rows calls every later attempt a duplicate
//   and has nothing (seen with 26.7, killed): so a success after an unknown outcome is checked, and a token
//   that brought nothing is given up for another.
// - A server that took only the beginning of a body (18.16 cannot tell a cut body from a short one) gets the
//   rest.

import type { FileSystem } from '../io/file-system.ts';
import { type ByteSink, reserve, resetSink, writtenBytes } from './byte-sink.ts';
import type { SinkClient } from './clickhouse-client.ts';
import { writeDeadLetter } from './dead-letter.ts';
import type { GroupOutcome } from './flush-log-format.ts';
import type { FlusherConfig, FlusherEvent } from './flusher-types.ts';
import type { BlockSlice, InsertFormat } from './group-encoder.ts';
import { type InsertGroup, rowsOf, slicesAfter } from './insert-group.ts';
import { isStillRunning, type Located, locateGroup, queryIdPrefix } from './locate-group.ts';
import { backoffMs, pause } from './retry.ts';
import { classifyFailure, ServerError } from './server-error.ts';
import { insertSettings, type TablePlan } from './table-plan.ts';

/** What a row has in an insert and not in its block: recorder, source, session, WAL id and LSN, about. */
const PROVENANCE_BYTES = 64;
/** Groups from this size on are few: a collection before each costs some milliseconds of hundreds. */
const COLLECT_FROM_BYTES = 16 * 1024 * 1024;

/** Rows that are not there after so many tokens went with the server's doing (a TTL, a mutation). */
const MAX_SPENT_TOKENS = 3;

export interface DeliveryContext {
  client: SinkClient;
  plan: TablePlan;
  config: FlusherConfig;
  fileSystem: FileSystem;
  /** Reused for every group of the topic. */
  sink: ByteSink;
  signal: AbortSignal;
  random: () => number;
  report: (event: FlusherEvent) => void;
  /** Called for every failed attempt. */
  onFailure: (error: ServerError) => void;
}

/** A group with what all its attempts share. */
export interface GroupToDeliver {
  group: InsertGroup;
  format: InsertFormat;
  token: string;
  /** An attempt may have been made before: ask the server first. */
  uncertain: boolean;
}

/** Slices still to be sent, under which token. */
interface Remainder {
  slices: BlockSlice[];
  token: string;
}

/**
 * Sends a group until its outcome is known; 'stopped' when the signal came first. Throws what is not
 * ServerError.
 */
export async function deliverGroup(
  context: DeliveryContext,
  { group, format, token, uncertain: startsUncertain }: GroupToDeliver,
): Promise<GroupOutcome | 'stopped'> {
  const { client, config, signal } = context;
  const { deduplicationTokens } = context.plan.capabilities;
  let uncertain = startsUncertain;
  let refusals = 0;
  let spentTokens = 0;
  let remainder: Remainder = { slices: group.slices, token };
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      const found = uncertain ? await askServer(context, group) : null;
      if (found?.rows === group.rowCount) return 'inserted';
      if (found !== null) remainder = remainderOf(group, tokenAfter(token, spentTokens), found);
      await insert(context, group, remainder, format, attempt);
      if (found === null || !deduplicationTokens) return 'inserted';
      if ((await hasGained(context, group, found)) || spentTokens === MAX_SPENT_TOKENS) return 'inserted';
      spentTokens++;
      throw new ServerError('unknown', null, 'the server knows the token of the group, but has not its rows');
    } catch (thrown) {
      if (!(thrown instanceof ServerError)) throw thrown;
      const error = classifyFailure(thrown);
      context.onFailure(error);
      if (error.outcome === 'refused' && refusals++ >= config.maxRetries) {
        giveUp(context, group, remainder, format, attempt + 1, error);
        return 'dead';
      }
      // Another server may only be tried while no server can have the group.
      const reached = error.clickhouseCode !== null || error.outcome === 'unknown';
      uncertain ||= error.outcome === 'unknown' || (reached && !deduplicationTokens);
      if (!reached && !uncertain) client.nextServer();
      const waitMs = backoffMs(attempt, config.retryBaseMs, config.retryMaxMs, context.random);
      const { outcome, message } = error;
      context.report({ kind: 'retry', topic: group.topic, outcome, attempt: attempt + 1, message, waitMs });
      await pause(waitMs, signal);
    }
  }
  return 'stopped';
}

/** What the server has of the group, once no attempt is on its way that only tokens could guard against. */
async function askServer({ client, plan }: DeliveryContext, group: InsertGroup): Promise<Located> {
  if (!plan.capabilities.deduplicationTokens && (await isStillRunning(client, group))) {
    throw stillRunning();
  }
  return await locateGroup(client, plan, group);
}

function remainderOf(group: InsertGroup, token: string, found: Located): Remainder {
  if (found.rows === 0) return { slices: group.slices, token };
  const slices = slicesAfter(group.slices, found.lastLsn);
  if (rowsOf(slices) + found.rows !== group.rowCount) {
    const message = `the server has ${found.rows} of the group's ${group.rowCount} rows, not its first ones`;
    throw new ServerError('refused', null, message);
  }
  return { slices, token: `${token}:after-${found.lastLsn}` };
}

/**
 * Whether an insert that succeeded after an unknown outcome has brought rows; `before` is what was there.
 * Throws while an earlier attempt still runs, and when one that was cut off took the token with only the
 * beginning.
 */
async function hasGained(
  { client, plan }: DeliveryContext,
  group: InsertGroup,
  before: Located,
): Promise<boolean> {
  let found = await locateGroup(client, plan, group);
  if (found.rows === before.rows) {
    // The token may be taken by an attempt that is about to commit: its rows are there when it has ended.
    if (await isStillRunning(client, group)) throw stillRunning();
    found = await locateGroup(client, plan, group);
    if (found.rows === before.rows) return false;
  }
  if (found.rows === group.rowCount) return true;
  // Rows that are missing elsewhere are the server's doing (a TTL, a mutation): nothing that an insert can
  // mend.
  if (rowsOf(slicesAfter(group.slices, found.lastLsn)) + found.rows !== group.rowCount) return true;
  throw new ServerError('unknown', null, `the server has only the first ${found.rows} rows of the group`);
}

/** The group's token, or, after some that brought nothing, another that is the same after every restart. */
function tokenAfter(token: string, spentTokens: number): string {
  return spentTokens === 0 ? token : `${token}:again-${spentTokens}`;
}

function stillRunning(): ServerError {
  return new ServerError('unknown', null, 'an earlier attempt at the group still runs on the server');
}

function encodeRemainder(
  context: DeliveryContext,
  group: InsertGroup,
  remainder: Remainder,
  format: InsertFormat,
) {
  resetSink(context.sink);
  const expectedBytes = group.payloadBytes + group.rowCount * PROVENANCE_BYTES;
  // The buffers of the groups before would lie around for long: large, and unseen by the collector.
  if (expectedBytes > COLLECT_FROM_BYTES) Bun.gc(true);
  // At once: growing by doubling would leave as much again, group after group.
  reserve(context.sink, expectedBytes);
  const origin = { recorder: new TextEncoder().encode(group.recorder), walId: group.walId };
  context.plan.encoder(format)(context.sink, remainder.slices, origin);
  return writtenBytes(context.sink);
}

async function insert(
  context: DeliveryContext,
  group: InsertGroup,
  remainder: Remainder,
  format: InsertFormat,
  attempt: number,
): Promise<void> {
  const { client, plan } = context;
  await client.insert({
    sql: plan.insertSql(format),
    body: encodeRemainder(context, group, remainder, format),
    // The time tells attempts before and after a restart apart.
    queryId: `${queryIdPrefix(group)}${Date.now().toString(36)}-${attempt}`,
    settings: insertSettings(plan.capabilities, remainder.token, group.rowCount),
  });
}

function giveUp(
  context: DeliveryContext,
  group: InsertGroup,
  remainder: Remainder,
  format: InsertFormat,
  attempts: number,
  error: ServerError,
): void {
  const { plan, fileSystem, config, report } = context;
  const rowCount = rowsOf(remainder.slices);
  const facts = {
    table: plan.table,
    format,
    sql: plan.insertSql(format),
    token: remainder.token,
    rowCount,
    reason: error.message,
    clickhouseCode: error.clickhouseCode,
    attempts,
    diedAt: new Date(),
  };
  const body = encodeRemainder(context, group, remainder, format);
  const path = writeDeadLetter(fileSystem, config.walDir, group, facts, body);
  const { topic, firstLsn, lastLsn } = group;
  report({ kind: 'dead_letter', topic, firstLsn, lastLsn, rowCount, reason: error.message, path });
}
