import { expect, test } from 'bun:test';
import { seededRandom } from '../support/random.ts';
import { temporaryHome } from '../support/recorder-process.ts';
import { isUnharmed, runHostile } from './hostile.ts';

/** `bun run chaos -- --hostile` is the long one, and says how much slower the producers were. */
const SECONDS = 8;

test('idle connections, prefixes of 1 GB, floods of garbage, junk over HTTP: nobody is harmed', async () => {
  using home = temporaryHome();
  const random = seededRandom('hostile');
  const result = await runHostile({ home: home.path, seconds: SECONDS, random, say: () => undefined });
  expect({ isUnharmed: isUnharmed(result), ...result }).toMatchObject({ isUnharmed: true, problems: [] });
  // One frame that a connection was cut in, for each that was in the middle of one.
  expect(result.counted.malformed['truncated']).toBeGreaterThan(0);
  // Whatever is asked, nothing breaks inside.
  expect(result.attack.statuses['200']).toBeGreaterThan(0);
  expect(result.attack.statuses['500'] ?? 0).toBe(0);
}, 120_000);
