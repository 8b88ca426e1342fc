// Builds and runs the foreign producers. Where their tools are not installed the tests are skipped, loudly.

import { expect } from 'bun:test';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type SentFrame, sentFrames } from './stored-values.ts';

const HERE = import.meta.dir;
const PYTHON = '/usr/bin/python3';

export type Language = 'C++' | 'Python';
export const LANGUAGES: readonly Language[] = ['C++', 'Python'];

/** Whether something that the producers need is not installed; says what. */
export function missingTools(): boolean {
  const tools = ['flatc', 'g++', PYTHON].filter((tool) => Bun.which(tool) === null);
  if (tools.length === 0) {
    const header = Bun.spawnSync(['g++', '-x', 'c++', '-fsyntax-only', '-'], {
      stdin: Buffer.from('#include <flatbuffers/flatbuffers.h>\n'),
    });
    if (header.exitCode !== 0) tools.push('libflatbuffers-dev');
    if (Bun.spawnSync([PYTHON, '-c', 'import flatbuffers']).exitCode !== 0) tools.push('python3-flatbuffers');
  }
  if (tools.length > 0) {
    process.stderr.write(
      `\n*** not installed: ${tools.join(', ')}: the tests with foreign producers DO NOT RUN.\n\n`,
    );
  }
  return tools.length > 0;
}

/** A directory for buildProducers and for sockets; the caller removes it. */
export function temporaryDirectory(): string {
  return mkdtempSync(join(tmpdir(), 'recorder-producers-'));
}

/** Compiles schemas and program into the directory. */
export function buildProducers(directory: string): void {
  const build = Bun.spawnSync(['sh', join(HERE, 'build.sh'), directory], { stderr: 'inherit' });
  expect(build.exitCode).toBe(0);
}

/** Runs a producer to its end; returns what it says that it has sent. */
export async function runProducer(
  directory: string,
  language: Language,
  socket: string,
  rows: number,
  ...flags: string[]
): Promise<SentFrame[]> {
  const programs = {
    'C++': [join(directory, 'producer'), socket],
    Python: [PYTHON, join(HERE, 'producer.py'), socket, '--classes', join(directory, 'python')],
  };
  const command = [...programs[language], '--rows', String(rows), ...flags];
  const child = Bun.spawn(command, { stdout: 'pipe', stderr: 'inherit' });
  const output = await new Response(child.stdout).text();
  expect(await child.exited).toBe(0);
  const frames = sentFrames(output);
  expect(frames).toHaveLength(rows);
  return frames;
}
