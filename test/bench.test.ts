import { expect, test } from 'bun:test';
import { resolve } from 'node:path';

/** Cheap ones: neither a recorder nor a server is started. */
const PREFIXES = ['extract/latency_spans', 'extract/gaps'];

test('the benchmark runs, checks its paths against each other, and prints one JSON list', async () => {
  const main = resolve(import.meta.dir, '../bench/main.ts');
  const run = Bun.spawn([process.execPath, main, '--quick', '--json', ...PREFIXES], { stderr: 'inherit' });
  const output = await new Response(run.stdout).text();
  expect(await run.exited).toBe(0);
  const results = JSON.parse(output.trimEnd().split('\n').at(-1)!) as Record<string, unknown>[];
  expect(results.map(({ name }) => name)).toContain('extract/gaps');
  for (const result of results) {
    expect(result).toEqual({
      name: expect.any(String),
      value: expect.any(Number),
      unit: 'ns/frame',
      baseline: expect.any(Number),
      ratio: expect.any(Number),
    });
  }
}, 60_000);
