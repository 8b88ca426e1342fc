// Replay of dead letters: from the WAL while it has their rows, else from the body that was kept.
//
// A letter is done when the server has been seen to have every row of its group; then it is moved to
// `dead-letter/replayed/`, body first, so that a description never stands there without one. A letter whose
// group the flusher has not finished is left alone: the flusher may deliver it yet.

import { describeError, RecorderError } from '../../errors.ts';
import type { FileSystem } from '../../io/file-system.ts';
import {
  bodyChecksum,
  DEAD_LETTER_DIRECTORY,
  type DeadLetter,
  listDeadLetters,
} from '../../sink/dead-letter.ts';
import { queryIdPrefix } from '../../sink/locate-group.ts';
import { backoffMs, pause } from '../../sink/retry.ts';
import { ServerError } from '../../sink/server-error.ts';
import { quoteString } from '../../sink/table-columns.ts';
import { insertSettings } from '../../sink/table-plan.ts';
import { openHorizon } from '../../wal/horizon.ts';
import { type ReplayOptions, replayTopic, topicsOf, unfinishedLsn } from './replay.ts';
import { ALL_ROWS } from './replay-filter.ts';
import { ReplayError } from './replay-group.ts';

export const REPLAYED_DIRECTORY = 'replayed';
const READ_SIZE_BYTES = 512 * 1024;

/**
 * `replayed`: rows were sent. `present`: the server had them all. `unfinished`: the flusher is still at it.
 * `failed`: stays as it is, see `message`.
 */
export type LetterOutcome = 'replayed' | 'present' | 'unfinished' | 'failed';

export interface ReplayedLetter {
  topic: string;
  firstLsn: string;
  lastLsn: string;
  rowCount: number;
  outcome: LetterOutcome;
  /** Rows sent, or with `dryRun` rows that would be. */
  sent: number;
  message: string | null;
}

/** Replays all dead letters, or those of a topic, oldest first. A letter that fails holds no other up. */
export async function replayDeadLetters(
  options: ReplayOptions,
  topic: string | null,
  report: (letter: ReplayedLetter) => void,
): Promise<ReplayedLetter[]> {
  const { fileSystem, dir, signal } = options;
  const letters = listDeadLetters(fileSystem, dir)
    .filter((letter) => topic === null || letter.topic === topic)
    .sort((a, b) => (BigInt(a.firstLsn) < BigInt(b.firstLsn) ? -1 : 1));
  const done: ReplayedLetter[] = [];
  for (const letter of letters) {
    if (signal.aborted) break;
    const { topic: name, firstLsn, lastLsn, rowCount } = letter;
    const facts = { topic: name, firstLsn, lastLsn, rowCount };
    let result: ReplayedLetter;
    try {
      result = { ...facts, message: null, ...(await replayLetter(options, letter)) };
      const isDone = result.outcome === 'replayed' || result.outcome === 'present';
      if (isDone && !options.dryRun) setAside(fileSystem, dir, letter);
    } catch (error) {
      if (!(error instanceof RecorderError)) throw error;
      result = { ...facts, outcome: 'failed', sent: 0, message: describeError(error) };
    }
    done.push(result);
    report(result);
  }
  return done;
}

async function replayLetter(
  options: ReplayOptions,
  letter: DeadLetter,
): Promise<Pick<ReplayedLetter, 'outcome' | 'sent'>> {
  const { fileSystem, dir } = options;
  const isOwn = openHorizon(fileSystem, dir)?.walId === BigInt(`0x${letter.walId}`);
  const unfinished = isOwn ? unfinishedLsn(fileSystem, dir, letter.topic) : null;
  // Without a flush log nothing is known of the flusher, and it will ask the server first.
  if (unfinished !== null && unfinished !== 0n && unfinished <= BigInt(letter.lastLsn)) {
    return { outcome: 'unfinished', sent: 0 };
  }
  const fromWal =
    isOwn && unfinished !== null && unfinished !== 0n ? await replayFromWal(options, letter) : null;
  const sent = fromWal ?? (await replayBody(options, letter));
  return { outcome: sent > 0 ? 'replayed' : 'present', sent };
}

/** Rows sent; null when the WAL no longer has all rows of the letter's group. */
async function replayFromWal(options: ReplayOptions, letter: DeadLetter): Promise<number | null> {
  const { fileSystem, dir } = options;
  const model = topicsOf(fileSystem, dir).find(({ topic }) => topic === letter.topic);
  if (model === undefined) return null;
  const range = { fromLsn: BigInt(letter.firstLsn), endLsn: BigInt(letter.lastLsn) + 1n };
  const filter = { ...ALL_ROWS, ...range, topic: letter.topic };
  // Looked at first: a part of a group is not sent when the rest is in the body alone.
  let isWhole = true;
  const onDamage = () => {
    isWhole = false;
  };
  const there = await replayTopic({ ...options, dryRun: true, onDamage }, model, filter);
  if (!isWhole || there.selected !== groupRowsOf(letter)) return null;
  if (options.dryRun) return there.sent;
  return (await replayTopic(options, model, filter)).sent;
}

/** Rows of the group; a letter may hold only those that the server did not take. */
function groupRowsOf({ groupRowCount, rowCount }: DeadLetter): number {
  return groupRowCount ?? rowCount;
}

/**
 * Sends the body as it was kept, all of it or nothing, until the server has every row of the group. It is
 * asked before every attempt, once none runs there any more. Returns the rows sent.
 */
async function replayBody(options: ReplayOptions, letter: DeadLetter): Promise<number> {
  const { dryRun, maxRetries, retryBaseMs, retryMaxMs, signal } = options;
  const groupRows = groupRowsOf(letter);
  let sent = 0;
  let spentTokens = 0;
  let failure: unknown;
  for (let attempt = 0; attempt <= maxRetries + 1 && !signal.aborted; attempt++) {
    try {
      await awaitAttempts(options, letter);
      const found = await countGroup(options, letter);
      if (found === groupRows) return sent;
      if (found !== groupRows - letter.rowCount) {
        throw new ReplayError(
          `the server has ${found} of the group's ${groupRows} rows, the WAL no longer has them all`,
        );
      }
      checkBody(options, letter);
      if (dryRun) return letter.rowCount;
      // One more look after the last attempt.
      if (attempt > maxRetries) break;
      sent = letter.rowCount;
      await sendBody(options, letter, attempt, spentTokens);
      // Where the rows are not there after this, the server knows the token without having them.
      spentTokens++;
      failure = undefined;
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      if (error.outcome === 'refused') throw error;
      failure = error;
      await pause(backoffMs(attempt, retryBaseMs, retryMaxMs, Math.random), signal);
    }
  }
  throw new ReplayError(`${letter.bodyFile} did not bring the server all of its rows`, failure);
}

/** The letter's own token may be spent, known to a server that has not its rows: a replay has its own. */
async function sendBody(
  options: ReplayOptions,
  letter: DeadLetter,
  attempt: number,
  spentTokens: number,
): Promise<void> {
  const { client, capabilities, id } = options;
  await client.insert({
    sql: letter.sql,
    body: readBody(options, letter),
    queryId: `${attemptsPrefix(letter)}${id}-${attempt}`,
    settings: insertSettings(capabilities, `${letter.token}:${id}-${spentTokens}`, letter.rowCount),
  });
}

/** Throws while an attempt at the letter's group, of the flusher or of a replay, still runs on the server. */
async function awaitAttempts({ client }: ReplayOptions, letter: DeadLetter): Promise<void> {
  const rows = await client.query<{ running: string }>(
    'SELECT count() AS running FROM system.processes' +
      ` WHERE position(query_id, ${quoteString(attemptsPrefix(letter))}) = 1`,
  );
  if (Number(rows[0]?.running ?? 0) === 0) return;
  throw new ServerError('unknown', null, 'an earlier attempt still runs on the server');
}

function attemptsPrefix({ walId, topic, firstLsn, lastLsn }: DeadLetter): string {
  const lsns = { firstLsn: BigInt(firstLsn), lastLsn: BigInt(lastLsn) };
  return queryIdPrefix({ walId: BigInt(`0x${walId}`), topic, ...lsns });
}

async function countGroup({ client }: ReplayOptions, letter: DeadLetter): Promise<number> {
  const { table, recorder, walId, firstLsn, lastLsn } = letter;
  const rows = await client.query<{ rows: string }>(
    `SELECT uniqExact(wal_lsn) AS rows FROM ${table} WHERE recorder = ${quoteString(recorder)}` +
      ` AND wal_id = ${BigInt(`0x${walId}`)} AND wal_lsn BETWEEN ${firstLsn} AND ${lastLsn}`,
  );
  return Number(rows[0]?.rows ?? 0);
}

/** Throws where the body is not what was written. */
function checkBody(options: ReplayOptions, letter: DeadLetter): void {
  let sizeBytes = 0;
  const counted = function* () {
    for (const piece of readBody(options, letter)) {
      sizeBytes += piece.length;
      yield piece;
    }
  };
  if (bodyChecksum(counted()) === letter.bodyChecksum && sizeBytes === letter.bodySizeBytes) return;
  throw new ReplayError(`${letter.bodyFile} is damaged`);
}

function* readBody({ fileSystem, dir }: ReplayOptions, letter: DeadLetter): Generator<Uint8Array, void> {
  const file = fileSystem.open(`${dir}/${DEAD_LETTER_DIRECTORY}/${letter.bodyFile}`, 'read');
  try {
    for (let position = 0; ; ) {
      const piece = new Uint8Array(READ_SIZE_BYTES);
      const length = file.read(piece, position);
      if (length === 0) return;
      position += length;
      yield piece.subarray(0, length);
    }
  } finally {
    file.close();
  }
}

function setAside(fileSystem: FileSystem, dir: string, { bodyFile }: DeadLetter): void {
  const from = `${dir}/${DEAD_LETTER_DIRECTORY}`;
  const to = `${from}/${REPLAYED_DIRECTORY}`;
  fileSystem.mkdir(to);
  for (const name of [bodyFile, bodyFile.replace(/\.body$/, '.json')]) {
    // A replay that was killed here has moved the body already.
    if (fileSystem.exists(`${from}/${name}`)) fileSystem.rename(`${from}/${name}`, `${to}/${name}`);
    fileSystem.syncDirectoryNow(to);
    fileSystem.syncDirectoryNow(from);
  }
}
