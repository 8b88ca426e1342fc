// `bun run chaos`: kills processes while data flows, then counts. See run.ts.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { seededRandom } from '../support/random.ts';
import { run } from '../support/recorder-process.ts';
import { isClean, runChaos } from './run.ts';

interface Flags {
  kills: number;
  rows?: number;
  seed?: number;
  producers: number;
  loader: boolean;
  keep?: boolean;
  json?: boolean;
}

const LEAST_ROWS = 210_000;
const ROWS_PER_KILL = 5_000;

function count(text: string): number {
  const value = Number(text.replaceAll('_', ''));
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError('expected a whole number');
  return value;
}

async function main(flags: Flags): Promise<void> {
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
  .option('--no-loader', 'only mode direct')
  .option('--keep', 'keep the directory of a clean run too')
  .option('--json', 'print one JSON object as the last line');
await main(program.parse().opts<Flags>());
