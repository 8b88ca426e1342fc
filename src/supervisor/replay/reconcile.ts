// Reconciliation: what came in, what the WAL holds, and what ClickHouse has, row by row. Nothing is believed
// that can be counted: logged rows are counted in the WAL, inserted rows in ClickHouse, by (recorder, wal_id,
// wal_lsn).
//
// Of each topic, below the WAL's durable horizon: logged    rows in the WAL, rows of trimmed segments
// included inserted  different LSNs in the topic's table pending   rows that no finished insert group has,
// and that are not in the table yet dead      rows in dead letters lost      received - logged, and logged -
// inserted - pending - dead: rows that should be there and are not duplicated  rows in the table beyond one
// for each LSN foreign   LSNs in the table that are no row of the topic in the WAL

import type { FileSystem } from '../../io/file-system.ts';
import type { SqlClient } from '../../sink/clickhouse-client.ts';
import { type DeadLetter, listDeadLetters } from '../../sink/dead-letter.ts';
import { readFlushLog } from '../../sink/flush-log.ts';
import { ServerError } from '../../sink/server-error.ts';
import { areAccepted, readAcceptedLosses } from '../../wal/accepted-losses.ts';
import { type RecorderState, type RecorderStatus, readStatus, recorderState } from '../status-file.ts';
import { rowsOf, splitByRanges, splitRanges } from './accepted-rows.ts';
import { findDifferences, type LsnRange } from './lsn-difference.ts';
import { rowsFrom, surveyWal, type TopicSurvey, type WalSurvey } from './wal-survey.ts';

/** Counts of one topic, or of all. */
export interface Counts {
  received: number;
  logged: number;
  inserted: number;
  /**
   * Sequence numbers that never came. A missing frame's topic is not known: 0 in every topic, counted
   * overall.
   */
  gaps: number;
  lost: number;
  duplicated: number;
  pending: number;
  deadLettered: number;
  foreign: number;
}

/** One topic, with the LSN ranges that explain a mismatch; at most the first 100. */
export interface TopicReport extends Counts {
  table: string;
  missingLsns: LsnRange[];
  foreignLsns: LsnRange[];
}

/** The answer of `recorder reconcile`. */
export interface ReconcileReport extends Counts {
  recorder: string;
  walId: string;
  /** Refused frames; they are in the quarantine, not among received. */
  malformed: number;
  /** Frames that a producer sent again and that were recognised; not among received. */
  resent: number;
  topics: Record<string, TopicReport>;
  /** LSN ranges of the WAL that cannot be read. */
  damaged: LsnRange[];
  /** Those whose loss an operator has accepted, and how many of their rows no table has either. */
  accepted: LsnRange[];
  acceptedRows: number;
  /** received = logged = inserted for every topic, and nothing lost, duplicated, foreign or damaged. */
  matches: boolean;
  notes: string[];
}

/** Where reconcile looks. */
export interface ReconcileOptions {
  fileSystem: FileSystem;
  walDir: string;
  /** Null when ClickHouse is off: then nothing counts as inserted and all delivery is pending. */
  client: SqlClient | null;
  database: string;
}

/** What the server has of one topic. */
interface TableCounts {
  /** False: there is no such table, or no such database. */
  exists: boolean;
  rows: number;
  distinct: number;
  trimmed: number;
}

/** Most LSN ranges that are named for one topic. */
const SHOWN_RANGES = 100;

const NOTHING: Counts = {
  received: 0,
  logged: 0,
  inserted: 0,
  gaps: 0,
  lost: 0,
  duplicated: 0,
  pending: 0,
  deadLettered: 0,
  foreign: 0,
};

/**
 * Compares recorder, WAL and ClickHouse once. A recorder that runs moves on meanwhile: what it logs after the
 * first look is left out. Returns null when the directory holds no WAL. Throws ServerError and
 * WalFormatError.
 */
export async function reconcile(options: ReconcileOptions): Promise<ReconcileReport | null> {
  const { fileSystem, walDir, client, database } = options;
  const status = readStatus(fileSystem, walDir);
  const found = recorderState(fileSystem, walDir);
  const state = found === 'stopped' && status?.killed === true ? 'killed' : found;
  const survey = surveyWal(fileSystem, walDir);
  if (survey === null) return null;
  const current = status?.walId === survey.walId.toString() ? status : null;
  const log = readFlushLog(fileSystem, walDir);
  const letters = listDeadLetters(fileSystem, walDir);
  const losses = readAcceptedLosses(fileSystem, walDir);
  const damages = survey.damages.map(({ firstLsn, lastLsn }) => ({ firstLsn, lastLsn }));
  const accepted = damages.filter(({ firstLsn, lastLsn }) => areAccepted(losses, firstLsn, lastLsn));
  // Those before the first segment are counted by topic.
  let acceptedRows = rowsOf(client === null ? accepted : splitRanges(accepted, survey.firstLsn)[1]);
  const topics: Record<string, TopicReport> = {};
  for (const topic of survey.topics.values()) {
    const progress = log?.walId === survey.walId ? log.progress.get(topic.topic) : undefined;
    const { report, acceptedChange } = await reconcileTopic(survey, topic, {
      accepted,
      client,
      database,
      nextLsn: progress?.nextLsn ?? 0n,
      deadRows: deadRowsOf(letters, survey.walId, topic.topic),
      ...unloggedRows(current, state, topic.topic),
    });
    topics[topic.topic] = report;
    acceptedRows += acceptedChange;
  }
  const report: ReconcileReport = {
    ...Object.values(topics).reduce(addCounts, NOTHING),
    gaps: client === null ? (current?.gaps ?? 0) : await countGaps(client, database, survey),
    recorder: survey.recorder,
    walId: survey.walId.toString(),
    malformed: Object.values(current?.malformed ?? {}).reduce((sum, count) => sum + count, 0),
    resent: current?.duplicates ?? 0,
    topics,
    damaged: damages.filter((range) => !accepted.includes(range)),
    accepted,
    acceptedRows,
    matches: false,
    notes: notesFor(current, state, client),
  };
  report.matches = report.damaged.length === 0 && Object.values(topics).every(topicMatches);
  return report;
}

/** Rows in the dead letters that are there: a replayed one is dead no more. */
function deadRowsOf(letters: readonly DeadLetter[], walId: bigint, topic: string): number {
  const own = letters.filter((letter) => letter.topic === topic && BigInt(`0x${letter.walId}`) === walId);
  return own.reduce((sum, { rowCount }) => sum + rowCount, 0);
}

function topicMatches(topic: TopicReport): boolean {
  const { received, logged, inserted, lost, duplicated, foreign } = topic;
  return received === logged && logged === inserted && lost === 0 && duplicated === 0 && foreign === 0;
}

function addCounts(sum: Counts, part: Counts): Counts {
  const result = { ...sum };
  for (const name of Object.keys(NOTHING) as (keyof Counts)[]) result[name] += part[name];
  return result;
}

function notesFor(status: RecorderStatus | null, state: RecorderState, client: SqlClient | null): string[] {
  const notes: string[] = [];
  if (status === null) notes.push('no status.json of this WAL: received is counted in the WAL');
  if (state === 'killed') notes.push('the recorder was killed: what it had not logged was not acknowledged');
  if (client === null) notes.push('ClickHouse is off: nothing was looked up there');
  return notes;
}

/**
 * Rows that the recorder received and has not logged, as its status says, and how many of them are lost:
 * those that were shed, and after its end all others as well. Of a killed recorder none counts: what was in
 * memory had not been acknowledged, and its producers send it again; its status is older than its WAL.
 */
function unloggedRows(
  status: RecorderStatus | null,
  state: RecorderState,
  topic: string,
): { unlogged: number; lostAtIngest: number } {
  const counts = status?.topics[topic];
  if (counts === undefined || state === 'killed') return { unlogged: 0, lostAtIngest: 0 };
  const unlogged = Math.max(0, counts.received - counts.logged);
  return { unlogged, lostAtIngest: state === 'running' ? Math.min(counts.shed ?? 0, unlogged) : unlogged };
}

interface TopicInput {
  client: SqlClient | null;
  database: string;
  /** First LSN that is in no finished insert group. */
  nextLsn: bigint;
  deadRows: number;
  /** Lost in the WAL, and accepted. */
  accepted: readonly LsnRange[];
  unlogged: number;
  lostAtIngest: number;
}

async function reconcileTopic(
  survey: WalSurvey,
  topic: TopicSurvey,
  input: TopicInput,
): Promise<{ report: TopicReport; acceptedChange: number }> {
  const { client, nextLsn, deadRows, accepted, unlogged, lostAtIngest } = input;
  const logged = topic.trimmedRows + topic.rows;
  const table = `${quoteName(input.database)}.${quoteName(topic.table)}`;
  const report: TopicReport = {
    ...NOTHING,
    received: logged + unlogged,
    logged,
    lost: lostAtIngest,
    deadLettered: deadRows,
    table,
    missingLsns: [],
    foreignLsns: [],
  };
  if (client === null) {
    return { report: { ...report, pending: rowsFrom(topic.runs, nextLsn) }, acceptedChange: 0 };
  }
  const found = await countTable(client, table, survey);
  const { firstLsn, endLsn } = survey;
  const source = found.exists ? { client, table, filter: rowFilter(survey) } : null;
  const { missing, foreign: others } = await findDifferences(source, topic.runs, firstLsn, endLsn);
  const [undelivered, pending] = splitRanges(missing, nextLsn);
  // Rows of a lost range that had been delivered were logged; of those before the first segment that is there
  // the next one's header has counted all.
  const [known, foreign] = splitByRanges(others, accepted);
  const trimmedAway = Math.max(0, topic.trimmedRows - found.trimmed);
  const gone = Math.min(trimmedAway, rowsOf(splitRanges(accepted, firstLsn)[0]));
  const acceptedChange = gone - rowsOf(known);
  const compared: TopicReport = {
    ...report,
    received: report.received - acceptedChange,
    logged: logged - acceptedChange,
    inserted: found.distinct,
    duplicated: found.rows - found.distinct,
    pending: rowsOf(pending),
    foreign: rowsOf(foreign),
    lost: lostAtIngest + Math.max(0, rowsOf(undelivered) + trimmedAway - gone - deadRows),
    missingLsns: undelivered.slice(0, SHOWN_RANGES),
    foreignLsns: foreign.slice(0, SHOWN_RANGES),
  };
  return { report: compared, acceptedChange };
}

const quoteName = (name: string) => `\`${name.replaceAll('\\', '\\\\').replaceAll('`', '\\`')}\``;
const quoteText = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;

/** Rows of this WAL below its horizon. */
function rowFilter({ recorder, walId, endLsn }: WalSurvey): string {
  return `recorder = ${quoteText(recorder)} AND wal_id = ${walId} AND wal_lsn < ${endLsn}`;
}

const UNKNOWN_TABLE = 60;
const UNKNOWN_DATABASE = 81;

/** No rows where there is no table yet: the flusher makes it. */
async function unlessAbsent<T>(rows: Promise<T[]>): Promise<T[]> {
  try {
    return await rows;
  } catch (error) {
    const code = error instanceof ServerError ? error.clickhouseCode : null;
    if (code === UNKNOWN_TABLE || code === UNKNOWN_DATABASE) return [];
    throw error;
  }
}

async function countTable(client: SqlClient, table: string, survey: WalSurvey): Promise<TableCounts> {
  const absent = { exists: false, rows: 0, distinct: 0, trimmed: 0 };
  const [row] = await unlessAbsent(
    client.query<{ rows: string; distinct: string; trimmed: string }>(
      `SELECT count() AS rows, uniqExact(wal_lsn) AS distinct,
         uniqExactIf(wal_lsn, wal_lsn < ${survey.firstLsn}) AS trimmed
       FROM ${table} WHERE ${rowFilter(survey)}`,
    ),
  );
  if (row === undefined) return absent;
  const { rows, distinct, trimmed } = row;
  return { exists: true, rows: Number(rows), distinct: Number(distinct), trimmed: Number(trimmed) };
}

/** Sequence numbers that are missing: those reported as missing without those that came late after all. */
async function countGaps(client: SqlClient, database: string, survey: WalSurvey): Promise<number> {
  const table = survey.topics.get('gaps')?.table;
  if (table === undefined) return 0;
  const [row] = await unlessAbsent(
    client.query<{ missing: string }>(
      `SELECT sum(toInt64(last_seq - first_seq + 1) * multiIf(state = 1, 1, state = 2, -1, 0)) AS missing
       FROM ${quoteName(database)}.${quoteName(table)} WHERE ${rowFilter(survey)}`,
    ),
  );
  return Math.max(0, Number(row?.missing ?? 0));
}
