// One chaos run: data flows from several producers, and one process after another is killed with SIGKILL at
// a random moment. At the end everything is drained, and each row is looked up in ClickHouse and compared
// with what was sent.

import { simulate } from '../../src/feed/sim/simulator.ts';
import { topics } from '../../src/schema/registry.ts';
import type { SeededRandom } from '../support/random.ts';
import { reconcile, run, sqlValue, until } from '../support/recorder-process.ts';
import { compareStored, type StoredReport } from '../support/stored-rows.ts';
import { type ProducerSession, World } from './world.ts';

export interface ChaosOptions {
  root: string;
  kills: number;
  rows: number;
  producers: number;
  random: SeededRandom;
  withLoader: boolean;
  say: (text: string) => void;
}

export interface ChaosResult {
  kills: number;
  sent: number;
  acked: number;
  clickhouse: number;
  lost: number;
  duplicated: number;
  /** Rows whose content is not what was sent. */
  changed: number;
  killsOf: Record<string, number>;
  topics: Record<string, number>;
  /** Everything else that should not have been, in words. */
  problems: string[];
  seed: number;
  seconds: number;
}

const MEAN_INTERVAL_MS = 1400;
const TICK_MS = 50;
const FINISH_TIMEOUT_MS = 180_000;

/** Runs to the end; rejects only where the harness itself fails. */
export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const { random, kills, producers, say } = options;
  const startedMs = performance.now();
  const problems: string[] = [];
  const world = new World({
    root: options.root,
    producers,
    rowsPerProducer: Math.ceil(options.rows / producers),
    withLoader: options.withLoader,
    random,
    unexpected: (text) => {
      problems.push(text);
      say(text);
    },
  });
  const killsOf: Record<string, number> = {};
  try {
    await world.start();
    let done = 0;
    const flow = setInterval(() => allowSome(world, kills - done, random), TICK_MS);
    const restarts: Promise<void>[] = [];
    while (done < kills) {
      await Bun.sleep(random.next() * 2 * MEAN_INTERVAL_MS);
      const victim = await killOne(world, random, restarts);
      if (victim === null) continue;
      killsOf[victim] = (killsOf[victim] ?? 0) + 1;
      done++;
      say(`kill ${done} of ${kills}: ${victim.padEnd(10)} ${progressOf(world)}`);
    }
    clearInterval(flow);
    await Promise.all(restarts);
    await finish(world, problems, say);
    const stored = await compareStored(world.clickhouseUrl, 'hft', expectedOf(world));
    await accounts(world, problems);
    problems.push(...stored.examples);
    const seconds = Number(((performance.now() - startedMs) / 1000).toFixed(1));
    return { ...resultOf(world, stored), kills: done, killsOf, problems, seed: random.seed, seconds };
  } finally {
    await world.killAll();
  }
}

/** Whether nothing was lost, doubled or changed, and nothing else went wrong. */
export function isClean(result: ChaosResult): boolean {
  const { sent, acked, clickhouse, lost, duplicated, changed, problems } = result;
  const allThere = sent === acked && acked === clickhouse;
  return allThere && lost === 0 && duplicated === 0 && changed === 0 && problems.length === 0;
}

/** Lets rows flow: mostly a trickle, sometimes a burst, so that they last until the last kill. */
function allowSome(world: World, killsLeft: number, random: SeededRandom): void {
  for (const producer of world.producers) {
    const ticksLeft = Math.max(1, (killsLeft * MEAN_INTERVAL_MS) / TICK_MS);
    const mean = (producer.rows - producer.allowed) / ticksLeft;
    producer.allow(Math.ceil(mean * (random.next() < 0.1 ? 7 : 0.3)));
  }
}

/** Kills one living process, and has it started again soon; its name, or null where it was dead. */
async function killOne(
  world: World,
  random: SeededRandom,
  restarts: Promise<void>[],
): Promise<string | null> {
  const roll = random.next();
  const pauseMs = random.next() * 300;
  const again = (start: () => void | Promise<void>) => {
    restarts.push(Bun.sleep(pauseMs).then(start));
  };
  if (roll < 0.35) {
    if (!(await world.recorder.kill())) return null;
    again(() => world.startRecorder());
    return 'recorder';
  }
  if (roll < 0.6) {
    const producer = random.pick(world.producers);
    if (!(await producer.child.kill())) return null;
    again(() => producer.start());
    return 'producer';
  }
  if (roll < 0.8 || !world.loader.alive) {
    if (!(await world.clickhouse.kill())) return null;
    again(() => world.startClickhouse());
    return 'clickhouse';
  }
  await world.loader.kill();
  again(() => world.startLoader());
  return 'loader';
}

function progressOf({ producers, mode }: World): string {
  const sum = (of: (producer: ProducerSession) => number) =>
    producers.reduce((total, producer) => total + of(producer), 0);
  return `${sum(({ sent }) => sent)} sent, ${sum(({ acked }) => acked)} acked, mode ${mode}`;
}

/** Sends the rest, waits for the last acknowledgement, delivers everything. */
async function finish(world: World, problems: string[], say: (text: string) => void): Promise<void> {
  await until(() => world.clickhouse.alive, 'ClickHouse was not started again', FINISH_TIMEOUT_MS);
  await world.clickhouseAnswers();
  for (const producer of world.producers) producer.allow(producer.rows);
  const ends = world.producers.map(async ({ child, source }) => {
    const code = await child.exited(FINISH_TIMEOUT_MS);
    if (code !== 0) problems.push(`${source} ended with ${code}\n${child.logTail()}`);
  });
  await Promise.all(ends);
  // A loader that outlived the change of mode delivers in the recorder's place: a stop leaves it the rest.
  if (world.mode === 'direct') await world.loader.kill();
  say(`all sent: ${progressOf(world)}; draining`);
  const code = await world.recorder.end('SIGTERM', FINISH_TIMEOUT_MS);
  if (code !== 0) problems.push(`the recorder ended with ${code}\n${world.recorder.logTail()}`);
  await world.loader.kill();
  if (world.mode !== 'wal_first') return;
  const environment = {
    HFT_RECORDER_MODE: 'wal_first',
    HFT_CLICKHOUSE_HOST: world.clickhouseUrl,
  };
  const drained = await run(['load', '--once', '--wal-dir', world.walDir, '--json'], { env: environment });
  if (drained.code !== 0) problems.push(`load --once ended with ${drained.code}\n${drained.errors}`);
}

function expectedOf({ producers }: World) {
  return producers.map(({ source, session, seed, rows, acked }) => ({
    source,
    session,
    rows,
    acked,
    events: simulate({ seed, rows }),
  }));
}

/** What the program's own accounts say: the WAL is whole, reconcile agrees, nobody saw a gap. */
async function accounts(world: World, problems: string[]): Promise<void> {
  const verify = await run<{ damaged?: unknown[] }>(['wal', 'verify', world.walDir, '--json']);
  if (verify.code !== 0 || verify.json.damaged?.length !== 0)
    problems.push(`wal verify: ${verify.code} ${verify.output} ${verify.errors}`);
  const { code, json, errors } = await reconcile(world.walDir, ...['--clickhouse-host', world.clickhouseUrl]);
  if (json.lost !== 0 || json.duplicated !== 0 || json.pending !== 0 || json.deadLettered !== 0)
    problems.push(`reconcile: ${code} ${JSON.stringify(json)} ${errors}`);
  const gaps = await sqlValue(world.clickhouseUrl, 'SELECT count() FROM hft.gaps');
  if (gaps !== '0') problems.push(`${gaps} gaps were recorded`);
  for (const { topic, table } of topics) {
    const unordered = await sqlValue(
      world.clickhouseUrl,
      `SELECT countIf(wal_lsn < before) FROM (SELECT wal_lsn, lagInFrame(wal_lsn) OVER ` +
        `(PARTITION BY source, session ORDER BY seq) AS before FROM hft.${table})`,
    );
    if (unordered !== '0') problems.push(`${topic}: ${unordered} rows are not in the order of their numbers`);
  }
}

function resultOf(world: World, stored: StoredReport) {
  const { producers } = world;
  return {
    sent: producers.reduce((sum, { sent }) => sum + sent, 0),
    acked: producers.reduce((sum, { acked }) => sum + acked, 0),
    clickhouse: stored.clickhouse,
    lost: stored.lost,
    duplicated: stored.duplicated,
    changed: stored.changed + stored.foreign,
    topics: stored.topics,
  };
}
