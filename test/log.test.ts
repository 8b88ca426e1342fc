// The log as a service manager reads it: JSON lines, repeats summed up.

import { expect, test } from 'bun:test';
import { join } from 'node:path';
import { LogRepeats } from '../src/log-repeats.ts';

const program = `
  import { createLogger } from ${JSON.stringify(join(import.meta.dir, '../src/log.ts'))};
  const logger = await createLogger('test');
  for (let i = 0; i < 500; i++) logger.warn({ i }, \`connection \${i} ended 17 bytes into a frame\`);
  for (let i = 0; i < 12; i++) logger.fatal('the end');
  logger.debug('not at this level');
  logger.info('once');
`;

test('JSON lines; the first ten that are alike, then how many more; fatal ones all', () => {
  const { stderr, stdout, exitCode } = Bun.spawnSync([process.execPath, '-e', program]);
  expect([exitCode, stdout.toString()]).toEqual([0, '']);
  const lines = stderr
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { level: number; msg: string; pid: number; name: string; i?: number });
  const warnings = lines.filter(({ level }) => level === 40).map(({ msg }) => msg);
  expect(warnings).toHaveLength(11);
  expect(warnings.slice(0, 10)).toEqual(
    Array.from({ length: 10 }, (_, i) => `connection ${i} ended 17 bytes into a frame`),
  );
  expect(warnings[10]).toBe('490 more lines like this one: connection 499 ended 17 bytes into a frame');
  expect(lines.filter(({ level }) => level === 60)).toHaveLength(12);
  expect(lines.filter(({ level }) => level === 30)).toMatchObject([{ msg: 'once', name: 'test' }]);
  expect(lines[0]).toMatchObject({ i: 0, pid: expect.any(Number) });
});

test.skipIf(Bun.which('script') === null)('text on a terminal', () => {
  const one = `${program.split('for (')[0]} logger.warn({ topic: 'fills' }, 'seen');`;
  const command = `${process.execPath} -e '${one.replaceAll("'", '"')}'`;
  const shown = Bun.spawnSync(['script', '-qec', command, '/dev/null']).stdout.toString();
  expect(shown).toContain('WARN');
  expect(shown).toContain('seen');
  expect(shown).not.toContain('{"level"');
});

test('kinds are told apart by level and text, and their number is bounded', () => {
  const repeats = new LogRepeats();
  const told: string[] = [];
  const admit = (level: number, text: string) => repeats.admit(level, text, (line) => told.push(line));
  for (let i = 0; i < 10; i++)
    expect([admit(40, 'a 1'), admit(50, 'a 1'), admit(40, 'b')]).not.toContain(false);
  expect([admit(40, 'a 2'), admit(50, 'a 3'), admit(40, 'b')]).toEqual([false, false, false]);
  for (let i = 0; i < 3000; i++) expect(admit(40, `other ${'x'.repeat(i)}`)).toBe(true);
  repeats.flush();
  expect(told).toEqual([
    '1 more lines like this one: a 2',
    '1 more lines like this one: a 3',
    '1 more lines like this one: b',
  ]);
  expect(admit(40, 'a 4')).toBe(true);
});
