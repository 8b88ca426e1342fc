// Style as a test: what a reviewer would otherwise have to say again and again.

import { describe, expect, test } from 'bun:test';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

const root = resolve(import.meta.dir, '..');
const MAX_FILE_LINES = 300;
const MAX_FUNCTION_LINES = 70;
const MAX_LINE_LENGTH = 110;

/**
 * Stage → stages that it may import. Stages meet only in the supervisor; nothing imports the supervisor
 * or the
 * commands but the commands. Files directly under src/ (errors, limits, clock …) are everybody's.
 */
const ALLOWED_IMPORTS: Record<string, readonly string[]> = {
  io: [],
  net: [],
  wal: ['io'],
  schema: ['columns'],
  columns: ['schema'],
  sink: ['io', 'wal', 'schema', 'columns'],
  clickhouse: [],
  feed: ['net', 'schema', 'columns'],
  observe: [],
  supervisor: ['io', 'net', 'wal', 'schema', 'columns', 'sink', 'clickhouse', 'observe'],
  cli: ['io', 'net', 'wal', 'schema', 'columns', 'sink', 'clickhouse', 'observe', 'feed', 'supervisor'],
};

function filesUnder(folder: string, ending: string): string[] {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { recursive: true })
    .map(String)
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name));
}

const isGenerated = (file: string) => file.includes('/generated/');
const sources = filesUnder('src', '.ts').filter((file) => !isGenerated(file));
const tests = [...filesUnder('test', '.ts'), ...filesUnder('bench', '.ts')].filter(
  (file) => !isGenerated(file),
);
const read = (file: string) => readFileSync(join(root, file), 'utf8');
const stageOf = (file: string) => (dirname(file) === 'src' ? null : file.split('/')[1]!);

/** Paths of the project's own modules that a file imports. */
function importsOf(file: string): string[] {
  const found = read(file).matchAll(/(?:from|import|import\()\s*'(\.[^']*)'/g);
  return [...found].map((match) => relative(root, resolve(root, dirname(file), match[1]!)));
}

/** Functions longer than the limit, found by the indentation that the formatter guarantees. */
function longFunctions(file: string): string[] {
  const lines = read(file).split('\n');
  const found: string[] = [];
  const plain = /^( *)(?:export )?(?:default )?(?:async )?function\b/;
  const arrow = /^( *)(?:export )?const \w+ = (?:async )?\(.*=> \{$/;
  const method = /^( *)(?:(?:private |static |async |override |get |set )*#?\w+\(.*\).*\{$)/;
  for (const [index, line] of lines.entries()) {
    const match = plain.exec(line) ?? arrow.exec(line) ?? method.exec(line);
    if (match === null || /^\s*(?:if|for|while|switch|return|describe|test)\b/.test(line)) continue;
    const end = lines.findIndex((text, at) => at > index && text.startsWith(`${match[1]}}`));
    if (end - index > MAX_FUNCTION_LINES) found.push(`${file}:${index + 1} has ${end - index} lines`);
  }
  return found;
}

describe('tidy', () => {
  test('stages import only the stages before them', () => {
    const wrong: string[] = [];
    for (const file of sources) {
      const stage = stageOf(file);
      for (const target of importsOf(file)) {
        const other = stageOf(target);
        if (other === null || other === stage || !target.startsWith('src/')) continue;
        const allowed =
          stage === null ? (file === 'src/main.ts' ? ['cli'] : []) : (ALLOWED_IMPORTS[stage] ?? []);
        if (!allowed.includes(other)) wrong.push(`${file} imports ${target}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('the hot path has no dependency', () => {
    const wrong: string[] = [];
    for (const file of sources.filter((name) => /^src\/(net|wal|columns)\//.test(name))) {
      for (const match of read(file).matchAll(/from '([^'.][^']*)'/g)) {
        if (!/^(node:|bun(:|$)|flatbuffers$)/.test(match[1]!)) wrong.push(`${file} imports ${match[1]}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('files, functions and lines are short', () => {
    const wrong: string[] = [];
    for (const file of sources) {
      const lines = read(file).split('\n');
      if (lines.length - 1 > MAX_FILE_LINES) wrong.push(`${file} has ${lines.length - 1} lines`);
      wrong.push(...longFunctions(file));
    }
    for (const file of [...sources, ...tests]) {
      for (const [index, line] of read(file).split('\n').entries()) {
        if (line.length > MAX_LINE_LENGTH) wrong.push(`${file}:${index + 1} has ${line.length} columns`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('no leftovers: markers, disabled or focused tests, empty catches', () => {
    const marker = new RegExp(
      `\\b(?:${['FIX', 'TO', 'XX'].map((start, i) => start + ['ME', 'DO', 'X'][i]).join('|')})\\b`,
    );
    const wrong: string[] = [];
    for (const file of [...sources, ...tests]) {
      if (file === 'test/tidy.test.ts') continue;
      const text = read(file);
      if (marker.test(text)) wrong.push(`${file}: marker`);
      if (/\b(?:test|describe|it)\.(?:only|todo|skip)\(/.test(text))
        wrong.push(`${file}: disabled or focused test`);
      if (/catch\s*(?:\([^)]*\)\s*)?\{\s*\}/.test(text)) wrong.push(`${file}: empty catch`);
    }
    expect(wrong).toEqual([]);
  });

  test('file names are kebab-case and every file under src is used', () => {
    const used = new Set([...sources, ...tests].flatMap(importsOf));
    const entryPoints = ['src/main.ts', 'src/schema/generate.ts'];
    const wrong: string[] = [];
    for (const file of sources) {
      if (!/^[a-z0-9-]+(?:\.[a-z]+)?\.ts$/.test(file.split('/').at(-1)!))
        wrong.push(`${file}: not kebab-case`);
      const isWorker =
        file.endsWith('-worker.ts') && sources.some((other) => read(other).includes(file.split('/').at(-1)!));
      const isAmbient = file.endsWith('.d.ts');
      if (!used.has(file) && !entryPoints.includes(file) && !isWorker && !isAmbient)
        wrong.push(`${file}: nothing imports it`);
    }
    expect(wrong).toEqual([]);
  });

  test('dependencies are pinned to exact versions and used', () => {
    const manifest = JSON.parse(read('package.json')) as Record<string, Record<string, string>>;
    const text = [...sources, ...tests, 'package.json'].map(read).join('\n');
    for (const group of ['dependencies', 'devDependencies', 'optionalDependencies']) {
      for (const [name, version] of Object.entries(manifest[group] ?? {})) {
        expect(`${name} ${version}`).toMatch(/ \d+\.\d+\.\d+$/);
        const indirect =
          ['typescript', '@biomejs/biome', 'bun-types'].includes(name) || name.startsWith('@types/');
        if (!indirect) expect(text).toContain(`'${name}`);
      }
    }
  });

  test('every documented file exists', () => {
    const wrong: string[] = [];
    for (const document of ['README.md', 'ARCHITECTURE.md', ...filesUnder('docs', '.md')]) {
      for (const match of read(document).matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g)) {
        const target = join(root, dirname(document), match[1]!);
        if (!existsSync(target)) wrong.push(`${document} links to ${match[1]}`);
      }
    }
    expect(wrong).toEqual([]);
    expect(statSync(join(root, '.ci/run')).mode & 0o111).not.toBe(0);
  });
});
