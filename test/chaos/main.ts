// `bun run chaos`: kills processes while data flows, then counts. See run.ts.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { startTestServer } from '../support/embedded.ts';
import { seededRandom } from '../support/random.ts';
import { run } from '../support/recorder-process.ts';
import { isUnharmed, runHostile } from './hostile.ts';
import { runOutage } from './outage.ts';
import { isClean, runChaos } from './run.ts';
import { isSlowClean, runSlow } from './slow.ts';

interface Flags {
  kills: number;
  rows?: number;
  seed?: number;
  producers: number;
  loader: boolean;
  keep?: boolean;
  outage?: boolean;
  slow?: boolean;
  hostile?: boolean;
  seconds: number;
  json?: boolean;
}

const LEAST_ROWS = 210_000;
const ROWS_PER_KILL = 5_000;
const OUTAGE_ROWS = 2_000_000;

function count(text: string): number {
  const value = Number(text.replaceAll('_', ''));
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError('expected a whole number');
  return value;
}

/** ClickHouse is down for the whole of a feed, then up. */
async function outage(flags: Flags): Promise<void> {
  const random = seededRandom('outage', flags.seed ?? Date.now() % 0x7fffffff);
  const root = mkdtempSync(join(tmpdir(), 'recorder-outage-'));
  const say = (text: string) => process.stderr.write(`${text}\n`);
  const server = await startTestServer();
  let isClean = false;
  try {
    const rows = flags.rows ?? OUTAGE_ROWS;
    say(`outage: seed ${random.seed}, ${rows} rows`);
    const places = { home: root, clickhouseUrl: server.url, database: 'outage' };
    const result = await runOutage({ ...places, rows, random, say });
    const { lost, duplicated, changed, clickhouse } = result;
    isClean = lost === 0 && duplicated === 0 && changed === 0 && clickhouse === rows;
    process.stdout.write(`${JSON.stringify({ ...result, seed: random.seed })}\n`);
  } finally {
    await server.close();
    rmSync(root, { recursive: true, force: true });
  }
  process.exit(isClean ? 0 : 1);
}

/** ClickHouse hangs, then is slow, under a feed at full speed of streams and datagrams. */
async function slow(flags: Flags): Promise<void> {
  const random = seededRandom('slow', flags.seed ?? Date.now() % 0x7fffffff);
  const root = mkdtempSync(join(tmpdir(), 'recorder-slow-'));
  const say = (text: string) => process.stderr.write(`${text}\n`);
  const server = await startTestServer();
  let isClean = false;
  try {
    say(`slow: seed ${random.seed}, ${flags.seconds} s`);
    const places = { home: root, clickhouseUrl: server.url, database: 'slow' };
    const result = await runSlow({ ...places, seconds: flags.seconds, random, say });
    isClean = isSlowClean(result);
    process.stdout.write(`${JSON.stringify({ ...result, seed: random.seed })}\n`);
  } finally {
    await server.close();
    rmSync(root, { recursive: true, force: true });
  }
  process.exit(isClean ? 0 : 1);
}

/** Connections, frames and requests that mean no good, beside real producers. */
async function hostile(flags: Flags): Promise<void> {
  const random = seededRandom('hostile', flags.seed ?? Date.now() % 0x7fffffff);
  const root = mkdtempSync(join(tmpdir(), 'recorder-hostile-'));
  const say = (text: string) => process.stderr.write(`${text}\n`);
  say(`hostile: seed ${random.seed}, ${flags.seconds} s`);
  const result = await runHostile({ home: root, seconds: flags.seconds, random, say });
  rmSync(root, { recursive: true, force: true });
  process.stdout.write(`${JSON.stringify({ ...result, seed: random.seed })}\n`);
  process.exit(isUnharmed(result) ? 0 : 1);
}

async function main(flags: Flags): Promise<void> {
  if (flags.slow === true) return await slow(flags);
  if (flags.hostile === true) return await hostile(flags);
  if (flags.outage === true) return await outage(flags);
  const random = seededRandom('chaos', flags.seed ?? Date.now() % 0x7fffffff);
  const root = mkdtempSync(join(tmpdir(), 'recorder-chaos-'));
  const rows = flags.rows ?? Math.max(LEAST_ROWS, flags.kills * ROWS_PER_KILL);
  const withLoader = flags.loader && /^ {2}load\b/m.test((await run(['--help'])).output);
  const say = (text: string) => process.stderr.write(`${text}\n`);
  say(`chaos: seed ${random.seed}, ${flags.kills} kills, ${rows} rows, ${flags.producers} producers`);
  if (!withLoader) say('chaos: without wal_first and the loader');
  const result = await runChaos({ ...flags, root, rows, random, withLoader, say });
  const clean = isClean(result);
  for (const problem of result.problems) say(`PROBLEM: ${problem}`);
  if (clean && flags.keep !== true) rmSync(root, { recursive: true, force: true });
  else say(`kept: ${root}`);
  const { kills, sent, acked, clickhouse, lost, duplicated, ...more } = result;
  process.stdout.write(
    flags.json === true
      ? `${JSON.stringify({ kills, sent, acked, clickhouse, lost, duplicated, ...more })}\n`
      : `kills ${kills}, sent ${sent}, acked ${acked}, in ClickHouse ${clickhouse}: lost ${lost}, ` +
          `duplicated ${duplicated}\n`,
  );
  process.exit(clean ? 0 : 1);
}

const program = new Command('chaos')
  .description('kill recorder, producers, loader and ClickHouse at random while data flows; then count')
  .option('--kills <n>', 'processes to kill', count, 50)
  .option('--rows <n>', `rows to send (default ${ROWS_PER_KILL} a kill, at least ${LEAST_ROWS})`, count)
  .option('--seed <n>', 'seed of victims, moments and data (default: the clock)', count)
  .option('--producers <n>', 'producers, each with a session of its own', count, 3)
  .option('--outage', `no kills: ClickHouse is down while ${OUTAGE_ROWS} rows (or --rows) come, then up`)
  .option('--slow', 'no kills: a feed at full speed, while ClickHouse hangs, then takes a tenth of it')
  .option('--hostile', 'no kills: slow, broken and malicious connections and requests beside real producers')
  .option('--seconds <n>', 'with --slow and --hostile: how long rows come', count, 180)
  .option('--no-loader', 'only mode direct')
  .option('--keep', 'keep the directory of a clean run too')
  .option('--json', 'print one JSON object as the last line');
await main(program.parse().opts<Flags>());
