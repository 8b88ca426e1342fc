// The durability core against its model: random histories of sending, killing, power loss, failing disks and
// failing servers (history.ts), each from a seed of its own.
//
//   MODEL_HISTORIES=1000000 bun test test/model/durability.test.ts   so many histories; default 10,000
//   TEST_SEED=n                                                       the same histories again
//   MODEL_SEED=n                                                      one history alone, step by step

import { describe, expect, test } from 'bun:test';
import { seededRandom } from '../support/random.ts';
import { History } from './history.ts';

const HISTORIES = Number(process.env['MODEL_HISTORIES'] ?? 10_000);
const ALONE = process.env['MODEL_SEED'];
/** Far more than a history takes. */
const MS_PER_HISTORY = 60;

const say = (text: string) => void process.stderr.write(`${text}\n`);

async function runSeed(seed: number, trace?: (text: string) => void): Promise<void> {
  try {
    await new History(seed, trace === undefined ? {} : { trace }).run();
  } catch (error) {
    say(`history ${seed} failed: repeat it with MODEL_SEED=${seed}`);
    throw new Error(`history ${seed} failed`, { cause: error });
  }
}

describe.if(ALONE === undefined)('histories', () => {
  test(
    `${HISTORIES} random histories: what was acknowledged is delivered once, in order, nothing else is`,
    async () => {
      const seeds = seededRandom('durability model');
      for (let count = 1; count <= HISTORIES; count++) {
        await runSeed(seeds.int(1, 0x7fffffff));
        if (count % 10_000 === 0) say(`${count} histories`);
      }
    },
    60_000 + HISTORIES * MS_PER_HISTORY,
  );

  test('a history is the same each time', async () => {
    const seed = seededRandom('repeated history').int(1, 0x7fffffff);
    const runs: string[][] = [];
    for (let run = 0; run < 2; run++) {
      const lines: string[] = [];
      await runSeed(seed, (text) => lines.push(text.replace(/\b[0-9a-f]{8}-[-0-9a-f]{27}\b/g, '')));
      runs.push(lines);
    }
    expect(runs[1]!).toEqual(runs[0]!);
  });
});

describe.if(ALONE !== undefined)('one history', () => {
  test(`history ${ALONE}`, () => runSeed(Number(ALONE), say), 60_000);
});
