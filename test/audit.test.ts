// The audit of dependencies, against registries that say one thing or another.

import { expect, test } from 'bun:test';
import { join } from 'node:path';

const advisory = (severity: string) => ({
  pino: [{ id: 1, url: 'https://example.org/1', title: 'bad', severity, vulnerable_versions: '>=0.0.0' }],
});

async function auditAt(answer: () => Response): Promise<{ code: number; errors: string }> {
  await using registry = Bun.serve({ port: 0, hostname: '127.0.0.1', fetch: answer });
  const child = Bun.spawn([process.execPath, join(import.meta.dir, 'audit.ts')], {
    cwd: join(import.meta.dir, '..'),
    env: { ...process.env, npm_config_registry: registry.url.href, BUN_CONFIG_REGISTRY: registry.url.href },
    stdout: 'ignore',
    stderr: 'pipe',
  });
  const [errors, code] = await Promise.all([new Response(child.stderr).text(), child.exited]);
  return { code, errors };
}

test('a dependency with a grave vulnerability fails it, a lesser one is named, none is fine', async () => {
  const none = await auditAt(() => Response.json({}));
  expect([none.code, none.errors]).toEqual([0, expect.stringContaining('no dependency has a known')]);
  const grave = await auditAt(() => Response.json(advisory('high')));
  expect([grave.code, grave.errors]).toEqual([1, expect.stringContaining('high: pino >=0.0.0: bad')]);
  const lesser = await auditAt(() => Response.json(advisory('low')));
  expect([lesser.code, lesser.errors]).toEqual([0, expect.stringContaining('low: pino')]);
}, 30_000);

test('a registry that cannot say is skipped, loudly', async () => {
  for (const status of [405, 500]) {
    const { code, errors } = await auditAt(() => new Response('no', { status }));
    expect([code, errors]).toEqual([0, expect.stringContaining('*** SKIPPED: dependencies ARE NOT AUDITED')]);
  }
}, 30_000);
