// Reflection files made by flatc while a test runs. flatc is a development-time tool: where it is missing,
// the tests that need it are skipped and say so.

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

export const projectDir = resolve(import.meta.dir, '../..');

export const hasFlatc = spawnSync('flatc', ['--version']).status === 0;
if (!hasFlatc)
  process.stderr.write('SKIPPED: tests that need flatc (apt-get install flatbuffers-compiler)\n');

/** A folder with the project's attributes.fbs and the given schema files; the caller removes it. */
export function schemaFolder(files: Record<string, string>): string {
  const dir = mkdtempSync(join(tmpdir(), 'recorder-schemas-'));
  copyFileSync(join(projectDir, 'schemas/attributes.fbs'), join(dir, 'attributes.fbs'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
  return dir;
}

/** Compiles schema text to a reflection file. */
export function compileSchema(text: string): Uint8Array {
  const dir = schemaFolder({ 'topic.fbs': text });
  try {
    const run = spawnSync('flatc', ['-b', '--schema', '--bfbs-comments', 'topic.fbs'], {
      cwd: dir,
      encoding: 'utf8',
    });
    if (run.status !== 0) throw new Error(`flatc: ${run.stdout}${run.stderr}`);
    return new Uint8Array(readFileSync(join(dir, 'topic.bfbs')));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Schema text of a one-table topic. */
export function topicSchema(
  fields: string,
  attributes = 'topic: "demo", clickhouse: "demo", order_by: "ts", partition_by: "day"',
  before = '',
): string {
  return `include "attributes.fbs";
namespace demo;
${before}
table Demo (${attributes}) { ts: long; ${fields} }
root_type Demo;
file_identifier "DEMO";
`;
}
