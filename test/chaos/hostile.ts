// Real producers at a steady rate, first alone, then beside a process that means no good. They must not be
// affected, everything that is refused is counted, and the recorder goes on.

import { join } from 'node:path';
import type { SeededRandom } from '../support/random.ts';
import { run, startRecorderProcess, until } from '../support/recorder-process.ts';
import { startTopicProducer, type TopicProducer } from '../support/topic-producer.ts';
import type { HostileReport, HostileTask } from './hostile-main.ts';

export interface HostileOptions {
  home: string;
  /** Half of it without, half with the attack. */
  seconds: number;
  random: SeededRandom;
  say: (text: string) => void;
}

/** The real producers during one half. */
export interface Pace {
  rowsPerSecond: number;
  /** From sending to acknowledgement, ms. */
  ackP50Ms: number;
  ackP99Ms: number;
}

export interface HostileResult {
  calm: Pace;
  attacked: Pace;
  /** Rows a second during the attack, as a share of those before. */
  ratio: number;
  sent: number;
  acked: number;
  logged: number;
  attack: HostileReport;
  counted: { malformed: Record<string, number>; broken: number; quarantineBytes: number };
  peakMib: number;
  problems: string[];
}

const IDLE_CONNECTIONS = 200;
const PRODUCERS = 2;
const ROWS_PER_TICK = 100;
const END_TIMEOUT_MS = 60_000;
const QUARANTINE_MIB = 16;

/** Runs to the end. Rejects only where the harness itself fails. */
export async function runHostile({ home, seconds, random, say }: HostileOptions): Promise<HostileResult> {
  const problems: string[] = [];
  const recorder = await startRecorderProcess(home, {
    env: { HFT_DISABLE_CLICKHOUSE: '1', HFT_QUARANTINE_MAX_BYTES: `${QUARANTINE_MIB}MiB` },
  });
  const http = /metrics and health on (\S+)/.exec(recorder.log())![1]!;
  const producers: TopicProducer[] = [];
  let attacker: Attacker | null = null;
  try {
    for (let i = 1; i <= PRODUCERS; i++) {
      const topicNames = ['market_data', 'orders', 'fills'];
      producers.push(await startTopicProducer(recorder.socket, `engine-${i}`, topicNames, ROWS_PER_TICK));
    }
    await Bun.sleep(1000);
    const calm = await paceOf(producers, seconds / 2);
    say(`hostile: ${calm.rowsPerSecond} rows/s alone; the attack begins`);
    attacker = await startAttacker({
      socket: recorder.socket,
      http,
      seed: random.int(1, 1e6),
      idleConnections: IDLE_CONNECTIONS,
    });
    await until(
      async () => ((await metricsOf(http)).get('recorder_connections') ?? 0) >= IDLE_CONNECTIONS,
      'the attack',
    );
    const attacked = await paceOf(producers, seconds / 2);
    const attack = await attacker.end();
    await Promise.all(producers.map((producer) => producer.finish(END_TIMEOUT_MS)));
    const metrics = await metricsOf(http);
    const peakMib = await peakMibOf(recorder.pid);
    const { code } = await recorder.end('SIGTERM');
    if (code !== 0) problems.push(`the recorder ended with ${code}\n${recorder.log()}`);
    const verified = await run<{ rows: number; damaged: unknown[] }>([
      'wal',
      'verify',
      recorder.walDir,
      '--json',
    ]);
    if (verified.code !== 0) problems.push(`wal verify: ${verified.output}`);
    const malformed = labelled(metrics, 'recorder_malformed_frames_total', 'reason');
    const sum = (of: (producer: TopicProducer) => number) => producers.reduce((all, one) => all + of(one), 0);
    return {
      calm,
      attacked,
      ratio: Number((attacked.rowsPerSecond / calm.rowsPerSecond).toFixed(3)),
      sent: sum(({ sent }) => sent),
      acked: sum(({ acked }) => acked),
      logged: verified.json.rows,
      attack,
      counted: {
        malformed,
        broken: metrics.get('recorder_connections_total{outcome="broken"}') ?? 0,
        quarantineBytes: metrics.get('recorder_quarantine_bytes') ?? 0,
      },
      peakMib,
      problems,
    };
  } catch (error) {
    say(recorder.log());
    throw error;
  } finally {
    for (const producer of producers) producer.abort();
    attacker?.kill();
    await recorder.end('SIGKILL');
  }
}

/** Whether nobody lost anything and all that was refused was counted. Rates are for people to judge. */
export function isUnharmed({ sent, acked, logged, attack, counted, problems }: HostileResult): boolean {
  const { malformed, broken, quarantineBytes } = counted;
  const refused = Object.values(malformed).reduce((sum, count) => sum + count, 0);
  // What the attacker has written and not closed properly may not have been read to its end.
  const isCounted = refused >= attack.malformedFrames * 0.5 && broken >= attack.hugePrefixes * 0.5;
  const answered = attack.requests - (attack.statuses['0'] ?? 0);
  const isBounded = quarantineBytes <= QUARANTINE_MIB * 2 ** 20;
  return sent === acked && logged >= sent && isCounted && answered > 0 && isBounded && problems.length === 0;
}

/** Watches the producers for a while. */
async function paceOf(producers: readonly TopicProducer[], seconds: number): Promise<Pace> {
  const acked = () => producers.reduce((sum, producer) => sum + producer.acked, 0);
  const latencies: number[] = [];
  const waiting = producers.map(() => [] as { seq: number; atMs: number }[]);
  const [startMs, before] = [performance.now(), acked()];
  while (performance.now() - startMs < seconds * 1000) {
    for (const [i, producer] of producers.entries()) {
      const queue = waiting[i]!;
      while (queue[0] !== undefined && queue[0].seq <= producer.acked)
        latencies.push(performance.now() - queue.shift()!.atMs);
      queue.push({ seq: producer.sent, atMs: performance.now() });
    }
    await Bun.sleep(1);
  }
  const elapsed = (performance.now() - startMs) / 1000;
  latencies.sort((a, b) => a - b);
  const quantile = (share: number) =>
    Number((latencies[Math.floor(latencies.length * share)] ?? 0).toFixed(1));
  return {
    rowsPerSecond: Math.round((acked() - before) / elapsed),
    ackP50Ms: quantile(0.5),
    ackP99Ms: quantile(0.99),
  };
}

interface Attacker {
  end(): Promise<HostileReport>;
  kill(): void;
}

async function startAttacker(task: HostileTask): Promise<Attacker> {
  const child = Bun.spawn(
    [process.execPath, join(import.meta.dir, 'hostile-main.ts'), JSON.stringify(task)],
    {
      stdin: 'pipe',
      stdout: 'pipe',
      stderr: 'ignore',
    },
  );
  const output = new Response(child.stdout).text();
  return {
    async end() {
      await child.stdin.end();
      return JSON.parse((await output).trimEnd().split('\n').at(-1)!) as HostileReport;
    },
    kill: () => child.kill('SIGKILL'),
  };
}

async function metricsOf(http: string): Promise<Map<string, number>> {
  const text = await (await fetch(`${http}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

function labelled(metrics: Map<string, number>, name: string, label: string): Record<string, number> {
  const pattern = new RegExp(`^${name}\\{${label}="([^"]*)"\\}$`);
  return Object.fromEntries(
    [...metrics].flatMap(([key, value]) => {
      const found = pattern.exec(key)?.[1];
      return found === undefined ? [] : [[found, value]];
    }),
  );
}

async function peakMibOf(pid: number): Promise<number> {
  const status = await Bun.file(join('/proc', String(pid), 'status')).text();
  return Math.round(Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) / 1024);
}
