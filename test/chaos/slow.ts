// A feed at full speed, streams and datagrams at once, into a ClickHouse that hangs, then takes rows at a
// tenth of their rate: memory stays within its bound, streams lose nothing, and every datagram's row that is
// not stored is counted, by topic. The WAL has a bound too, so that it is full for most of the run.

import { join } from 'node:path';
import { simulate } from '../../src/feed/sim/simulator.ts';
import { topics } from '../../src/schema/registry.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import type { SeededRandom } from '../support/random.ts';
import {
  type RecorderProcess,
  reconcile,
  recorderCommand,
  sql,
  startRecorderProcess,
  until,
} from '../support/recorder-process.ts';

export interface SlowOptions {
  home: string;
  /** How long rows come; for the first third the server hangs. */
  seconds: number;
  random: SeededRandom;
  /** Address of the real server. */
  clickhouseUrl: string;
  database: string;
  say: (text: string) => void;
}

interface TopicLoss {
  sent: number;
  stored: number;
  shed: number;
  /** Datagrams that the kernel dropped: rows of the table gaps. */
  missing: number;
}

export interface SlowResult {
  seconds: number;
  streams: { sent: number; acked: number; clickhouse: number; lost: number; duplicated: number };
  /** `unaccounted`: sent, and neither stored, nor shed, nor a gap. */
  udp: { sent: number; clickhouse: number; shed: number; missing: number; unaccounted: number };
  udpTopics: Record<string, TopicLoss>;
  /** `hungMib`, `slowMib`: the peak up to the end of those times. */
  memory: {
    boundMib: number;
    constantMib: number;
    peakMib: number;
    startMib: number;
    hungMib: number;
    slowMib: number;
  };
  /** Rows a second that came while the server hung, and that it took when it was slow. */
  rates: { received: number; inserted: number };
  /** Levels of the disk that were entered. */
  levels: Record<string, number>;
  problems: string[];
}

/** Resident memory beyond HFT_MEMORY_MAX_BYTES; docs/OPERATIONS.md says what it is made of. */
export const MEMORY_CONSTANT_MIB = 256;
const MEMORY_BOUND_MIB = 64;
/** So small that the WAL is full before the server is back, on a slow machine too. */
const WAL_MIB_PER_SECOND = 2;
const LEAST_WAL_MIB = 48;
const SLOW_SHARE = 0.1;
const DRAIN_MS = 900_000;
const DATAGRAMS_PER_SECOND = 3000;
const FEED = 'feed';

interface FeedEnd {
  sent: number;
  acked: number | null;
  topics: Record<string, number>;
  session: string;
}

/** Runs to the end. Rejects only where the harness itself fails. */
export async function runSlow(options: SlowOptions): Promise<SlowResult> {
  const { random, seconds, say } = options;
  const problems: string[] = [];
  const proxy = await startFaultProxy({ target: options.clickhouseUrl, random, choose: () => 'none' });
  const recorder = await startSlowRecorder(options, proxy.url);
  const http = /metrics and health on (\S+)/.exec(recorder.log())![1]!;
  const feeds: FeedProcess[] = [];
  const memory = new MemoryWatch(recorder.pid);
  try {
    await recorder.logged(/delivering to ClickHouse/);
    memory.start();
    proxy.choose = () => random.pick(['hang_before_body', 'hang_before_answer']);
    const udpSeed = random.int(1, 1e6);
    for (const index of [1, 2])
      feeds.push(startFeed(random.int(1, 1e6), ['--socket', recorder.socket, '--source', `engine-${index}`]));
    const port = recorder.udpPorts[0]!;
    const pace = ['--datagrams-per-second', String(DATAGRAMS_PER_SECOND), '--session', 'SLOW'];
    feeds.push(startFeed(udpSeed, ['--udp', `127.0.0.1:${port}`, ...pace]));

    const hangMs = (seconds * 1000) / 3;
    await Bun.sleep(hangMs);
    const hung = await countsOf(http);
    const hungMib = memory.peakMib;
    proxy.bytesPerSecond = (hung.receivedBytes / (hangMs / 1000)) * SLOW_SHARE;
    proxy.choose = ({ isInsert }) => (isInsert ? 'slow' : 'none');
    say(`slow: ${hung.received} rows came while the server hung; now a tenth of that rate is taken`);
    await Bun.sleep(hangMs * 2);
    const slowed = await countsOf(http);
    const slowMib = memory.peakMib;
    for (const feed of feeds) feed.stop();
    proxy.choose = () => 'none';
    say('slow: no more rows; the server takes all that waits');
    const ends = await Promise.all(feeds.map(({ end }) => end));
    await until(async () => (await countsOf(http)).lag === 0, 'everything delivered', DRAIN_MS);
    const last = await countsOf(http);
    memory.stop();
    const { code } = await recorder.end('SIGTERM');
    if (code !== 0) problems.push(`the recorder ended with ${code}\n${recorder.log()}`);
    const streams = await streamsOf(options, ends.slice(0, 2), problems);
    const udpTopics = await datagramsOf(options, ends[2]!, udpSeed, last.shedByTopic);
    const shed = Object.values(last.shedByTopic).reduce((total, rows) => total + rows, 0);
    await accounts(options, recorder, shed, problems);
    const sum = (of: (topic: TopicLoss) => number) =>
      Object.values(udpTopics).reduce((total, topic) => total + of(topic), 0);
    return {
      seconds,
      streams,
      udp: {
        sent: sum(({ sent }) => sent),
        clickhouse: sum(({ stored }) => stored),
        shed: sum(({ shed }) => shed),
        missing: sum(({ missing }) => missing),
        unaccounted: sum(({ sent, stored, shed, missing }) => Math.abs(sent - stored - shed - missing)),
      },
      udpTopics,
      memory: {
        boundMib: MEMORY_BOUND_MIB,
        constantMib: MEMORY_CONSTANT_MIB,
        peakMib: memory.peakMib,
        startMib: memory.startMib,
        hungMib,
        slowMib,
      },
      rates: {
        received: Math.round(hung.received / (hangMs / 1000)),
        inserted: Math.round((slowed.inserted - hung.inserted) / ((hangMs * 2) / 1000)),
      },
      levels: last.levels,
      problems,
    };
  } catch (error) {
    say(recorder.log());
    throw error;
  } finally {
    memory.stop();
    for (const feed of feeds) feed.kill();
    await recorder.end('SIGKILL');
    await proxy.close();
  }
}

/** Whether nothing was lost beyond what was counted, and memory stayed within its bound. */
export function isSlowClean({ streams, udp, memory, problems }: SlowResult): boolean {
  const all = streams.sent === streams.acked && streams.lost === 0 && streams.duplicated === 0;
  const isBounded = memory.peakMib <= memory.boundMib + memory.constantMib;
  return all && udp.unaccounted === 0 && isBounded && problems.length === 0;
}

function startSlowRecorder({ home, seconds, database }: SlowOptions, clickhouseUrl: string) {
  return startRecorderProcess(home, {
    flags: ['--udp', `${FEED}=127.0.0.1:0`],
    env: {
      HFT_CLICKHOUSE_HOST: clickhouseUrl,
      HFT_CLICKHOUSE_DATABASE: database,
      HFT_CLICKHOUSE_TIMEOUT_MS: '10000',
      HFT_MEMORY_MAX_BYTES: `${MEMORY_BOUND_MIB}MiB`,
      HFT_WAL_SEGMENT_BYTES: '4MiB',
      HFT_WAL_MAX_BYTES: `${Math.max(LEAST_WAL_MIB, Math.round(seconds * WAL_MIB_PER_SECOND))}MiB`,
      HFT_DRAIN_TIMEOUT_MS: String(DRAIN_MS),
    },
  });
}

interface FeedProcess {
  end: Promise<FeedEnd>;
  stop(): void;
  kill(): void;
}

/** `feed sim` without an end. */
function startFeed(seed: number, target: readonly string[]): FeedProcess {
  const flags = ['--rows', '1000000000', '--seed', String(seed), '--ack-timeout', String(DRAIN_MS), '--json'];
  const child = Bun.spawn([...recorderCommand, 'feed', 'sim', ...flags, ...target], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'ignore',
  });
  const end = new Response(child.stdout)
    .text()
    .then((text) => JSON.parse(text.trimEnd().split('\n').at(-1)!) as FeedEnd);
  end.catch(() => undefined);
  return { end, stop: () => child.kill('SIGTERM'), kill: () => child.kill('SIGKILL') };
}

/** Resident memory of a process, looked at again and again. */
class MemoryWatch {
  readonly #pid: number;
  #timer: ReturnType<typeof setInterval> | null = null;
  startMib = 0;
  peakMib = 0;

  constructor(pid: number) {
    this.#pid = pid;
  }

  start(): void {
    this.startMib = this.#look();
    this.#timer = setInterval(() => this.#look(), 200);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  /** RSS now; the kernel's own peak counts too. */
  #look(): number {
    const status = Bun.spawnSync(['cat', join('/proc', String(this.#pid), 'status')]).stdout.toString();
    const mib = (name: string) =>
      Math.round(Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1] ?? 0) / 1024);
    this.peakMib = Math.max(this.peakMib, mib('VmHWM'));
    return mib('VmRSS');
  }
}

async function countsOf(http: string) {
  const text = await (await fetch(`${http}/metrics`)).text();
  const all = (name: string) =>
    [...text.matchAll(new RegExp(`^${name}(?:\\{([^}]*)\\})? (\\S+)$`, 'gm'))].map(
      ([, labels = '', value]) => [labels, Number(value)] as const,
    );
  const sum = (name: string) => all(name).reduce((total, [, value]) => total + value, 0);
  const label = (labels: string, name: string) => new RegExp(`${name}="([^"]*)"`).exec(labels)?.[1] ?? '';
  const shedByTopic: Record<string, number> = {};
  for (const [labels, rows] of all('recorder_shed_rows_total')) {
    const topic = label(labels, 'topic');
    shedByTopic[topic] = (shedByTopic[topic] ?? 0) + rows;
  }
  return {
    received: sum('recorder_received_rows_total'),
    receivedBytes: sum('recorder_received_bytes_total'),
    inserted: sum('recorder_inserted_rows_total'),
    lag: sum('recorder_lag_rows'),
    shedByTopic,
    levels: Object.fromEntries(
      all('recorder_disk_level_changes_total').map(([labels, n]) => [label(labels, 'level'), n]),
    ),
  };
}

/** All tables with rows of producers, as one. */
function rowsOf(database: string, columns: string): string {
  const tables = topics.filter(({ topic }) => topic !== 'gaps').map(({ table }) => table);
  return tables.map((table) => `SELECT ${columns} FROM ${database}.${table}`).join(' UNION ALL ');
}

async function streamsOf({ clickhouseUrl, database }: SlowOptions, ends: FeedEnd[], problems: string[]) {
  const stored = await sql(
    clickhouseUrl,
    `SELECT source, count(), uniqExact(seq), max(seq) FROM (${rowsOf(database, 'source, seq')})
     WHERE source LIKE 'engine-%' GROUP BY source ORDER BY source`,
  );
  const total = { sent: 0, acked: 0, clickhouse: 0, lost: 0, duplicated: 0 };
  for (const [index, { sent, acked }] of ends.entries()) {
    const [source, count, distinct, last] = stored[index] ?? [];
    if (Number(last) !== sent) problems.push(`${source}: last number ${last}, sent ${sent}`);
    total.sent += sent;
    total.acked += acked ?? 0;
    total.clickhouse += Number(count);
    total.lost += sent - Number(distinct);
    total.duplicated += Number(count) - Number(distinct);
  }
  return total;
}

/** What became of the rows in datagrams; which topic a missing one had, the simulation knows. */
async function datagramsOf(
  { clickhouseUrl, database }: SlowOptions,
  end: FeedEnd,
  seed: number,
  shed: Record<string, number>,
): Promise<Record<string, TopicLoss>> {
  const result: Record<string, TopicLoss> = {};
  for (const { topic, table } of topics) {
    const sent = end.topics[topic] ?? 0;
    if (sent === 0) continue;
    const query = `SELECT uniqExact(seq) FROM ${database}.${table} WHERE source = '${FEED}'`;
    const stored = Number((await sql(clickhouseUrl, query))[0]![0]);
    result[topic] = { sent, stored, shed: shed[topic] ?? 0, missing: 0 };
  }
  const gaps = await sql(
    clickhouseUrl,
    `SELECT first_seq, last_seq, state FROM ${database}.gaps WHERE source = '${FEED}' ORDER BY wal_lsn`,
  );
  const isMissing = new Uint8Array(end.sent + 1);
  for (const [first, last, state] of gaps)
    isMissing.fill(Number(state) === 1 ? 1 : 0, Number(first), Number(last) + 1);
  let seq = 0;
  for (const batch of simulate({ seed, rows: end.sent }))
    for (const { topic } of batch) if (isMissing[++seq] === 1) result[topic]!.missing++;
  return result;
}

async function accounts(
  { clickhouseUrl, database }: SlowOptions,
  recorder: RecorderProcess,
  shed: number,
  problems: string[],
): Promise<void> {
  const flags = ['--clickhouse-host', clickhouseUrl, '--clickhouse-database', database];
  const { json, errors } = await reconcile(recorder.walDir, ...flags);
  // A row that was shed was received, and is lost.
  const isWhole =
    json.lost === shed && json.duplicated === 0 && json.pending === 0 && json.deadLettered === 0;
  if (!isWhole || json.inserted !== json.logged)
    problems.push(`reconcile: ${JSON.stringify(json)} ${errors}`);
}
