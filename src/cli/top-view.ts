// One screen of `recorder top` from two looks at a recorder. Pure: no IO, no clock.

import type { RecorderStatus } from '../supervisor/status-file.ts';
import { sizeText } from './doctor-finding.ts';
import { printable } from './printable.ts';

/** What the recorder says over HTTP; from status.json the first part alone. */
export interface TopStatus extends RecorderStatus {
  ready?: boolean;
  health?: {
    state: string;
    since: string;
    conditions: {
      tag: string;
      subject: string;
      state: string;
      since: string;
      message: string;
      command: string;
    }[];
  };
  disk?: { walBytes?: number; segments?: number; freeBytes?: number; deadLetters?: number; level?: string };
  nextLsn?: number | string;
  durableLsn?: number | string;
  paused?: boolean;
  /** Connections that are held back, since they bring a topic that is stopped. */
  held?: number;
  flusher?: { topics: FlusherTopic[] } | null;
  lag?: Record<string, { rows: number; bytes: number; oldestMs: number | null }>;
}

interface FlusherTopic {
  topic: string;
  state: string;
  insertedRows: number | string;
  deadRows: number | string;
  retries: number;
  lastError: string | null;
}

/** A look at a recorder. */
export interface TopSample {
  status: TopStatus;
  source: 'http' | 'file';
}

export interface TopicRates {
  topic: string;
  received: number;
  receivedPerSecond: number;
  shed: number;
  inserted: number | null;
  insertedPerSecond: number | null;
  lagRows: number | null;
  lagSeconds: number | null;
  state: string;
  retries: number;
  dead: number;
}

const timeOf = (sample: TopSample) => Date.parse(sample.status.updatedAt);

function flusherTopic(sample: TopSample | null, topic: string): FlusherTopic | undefined {
  return sample?.status.flusher?.topics.find((one) => one.topic === topic);
}

/** Counts and rates by topic. @param before an earlier look, null where there is none: rates are 0 */
export function ratesOf(before: TopSample | null, now: TopSample): TopicRates[] {
  const seconds = before === null ? 0 : (timeOf(now) - timeOf(before)) / 1000;
  const rate = (from: number, to: number) => (seconds > 0 && to >= from ? (to - from) / seconds : 0);
  return Object.entries(now.status.topics).map(([topic, { received, shed }]) => {
    const delivered = flusherTopic(now, topic);
    const earlier = flusherTopic(before, topic);
    const inserted = delivered === undefined ? null : Number(delivered.insertedRows);
    const lag = now.status.lag?.[topic];
    const oldestMs = lag?.oldestMs ?? null;
    return {
      topic,
      received,
      receivedPerSecond: rate(before?.status.topics[topic]?.received ?? received, received),
      shed,
      inserted,
      insertedPerSecond: inserted === null ? null : rate(Number(earlier?.insertedRows ?? inserted), inserted),
      lagRows: lag?.rows ?? null,
      lagSeconds:
        lag === undefined ? null : oldestMs === null ? 0 : Math.max(0, (timeOf(now) - oldestMs) / 1000),
      state: delivered?.state ?? '-',
      retries: delivered?.retries ?? 0,
      dead: Number(delivered?.deadRows ?? 0),
    };
  });
}

const count = (value: number | null) => (value === null ? '-' : Math.round(value).toLocaleString('en-US'));
const secondsText = (value: number | null) => (value === null ? '-' : value.toFixed(1));

const COLUMNS: readonly (readonly [title: string, width: number, cell: (row: TopicRates) => string])[] = [
  ['received', 13, (row) => count(row.received)],
  ['/s', 10, (row) => count(row.receivedPerSecond)],
  ['shed', 9, (row) => count(row.shed)],
  ['inserted', 13, (row) => count(row.inserted)],
  ['/s', 10, (row) => count(row.insertedPerSecond)],
  ['lag rows', 11, (row) => count(row.lagRows)],
  ['lag s', 8, (row) => secondsText(row.lagSeconds)],
  ['retries', 8, (row) => count(row.retries)],
  ['dead', 7, (row) => count(row.dead)],
];
const TOPIC_WIDTH = 15;

function tableLines(rates: readonly TopicRates[]): string[] {
  const head = COLUMNS.map(([title, width]) => title.padStart(width)).join('');
  const rows = rates.map((row) => {
    const cells = COLUMNS.map(([, width, cell]) => cell(row).padStart(width)).join('');
    return `${printable(row.topic).padEnd(TOPIC_WIDTH)}${cells}  ${printable(row.state)}`;
  });
  return [`${'topic'.padEnd(TOPIC_WIDTH)}${head}  delivery`, ...rows];
}

const clock = (iso: string) => printable(iso.slice(0, 19).replace('T', ' '));

function headLines({ status, source }: TopSample, rates: readonly TopicRates[]): string[] {
  const { health, disk } = status;
  const state =
    health === undefined ? 'health unknown (no HTTP)' : `${health.state} since ${clock(health.since)}`;
  const ready = status.ready === false ? ', NOT READY' : '';
  const perSecond = rates.reduce((sum, row) => sum + row.receivedPerSecond, 0);
  const malformed = Object.values(status.malformed).reduce((sum, value) => sum + value, 0);
  const lines = [
    `recorder ${printable(status.recorder)}  pid ${status.pid}  ${clock(status.updatedAt)} UTC  ` +
      `${printable(state)}${ready}`,
    `in: ${count(perSecond)} rows/s  malformed ${count(malformed)}  sent again ${count(status.duplicates)}` +
      `  gaps ${count(status.gaps)}${heldBackText(status)}`,
  ];
  if (disk?.walBytes !== undefined) {
    const unsynced = Number(status.nextLsn ?? 0) - Number(status.durableLsn ?? 0);
    lines.push(
      `WAL: ${sizeText(disk.walBytes)} in ${disk.segments ?? 0} segments  next row ${status.nextLsn}, ` +
        `not durable ${count(unsynced)}  disk ${disk.level ?? '?'}, ${sizeText(disk.freeBytes ?? 0)} free`,
    );
  }
  lines.push(`ClickHouse: ${clickhouseText(status, source)}`);
  return lines;
}

function heldBackText({ paused, held = 0 }: TopStatus): string {
  if (paused === true) return '  PRODUCERS HELD BACK';
  return held === 0 ? '' : `  ${held} CONNECTIONS HELD BACK`;
}

function clickhouseText(
  { clickhouseUrl, flusher, disk, health }: TopStatus,
  source: TopSample['source'],
): string {
  if (clickhouseUrl === undefined) return 'off, or delivered by `recorder load`';
  if (source === 'file') return `${printable(clickhouseUrl)}  state unknown (no HTTP)`;
  const troubled =
    flusher?.topics.filter(({ state }) => ['retrying', 'blocked', 'failed'].includes(state)) ?? [];
  const isUnreachable = health?.conditions.some(({ tag }) => tag === 'clickhouse_unreachable') === true;
  const working = isUnreachable ? 'DOES NOT TAKE ROWS' : 'takes rows';
  const state = troubled.length === 0 ? working : `${troubled.length} topics ${troubled[0]!.state}`;
  const error = troubled.find(({ lastError }) => lastError !== null)?.lastError ?? '';
  const dead = (disk?.deadLetters ?? 0) > 0 ? `  dead letters ${disk!.deadLetters}` : '';
  return `${printable(clickhouseUrl)}  ${state}${dead}${error === '' ? '' : `  ${printable(error)}`}`;
}

/** Lines of the screen, none longer than `width`. */
export function topLines(before: TopSample | null, now: TopSample, width: number): string[] {
  const rates = ratesOf(before, now);
  const conditions = (now.status.health?.conditions ?? []).flatMap((condition) => {
    const about = condition.subject === '' ? '' : ` ${condition.subject}`;
    const since = `${condition.state} since ${clock(condition.since)}`;
    const head = `${since}  ${condition.tag}${about}: ${condition.message}`;
    return [printable(head), `  > ${printable(condition.command)}`];
  });
  const lines = [...headLines(now, rates), '', ...tableLines(rates)];
  if (conditions.length > 0) lines.push('', ...conditions);
  return lines.map((line) => (line.length > width ? `${line.slice(0, Math.max(0, width - 1))}…` : line));
}
