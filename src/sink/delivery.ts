// Delivers one insert group exactly once.
//
// - Server not reachable, busy, or without an answer: tried again for ever; the rows are safe in the WAL.
// - Refused: a bounded number of retries, then the group becomes a dead letter, with the rows of it that the
//   server does not have. Where an attempt went without an answer, it is asked first, and nothing is given up
//   while that attempt still runs: rows are in the table or in the letter.
// - After an attempt whose outcome is unknown, and after a restart, the server is asked first, by provenance,
//   what it has of the group. On a server with deduplication tokens the token guards against the attempt that
//   is still on its way; on one without, nothing is sent while an earlier attempt still runs, nor before
//   `settleMs` have passed: what was on its way when its connection broke (in a proxy, in the kernel of a
//   busy machine) is not seen to run yet.
// - A server that died between noting a token and committing its rows calls every later attempt a duplicate
//   and has nothing (seen with 26.7, killed): so a success after an unknown outcome is checked, and a token
//   that brought nothing is given up for another, and after some of them the group becomes a dead letter.
// - A server that took only the beginning of a body (18.16 cannot tell a cut body from a short one) gets the
//   rest.

import type { FileSystem } from '../io/file-system.ts';
import type { SinkClient } from './clickhouse-client.ts';
import { writeDeadLetter } from './dead-letter.ts';
import type { GroupOutcome } from './flush-log-format.ts';
import type { FlusherConfig, FlusherEvent } from './flusher-types.ts';
import type { InsertFormat } from './group-encoder.ts';
import { type GroupSlice, type InsertGroup, rowsOf, slicesAfter } from './insert-group.ts';
import {
  expectNoneRuns,
  isStillRunning,
  killAttempts,
  type Located,
  locateGroup,
  queryIdPrefix,
} from './locate-group.ts';
import { backoffMs, pause } from './retry.ts';
import { classifyFailure, ServerError } from './server-error.ts';
import { insertSettings, type TablePlan } from './table-plan.ts';

/** A server that says so often that it has rows, and has them not, is not believed any more. */
const MAX_SPENT_TOKENS = 3;
/** Attempts without an answer that are asked for by their ids. */
const MAX_ASKED_IDS = 8;

export interface DeliveryContext {
  client: SinkClient;
  plan: TablePlan;
  config: FlusherConfig;
  fileSystem: FileSystem;
  /** The body of an insert of these rows of a group, see groupBody; the same whenever it is asked for. */
  body: (
    group: InsertGroup,
    slices: readonly GroupSlice[],
    format: InsertFormat,
  ) => Generator<Uint8Array, void>;
  signal: AbortSignal;
  random: () => number;
  report: (event: FlusherEvent) => void;
  /** Spends the time before the next attempt. */
  wait: (ms: number) => Promise<void>;
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
  /** That attempt had more rows, which cannot be read any more: its token says nothing of this group. */
  isPart?: boolean;
}

/** Slices still to be sent, under which token. */
interface Remainder {
  slices: GroupSlice[];
  token: string;
}

/**
 * Sends a group until its outcome is known; 'stopped' when the signal came first. Throws what is not
 * ServerError.
 */
export async function deliverGroup(
  context: DeliveryContext,
  wanted: GroupToDeliver,
): Promise<GroupOutcome | 'stopped'> {
  return await new Delivery(context, wanted).run();
}

class Delivery {
  readonly #context: DeliveryContext;
  readonly #wanted: GroupToDeliver;
  #remainder: Remainder;
  /** The server may have rows of the group, or may get them. */
  #isUncertain: boolean;
  #refusals = 0;
  #spentTokens = 0;
  /** Attempts that got no answer. */
  readonly #unanswered: string[] = [];
  /** When the last of them was given up; where one may have been made before a restart, that. */
  #unansweredAtMs: number;

  constructor(context: DeliveryContext, wanted: GroupToDeliver) {
    this.#context = context;
    this.#wanted = wanted;
    this.#remainder = { slices: wanted.group.slices, token: wanted.token };
    this.#isUncertain = wanted.uncertain;
    this.#unansweredAtMs = wanted.uncertain ? performance.now() : Number.NEGATIVE_INFINITY;
  }

  async run(): Promise<GroupOutcome | 'stopped'> {
    const { signal } = this.#context;
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        if (await this.#attempt(attempt)) return 'inserted';
      } catch (thrown) {
        if (!(thrown instanceof ServerError)) throw thrown;
        const outcome = await this.#failed(thrown, attempt);
        if (outcome !== null) return outcome;
      }
    }
    return 'stopped';
  }

  /** True when the server has all rows. Throws ServerError when it is not known to have them. */
  async #attempt(attempt: number): Promise<boolean> {
    const { group, token, isPart } = this.#wanted;
    const { deduplicationTokens } = this.#context.plan.capabilities;
    const found = this.#isUncertain ? await this.#askServer() : null;
    if (found !== null) {
      if (isPart !== true && found.rows === group.rowCount) return true;
      this.#remainder = remainderOf(group, tokenAfter(token, this.#spentTokens), found, isPart);
      if (this.#remainder.slices.length === 0) return true;
    }
    await this.#insert(attempt);
    if (found === null || !deduplicationTokens || (await this.#hasGained(found))) return true;
    const isSpent = this.#spentTokens++ === MAX_SPENT_TOKENS;
    // Nothing else that the server says of it would be true: it is given up at once.
    if (isSpent) this.#refusals = Number.MAX_SAFE_INTEGER;
    const message = 'the server knows the token of the group, but has not its rows';
    throw new ServerError(isSpent ? 'refused' : 'unknown', null, message);
  }

  /** Decides what follows on a failure: an outcome, or null for another attempt, after its pause. */
  async #failed(thrown: ServerError, attempt: number): Promise<GroupOutcome | null> {
    const { client, config, random, report, onFailure, wait } = this.#context;
    let error = classifyFailure(thrown);
    onFailure(error);
    if (error.outcome === 'refused' && this.#refusals++ >= config.maxRetries) {
      const settled = await this.#settle();
      if (settled === 'inserted') return 'inserted';
      if (settled === 'settled') {
        giveUp(this.#context, this.#wanted, this.#remainder, attempt + 1, error);
        return 'dead';
      }
      error = settled;
      onFailure(error);
    }
    // Another server may only be tried while no server can have the group.
    const reached = error.clickhouseCode !== null || error.outcome === 'unknown';
    const { deduplicationTokens } = this.#context.plan.capabilities;
    this.#isUncertain ||= error.outcome === 'unknown' || (reached && !deduplicationTokens);
    if (!reached && !this.#isUncertain) client.nextServer();
    const waitMs = backoffMs(attempt, config.retryBaseMs, config.retryMaxMs, random);
    const { outcome, message } = error;
    const { topic } = this.#wanted.group;
    report({ kind: 'retry', topic, outcome, attempt: attempt + 1, message, waitMs });
    await wait(waitMs);
    return null;
  }

  /**
   * Before a group is given up: no attempt at it runs any more, and the remainder is what the server lacks.
   * Otherwise the reason why that is not so yet.
   */
  async #settle(): Promise<'inserted' | 'settled' | ServerError> {
    const { client, plan } = this.#context;
    const { group, token, isPart } = this.#wanted;
    if (!this.#isUncertain) return 'settled';
    try {
      await this.#untilSettled();
      if (await isStillRunning(client, group, this.#unanswered)) await killAttempts(client, group);
      await expectNoneRuns(client, group, this.#unanswered);
      const found = await locateGroup(client, plan, group);
      if (isPart !== true && found.rows === group.rowCount) return 'inserted';
      this.#remainder = remainderOf(group, token, found, isPart);
      return this.#remainder.slices.length === 0 ? 'inserted' : 'settled';
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      // A table that is not there, or lacks the provenance, has no rows of this group to be asked for.
      return error.outcome === 'refused' ? 'settled' : error;
    }
  }

  /** What the server has of the group, once no attempt is on its way that only tokens could guard against. */
  async #askServer(): Promise<Located> {
    const { client, plan } = this.#context;
    const { group, isPart } = this.#wanted;
    const isGuarded = plan.capabilities.deduplicationTokens && isPart !== true;
    if (!isGuarded) {
      await this.#untilSettled();
      await expectNoneRuns(client, group, this.#unanswered);
    }
    return await locateGroup(client, plan, group);
  }

  /** Waits until an attempt without an answer must have reached the server. Throws when stopped first. */
  async #untilSettled(): Promise<void> {
    const { config, signal } = this.#context;
    const restMs = this.#unansweredAtMs + config.settleMs - performance.now();
    if (restMs > 0) await pause(restMs, signal);
    if (signal.aborted) throw new ServerError('unknown', null, 'stopped while an attempt may be on its way');
  }

  /**
   * Whether an insert that succeeded after an unknown outcome has brought rows; `before` is what was there.
   * Throws while an earlier attempt still runs, and when one that was cut off took the token with only the
   * beginning.
   */
  async #hasGained(before: Located): Promise<boolean> {
    const { client, plan } = this.#context;
    const { group } = this.#wanted;
    let found = await locateGroup(client, plan, group);
    if (found.rows === before.rows) {
      // The token may be taken by an attempt that is about to commit: its rows are there when it has ended.
      await expectNoneRuns(client, group, this.#unanswered);
      found = await locateGroup(client, plan, group);
      if (found.rows === before.rows) return false;
    }
    if (found.rows === group.rowCount) return true;
    // Rows that are missing elsewhere are the server's doing (a TTL, a mutation): nothing that an insert can
    // mend.
    if (rowsOf(slicesAfter(group.slices, found.lastLsn)) + found.rows !== group.rowCount) return true;
    throw new ServerError('unknown', null, `the server has only the first ${found.rows} rows of the group`);
  }

  async #insert(attempt: number): Promise<void> {
    const { client, plan, body } = this.#context;
    const { group, format } = this.#wanted;
    // The time tells attempts before and after a restart apart.
    const queryId = `${queryIdPrefix(group)}${Date.now().toString(36)}-${attempt}`;
    try {
      await client.insert({
        sql: plan.insertSql(format),
        body: body(group, this.#remainder.slices, format),
        queryId,
        settings: insertSettings(plan.capabilities, this.#remainder.token, group.rowCount),
      });
    } catch (error) {
      if (error instanceof ServerError && error.outcome === 'unknown') {
        this.#unansweredAtMs = performance.now();
        this.#unanswered.push(queryId);
        if (this.#unanswered.length > MAX_ASKED_IDS) this.#unanswered.shift();
      }
      throw error;
    }
  }
}

/** @param isPart what was sent before had rows of which this group knows nothing */
function remainderOf(group: InsertGroup, token: string, found: Located, isPart = false): Remainder {
  if (found.rows === 0) return { slices: group.slices, token };
  const slices = slicesAfter(group.slices, found.lastLsn);
  if (!isPart && rowsOf(slices) + found.rows !== group.rowCount) {
    const message = `the server has ${found.rows} of the group's ${group.rowCount} rows, not its first ones`;
    throw new ServerError('refused', null, message);
  }
  return { slices, token: `${token}:after-${found.lastLsn}` };
}

/** The group's token, or, after some that brought nothing, another that is the same after every restart. */
function tokenAfter(token: string, spentTokens: number): string {
  return spentTokens === 0 ? token : `${token}:again-${spentTokens}`;
}

function giveUp(
  context: DeliveryContext,
  { group, format }: GroupToDeliver,
  remainder: Remainder,
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
  const body = context.body(group, remainder.slices, format);
  const path = writeDeadLetter(fileSystem, config.walDir, group, facts, body);
  const { topic, firstLsn, lastLsn } = group;
  report({ kind: 'dead_letter', topic, firstLsn, lastLsn, rowCount, reason: error.message, path });
}
