// Format and meaning of the flush log (see flush-log.ts). Pure: text in, progress out.
//
// File flush.log: text lines, `<XXH3-64 of the JSON as 16 hex digits> <JSON>\n`. A line has a type and
// these fields; LSNs and row totals are decimal strings, contentHash and walId 16 hex digits.
//   flush-log  version (1), walId: the first line, names the WAL
//   state      topic, nextLsn, insertedRows, insertedGroups, deadRows, deadGroups, suspect (when true)
//   open       topic, firstLsn, lastLsn, rowCount, contentHash, token, format
//   close      topic, firstLsn, lastLsn, rowCount, outcome ("inserted" or "dead")

import type { InsertFormat } from './group-encoder.ts';

const VERSION = 1;

/** A group on its way. */
export interface OpenGroup {
  topic: string;
  firstLsn: bigint;
  lastLsn: bigint;
  rowCount: number;
  contentHash: bigint;
  token: string;
  format: InsertFormat;
}

/** How far a topic is. */
export interface TopicProgress {
  /** First LSN that is in no finished group. */
  nextLsn: bigint;
  insertedRows: bigint;
  insertedGroups: number;
  deadRows: bigint;
  deadGroups: number;
  open: OpenGroup | null;
  /** The log was damaged and the server has not yet been asked how far the topic is. */
  suspect: boolean;
}

export type GroupOutcome = 'inserted' | 'dead';

export interface Line {
  type: 'flush-log' | 'state' | 'open' | 'close';
  [key: string]: unknown;
}

const text = new TextEncoder();

function hex(value: bigint): string {
  return value.toString(16).padStart(16, '0');
}

export function encodeLine(line: Line): string {
  const json = JSON.stringify(line);
  return `${hex(Bun.hash.xxHash3(text.encode(json)))} ${json}\n`;
}

function decodeLine(line: string): Line | null {
  const json = line.slice(17);
  if (line[16] !== ' ' || line.slice(0, 16) !== hex(Bun.hash.xxHash3(text.encode(json)))) return null;
  return JSON.parse(json) as Line;
}

export function emptyProgress(): TopicProgress {
  return {
    nextLsn: 0n,
    insertedRows: 0n,
    insertedGroups: 0,
    deadRows: 0n,
    deadGroups: 0,
    open: null,
    suspect: false,
  };
}

/** Applies one line to the progress of its topic. */
export function applyLine(progress: Map<string, TopicProgress>, line: Line): void {
  const topic = String(line['topic']);
  const state = progress.get(topic) ?? emptyProgress();
  progress.set(topic, state);
  const big = (key: string) => BigInt(String(line[key]));
  if (line.type === 'state') {
    state.nextLsn = big('nextLsn');
    state.insertedRows = big('insertedRows');
    state.insertedGroups = Number(line['insertedGroups']);
    state.deadRows = big('deadRows');
    state.deadGroups = Number(line['deadGroups']);
    state.suspect = line['suspect'] === true;
    return;
  }
  const rowCount = Number(line['rowCount']);
  if (line.type === 'open') {
    state.suspect = false;
    state.open = {
      topic,
      firstLsn: big('firstLsn'),
      lastLsn: big('lastLsn'),
      rowCount,
      contentHash: BigInt(`0x${String(line['contentHash'])}`),
      token: String(line['token']),
      format: line['format'] === 'Native' ? 'Native' : 'RowBinary',
    };
    return;
  }
  applyClose(state, big('lastLsn'), rowCount, line['outcome'] === 'dead' ? 'dead' : 'inserted');
}

function applyClose(state: TopicProgress, lastLsn: bigint, rowCount: number, outcome: GroupOutcome): void {
  state.open = null;
  state.nextLsn = lastLsn + 1n;
  if (outcome === 'dead') {
    state.deadRows += BigInt(rowCount);
    state.deadGroups += 1;
  } else {
    state.insertedRows += BigInt(rowCount);
    state.insertedGroups += 1;
  }
}

/** What a flush log holds. `damaged`: lines are unreadable, so topics may be behind the truth. */
export interface FlushLogContent {
  walId: bigint | null;
  progress: Map<string, TopicProgress>;
  damaged: boolean;
}

/**
 * Reads the text of a flush log. Damaged lines and a torn last one are left out: whether the torn write was
 * of a group that had been sent cannot be told from here, so both count as damage.
 */
export function parseFlushLog(content: string): FlushLogContent {
  const lines = content.split('\n');
  const result: FlushLogContent = { walId: null, progress: new Map(), damaged: lines.pop() !== '' };
  for (const raw of lines) {
    const line = decodeLine(raw);
    if (line === null) result.damaged = true;
    else if (line.type === 'flush-log') result.walId = BigInt(`0x${String(line['walId'])}`);
    else applyLine(result.progress, line);
  }
  return result;
}

export function stateLine(topic: string, state: TopicProgress): Line {
  return {
    type: 'state',
    topic,
    nextLsn: String(state.nextLsn),
    insertedRows: String(state.insertedRows),
    insertedGroups: state.insertedGroups,
    deadRows: String(state.deadRows),
    deadGroups: state.deadGroups,
    ...(state.suspect ? { suspect: true } : {}),
  };
}

export function openLine(group: OpenGroup): Line {
  return {
    type: 'open',
    topic: group.topic,
    firstLsn: String(group.firstLsn),
    lastLsn: String(group.lastLsn),
    rowCount: group.rowCount,
    contentHash: hex(group.contentHash),
    token: group.token,
    format: group.format,
  };
}

/** The log's first line. */
export function headerLine(walId: bigint): Line {
  return { type: 'flush-log', version: VERSION, walId: hex(walId) };
}

export function closeLine(group: OpenGroup, outcome: GroupOutcome): Line {
  const { topic, rowCount } = group;
  const lsns = { firstLsn: String(group.firstLsn), lastLsn: String(group.lastLsn) };
  return { type: 'close', topic, ...lsns, rowCount, outcome };
}
