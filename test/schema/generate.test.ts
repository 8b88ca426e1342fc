import { afterEach, describe, expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createBatch } from '../../src/columns/batch.ts';
import { openBlock } from '../../src/columns/block-codec.ts';
import { rowAt } from '../../src/columns/block-rows.ts';
import { createFrameBuilder } from '../../src/schema/build-frame.ts';
import { createExtractor } from '../../src/schema/extractor.ts';
import { adaptClassText, generate } from '../../src/schema/generate.ts';
import { createGeneric, type GeneratedClass } from '../../src/schema/generic.ts';
import { MODERN } from '../../src/sink/capabilities.ts';
import { createTable } from '../../src/sink/ddl.ts';

import { extractOne } from '../support/frames.ts';
import { hasFlatc, projectDir, schemaFolder, topicSchema } from '../support/schemas.ts';

const folders: string[] = [];

/** A new folder below node_modules, so that generated modules find the flatbuffers package. */
function outFolder(): string {
  const dir = mkdtempSync(join(projectDir, 'node_modules/.recorder-generate-'));
  folders.push(dir);
  return dir;
}

function schemas(files: Record<string, string>): string {
  const dir = schemaFolder(files);
  folders.push(dir);
  return dir;
}

afterEach(() => {
  for (const dir of folders.splice(0)) rmSync(dir, { recursive: true, force: true });
});

function filesOf(dir: string): Record<string, string> {
  const names = readdirSync(dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    names.map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return [path.slice(dir.length + 1), readFileSync(path).toString('latin1')];
    }),
  );
}

describe.skipIf(!hasFlatc)('generate', () => {
  test('the committed files are what the schemas give', () => {
    const out = outFolder();
    generate(join(projectDir, 'schemas'), join(out, 'generated'), join(out, 'SCHEMA.md'));
    expect(filesOf(join(out, 'generated'))).toEqual(filesOf(join(projectDir, 'src/schema/generated')));
    expect(readFileSync(join(out, 'SCHEMA.md'), 'utf8')).toBe(
      readFileSync(join(projectDir, 'docs/SCHEMA.md'), 'utf8'),
    );
  });

  test('the committed files of the test topic are what its schema gives', () => {
    const out = outFolder();
    const golden = join(projectDir, 'test/golden/all-types');
    generate(join(golden, 'schemas'), join(out, 'generated'), join(out, 'generated/SCHEMA.md'));
    expect(filesOf(join(out, 'generated'))).toEqual(filesOf(join(golden, 'generated')));
    expect(readFileSync(join(golden, 'schemas/attributes.fbs'), 'utf8')).toBe(
      readFileSync(join(projectDir, 'schemas/attributes.fbs'), 'utf8'),
    );
  });

  test('adding a topic is adding a schema file', async () => {
    const schema = topicSchema('symbol: string; rate: long (clickhouse: "Decimal(18, 9)"); tags: [ushort];');
    const out = join(outFolder(), 'generated');
    const models = generate(schemas({ 'demo.fbs': schema }), out, `${out}.md`);
    const model = models[0]!;
    expect(models.map(({ topic }) => topic)).toEqual(['demo']);
    const { generatedTopics } = (await import(join(out, 'index.ts'))) as {
      generatedTopics: { generatedClass: GeneratedClass }[];
    };
    const frame = createFrameBuilder(model).build({ ts: 5n, symbol: 'X', rate: -1n, tags: [1, 65535] });
    const fast = extractOne(createExtractor(model), createBatch(model, 8), frame);
    const slow = extractOne(
      createGeneric(model, generatedTopics[0]!.generatedClass),
      createBatch(model, 8),
      frame,
    );
    expect(fast.block).toEqual(slow.block!);
    const row = rowAt(openBlock(model, fast.block!, 1), 0, { lsn: 7n, recorder: 'r', walId: 9n });
    expect(row).toMatchObject({ ts: 5, symbol: 'X', rate: '-0.000000001', tags: [1, 65535], wal_lsn: 7 });
    expect(createTable(model, MODERN, 'hft')).toMatch(/`?rate`? Decimal\(18, 9\)/);
  });

  test('an error in one schema changes nothing', () => {
    const out = join(outFolder(), 'generated');
    generate(schemas({ 'demo.fbs': topicSchema('a: long;') }), out, `${out}.md`);
    const before = filesOf(out);
    const bad = schemas({ 'demo.fbs': topicSchema('a: [string];') });
    expect(() => generate(bad, out, `${out}.md`)).toThrow(/field a: a vector of string/);
    expect(() => generate(schemas({ 'demo.fbs': 'table {' }), out, `${out}.md`)).toThrow(
      /flatc .*demo\.fbs/s,
    );
    expect(filesOf(out)).toEqual(before);
  });

  test('two topics with one table, a wrong file name and a default that flatc loses are refused', () => {
    const out = join(outFolder(), 'generated');
    const twin = topicSchema('', 'topic: "twin", clickhouse: "demo", order_by: "ts", partition_by: "day"');
    const both = schemas({ 'demo.fbs': topicSchema(''), 'twin.fbs': twin.replace('"DEMO"', '"TWIN"') });
    expect(() => generate(both, out, `${out}.md`)).toThrow(/both have table "demo"/);
    expect(() => generate(schemas({ 'x.fbs': topicSchema('') }), out, `${out}.md`)).toThrow(
      /x\.fbs describes topic/,
    );
    const lost = schemas({ 'demo.fbs': topicSchema('n: ulong = 18446744073709551615;') });
    expect(() => generate(lost, out, `${out}.md`)).toThrow(
      /field n: flatc loses the default 18446744073709551615/,
    );
  });

  test('a folder that was not generated is never emptied', () => {
    const out = join(outFolder(), 'mine');
    mkdirSync(out);
    writeFileSync(join(out, 'index.ts'), 'precious');
    const dir = schemas({ 'demo.fbs': topicSchema('') });
    expect(() => generate(dir, out, `${out}.md`)).toThrow(/was not written by this program/);
    expect(filesOf(out)).toEqual({ 'index.ts': 'precious' });
  });
});

test('an enum of flatc becomes a constant object', () => {
  const text = "export enum Side {\n  buy = 1,\n  sell = 2\n}\nimport { X } from '../hft/x';\n";
  expect(adaptClassText(text)).toContain('export const Side = {\n  buy: 1,\n  sell: 2\n} as const;');
  expect(adaptClassText(text)).toContain("from '../hft/x.ts'");
  expect(adaptClassText("export enum W {\n  top = '18446744073709551615'\n}")).toContain(
    'top: 18446744073709551615n',
  );
});
