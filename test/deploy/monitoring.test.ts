// Alert rules, dashboard and containers: each name in them is one that the program has.

import { describe, expect, test } from 'bun:test';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { unknownVariables } from '../../src/config.ts';

const root = join(import.meta.dir, '../..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const operations = read('docs/OPERATIONS.md');

interface Rule {
  alert: string;
  expr: string;
  labels: { severity: string };
  annotations: { summary: string; description: string; runbook_url: string };
}

/** Anchors of a page as GitHub makes them. */
const anchors = new Set(
  [...operations.matchAll(/^#+ (.+)$/gm)].map((match) =>
    match[1]!
      .toLowerCase()
      .replaceAll(/[^\w -]/g, '')
      .replaceAll(' ', '-'),
  ),
);

/** Names of all metrics, from their declaration; a histogram gives three series. */
const declared = new Set(
  [...read('src/observe/metrics.ts').matchAll(/\b((?:recorder|process)_[a-z_]+)\b/g)].flatMap(([, name]) => [
    name!,
    `${name}_bucket`,
    `${name}_sum`,
    `${name}_count`,
  ]),
);

function metricsOf(expression: string): string[] {
  return [...expression.matchAll(/\b(?:recorder|process)_[a-z_]+\b/g)].map(([name]) => name);
}

const rules = (
  Bun.YAML.parse(read('deploy/prometheus/recorder-rules.yml')) as { groups: { rules: Rule[] }[] }
).groups.flatMap((group) => group.rules);

function hasPromtool(): boolean {
  if (Bun.which('promtool') !== null) return true;
  process.stderr.write(
    '\n*** promtool is not installed: the alert rules ARE NOT CHECKED. Install prometheus\n\n',
  );
  return false;
}

describe('alert rules', () => {
  test.skipIf(!hasPromtool())('promtool takes rules, their tests and the scrape configuration', () => {
    const cwd = join(root, 'deploy/prometheus');
    for (const args of [
      ['check', 'rules', '--lint-fatal', 'recorder-rules.yml'],
      ['test', 'rules', 'recorder-rules.test.yml'],
      ['check', 'config', '--syntax-only', 'prometheus.yml'],
    ]) {
      const { exitCode, stdout, stderr } = Bun.spawnSync(['promtool', ...args], { cwd });
      expect({ args, exitCode, text: exitCode === 0 ? '' : `${stdout}${stderr}` }).toEqual({
        args,
        exitCode: 0,
        text: '',
      });
    }
  });

  test('every alert has a paragraph that says what to type', () => {
    expect(rules.length).toBeGreaterThan(15);
    for (const { alert, labels, annotations } of rules) {
      expect(annotations.runbook_url).toBe(`docs/OPERATIONS.md#${alert.toLowerCase()}`);
      expect([...anchors]).toContain(alert.toLowerCase());
      expect(['critical', 'warning']).toContain(labels.severity);
      const paragraph = operations.split(`### ${alert}\n`)[1]!.split('\n### ')[0]!;
      expect(paragraph).toContain('```sh\n');
    }
  });

  test('every metric in them is declared', () => {
    for (const { alert, expr } of rules) {
      const unknown = metricsOf(expr).filter((name) => !declared.has(name));
      expect({ alert, unknown }).toEqual({ alert, unknown: [] });
    }
  });

  test('the runbook has what it speaks of', () => {
    const own = operations.slice(operations.indexOf('## Alerts'));
    const alerts = new Set(rules.map(({ alert }) => alert));
    for (const [, name] of own.matchAll(/^### (\w+)$/gm)) expect([...alerts]).toContain(name!);
    for (const [name] of own.matchAll(/\bRecorder[A-Z]\w+/g)) expect([...alerts]).toContain(name);
    for (const [, anchor] of operations.matchAll(/\]\(#([^)]+)\)/g)) expect([...anchors]).toContain(anchor!);
    const variables = [...operations.matchAll(/\bHFT_\w+\b/g)].map(([name]) => name.replace(/_$/, ''));
    const policies = variables.filter((name) => name.startsWith('HFT_WAL_FULL_POLICY'));
    const others = variables.filter((name) => !policies.includes(name));
    expect(unknownVariables(Object.fromEntries(others.map((name) => [name, ''])))).toEqual([]);
  });

  test('every condition of the health has a paragraph', () => {
    const tags = [...read('src/supervisor/health/health-causes.ts').matchAll(/\btag: '(\w+)'/g)].map(
      ([, tag]) => tag!,
    );
    expect(tags.length).toBeGreaterThan(10);
    for (const tag of tags) expect(operations).toMatch(new RegExp(`^### ${tag}\\b`, 'm'));
  });
});

describe('dashboard', () => {
  const dashboard = JSON.parse(read('deploy/grafana/dashboards/recorder.json')) as {
    panels: {
      id: number;
      title: string;
      gridPos: { x: number; y: number; w: number; h: number };
      targets: { expr: string }[];
    }[];
  };

  test('every metric in it is declared', () => {
    for (const { title, targets } of dashboard.panels) {
      expect(targets.length).toBeGreaterThan(0);
      for (const { expr } of targets) {
        const names = metricsOf(expr);
        expect(names.length).toBeGreaterThan(0);
        expect({ title, unknown: names.filter((name) => !declared.has(name)) }).toEqual({
          title,
          unknown: [],
        });
      }
    }
  });

  test.skipIf(!hasPromtool())('every expression is one that Prometheus parses', () => {
    const expressions = dashboard.panels
      .flatMap(({ targets }) => targets.map(({ expr }) => expr))
      .map((expr) => expr.replaceAll('$__rate_interval', '1m').replaceAll('$instance', '.*'));
    const rulesOf = expressions.map((expr, i) => ({ record: `panel:${i}`, expr }));
    const text = JSON.stringify({ groups: [{ name: 'panels', rules: rulesOf }] });
    const { exitCode, stderr } = Bun.spawnSync(['promtool', 'check', 'rules', '--lint=none', '/dev/stdin'], {
      stdin: new TextEncoder().encode(text),
    });
    expect({ exitCode, errors: stderr.toString() }).toEqual({ exitCode: 0, errors: '' });
  });

  test('panels have ids of their own and do not overlap', () => {
    const { panels } = dashboard;
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
  });
});

describe('containers', () => {
  interface Service {
    image?: string;
    build?: { context: string; dockerfile: string };
    environment?: Record<string, string>;
    volumes?: string[];
    secrets?: string[];
    profiles?: string[];
    command?: string[];
  }
  const file = 'deploy/docker/compose.yml';
  const compose = Bun.YAML.parse(read(file)) as {
    services: Record<string, Service>;
    volumes: Record<string, null>;
    secrets: Record<string, { file: string }>;
  };

  test('the services are there; the loader is run on demand', () => {
    expect(Object.keys(compose.services).sort()).toEqual(
      ['clickhouse', 'grafana', 'prometheus', 'recorder', 'wal-loader'].sort(),
    );
    const loader = compose.services['wal-loader']!;
    expect([loader.profiles, loader.command]).toEqual([['tools'], ['load', '--once']]);
    expect(compose.services['recorder']!.build!.dockerfile).toBe('deploy/docker/Dockerfile');
  });

  test('volumes, secrets, mounted files and settings are there; images are pinned', () => {
    for (const { image, environment, volumes = [], secrets = [] } of Object.values(compose.services)) {
      if (image !== 'recorder') expect(image).toMatch(/^[\w/-]+:v?\d+(?:\.\d+)+$/);
      for (const volume of volumes) {
        const source = volume.split(':')[0]!;
        if (source.startsWith('.')) expect(existsSync(join(root, 'deploy/docker', source))).toBe(true);
        else expect(Object.keys(compose.volumes)).toContain(source);
      }
      for (const secret of secrets) expect(Object.keys(compose.secrets)).toContain(secret);
      for (const value of Object.values(environment ?? {})) {
        const secret = /^\/run\/secrets\/(.*)$/.exec(value)?.[1];
        if (secret !== undefined) expect(secrets).toContain(secret);
      }
      expect(unknownVariables(environment ?? {})).toEqual([]);
    }
  });

  test('only loopback is open to the host', () => {
    for (const service of Object.values(compose.services) as { ports?: string[] }[])
      for (const port of service.ports ?? []) expect(port).toStartWith('127.0.0.1:');
  });

  function composeCommand(): string[] | null {
    for (const command of [['docker', 'compose'], ['docker-compose']]) {
      if (Bun.which(command[0]!) === null) continue;
      if (Bun.spawnSync([...command, 'version'], { stdout: 'ignore', stderr: 'ignore' }).exitCode === 0)
        return command;
    }
    process.stderr.write('\n*** docker compose is not installed: `compose config` DOES NOT RUN.\n\n');
    return null;
  }
  const command = composeCommand();
  test.skipIf(command === null)('compose takes the file', () => {
    const { exitCode, stderr } = Bun.spawnSync([...command!, '-f', join(root, file), 'config', '-q']);
    expect({ exitCode, errors: stderr.toString() }).toEqual({ exitCode: 0, errors: '' });
  });

  test('the image is built from files that are there', () => {
    const dockerfile = read('deploy/docker/Dockerfile');
    const version = (JSON.parse(read('package.json')) as { engines: { bun: string } }).engines.bun;
    expect(dockerfile).toContain(`FROM oven/bun:${version}-`);
    for (const [, name] of dockerfile.matchAll(/^ENV (.*)$/gm))
      expect(unknownVariables(Object.fromEntries(name!.split(' ').map((pair) => pair.split('='))))).toEqual(
        [],
      );
    expect(dockerfile).toMatch(/^USER recorder$/m);
  });
});
