// Tests of the test: each rule that the model stands for is broken once, from outside, and the model must say
// so within a bounded number of histories. The history that shows it passes with the rule in force.

import { describe, expect, test } from 'bun:test';
import { seededRandom } from '../support/random.ts';
import { History } from './history.ts';
import { mutants } from './mutants.ts';

describe('a broken rule is caught', () => {
  for (const { rule, within, options, seams } of mutants) {
    test(rule, async () => {
      const seeds = seededRandom(rule);
      let caught: { seed: number; error: unknown } | null = null;
      let histories = 0;
      for (; caught === null && histories < within; histories++) {
        const seed = seeds.int(1, 0x7fffffff);
        try {
          await new History(seed, { ...options, seams: seams() }).run();
        } catch (error) {
          caught = { seed, error };
        }
      }
      process.stderr.write(`${rule}: caught in history ${histories}: ${caught?.error}\n`);
      expect(caught).not.toBeNull();
      await new History(caught!.seed, options).run();
    }, 180_000);
  }
});
