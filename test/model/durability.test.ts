// The durability core against its model: random histories of sending, killing, power loss, failing disks and
// failing servers (history.ts), each from a seed of its own.
//
//   bun run model                  a million histories; MODEL_HISTORIES=n: so many; default 10,000
//   TEST_SEED=n                    the series that begins with this seed
//   MODEL_SEED=n                   one history alone, step by step

import { describe, expect, test } from 'bun:test';
import { seededRandom } from '../support/random.ts';
import { FIRST_BACKGROUND_SEED, History } from './history.ts';

const HISTORIES = Number(process.env['MODEL_HISTORIES'] ?? 10_000);
const ALONE = process.env['MODEL_SEED'];
/**
 * Without MODEL_HISTORIES and TEST_SEED the series is always the same, so that a change is judged by what it
 * changed; the search for new failures is `bun run model`, whose series differ and are printed.
 */
const given = process.env['MODEL_HISTORIES'] ?? process.env['TEST_SEED'];
const FIXED_SERIES = given === undefined ? 1 : undefined;
/** Far more than a history takes. */
const MS_PER_HISTORY = 60;

/**
 * Histories that found something; what each says was true before the rule beside it. The model has grown
 * since the first ones: tests beside the code stand for their rules too.
 */
const FOUND: readonly (readonly [seed: number, what: string])[] = [
  [8911, 'a start believed pages that only a failed sync of its predecessor had left in memory'],
  [11992, 'the rest of a failed write was read as a damaged block, and its rows were passed over'],
  [2902, 'a start that failed had removed the only segment, and every later one refused the log'],
  [1915037081, 'retention believed a flush log that a failed sync of the flusher had left in memory'],
  [504996, 'rows of a failed sync were written again without the end of their group, and acknowledged'],
  [6486, 'a group that ended late began a segment whose header knew older positions of the sessions'],
  [2004389, 'a segment whose header was not durable took the place of an empty one whose was'],
  [3025131, 'under the policy interval rows counted as written that a failed sync had taken back'],
  [3046465, 'a quarantine of which a power loss had kept one file hindered every start'],
  [
    3096250,
    'a first start that had failed half-way, and a power loss, left a log that every later one refused',
  ],
  [3110293, 'void rows were missing for a cursor where the segment before them was gone'],
  [10131609, 'trim kept a segment whose header was not durable, and the positions of the sessions were gone'],
  [924, 'trim synced a segment for the writer, which never heard that it had failed'],
  [1004, 'datagrams that were missing at a crash were in no gap after it'],
  [3331763, 'the position of a restored feed was that of its first gap'],
  [10318140, 'a late datagram whose filled_late row a crash took was taken again'],
  [3907867900, 'a flusher that a read error had ended gave rows for delivered that it had only read'],
  [50000517, 'a log that a failed sync had closed was opened again by a failed write of the timer'],
];

const say = (text: string) => void process.stderr.write(`${text}\n`);

async function runSeed(seed: number, trace?: (text: string) => void): Promise<void> {
  try {
    await new History(seed, trace === undefined ? {} : { trace }).run();
  } catch (error) {
    say(`history ${seed} failed: repeat it with MODEL_SEED=${seed}`);
    throw new Error(`history ${seed} failed`, { cause: error });
  }
}

function declareAll(): void {
  test(
    `${HISTORIES} random histories: what was acknowledged is delivered once, in order, nothing else is`,
    async () => {
      const seeds = seededRandom('durability model', FIXED_SERIES);
      for (let count = 1; count <= HISTORIES; count++) {
        await runSeed(seeds.int(1, 0x7fffffff) + (count % 2) * FIRST_BACKGROUND_SEED);
        if (count % 10_000 === 0) say(`${count} histories`);
      }
    },
    60_000 + HISTORIES * MS_PER_HISTORY,
  );

  for (const [seed, what] of FOUND) test(`history ${seed}: ${what}`, () => runSeed(seed), 60_000);

  test('a history is the same each time', async () => {
    const seed = seededRandom('repeated history').int(1, 0x7fffffff);
    const runs: string[][] = [];
    for (let run = 0; run < 2; run++) {
      const lines: string[] = [];
      await runSeed(seed, (text) => lines.push(text.replace(/\b[0-9a-f]{8}-[-0-9a-f]{27}\b/g, '')));
      runs.push(lines);
    }
    expect(runs[1]!).toEqual(runs[0]!);
  }, 60_000);
}

if (ALONE === undefined) describe('histories', declareAll);
else test(`history ${ALONE}`, () => runSeed(Number(ALONE), say), 60_000);
