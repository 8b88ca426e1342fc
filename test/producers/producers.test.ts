// Producers in C++ and Python that share no code with the recorder: every value of every frame arrives,
// first in the columns of a block, then through the whole program in ClickHouse.

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { commitRow, createBatch } from '../../src/columns/batch.ts';
import { blockSizeBytes, encodeBlock, openBlock } from '../../src/columns/block-codec.ts';
import { createExtractor } from '../../src/schema/extractor.ts';
import type { TopicModel } from '../../src/schema/model.ts';
import { topicByIdentifier, topics } from '../../src/schema/registry.ts';
import { FakeRecorder } from '../feed/producer-support.ts';
import { startTestServer, type TestServer } from '../support/embedded.ts';
import {
  type SentFrame,
  type StoredValue,
  sentFrames,
  storedInBlock,
  storedInTable,
  storedValueSql,
} from './stored-values.ts';

const HERE = import.meta.dir;
const PYTHON = '/usr/bin/python3';
const ROWS = 900;

function missingTools(): string[] {
  const tools = ['flatc', 'g++', PYTHON].filter((tool) => Bun.which(tool) === null);
  if (tools.length > 0) return tools;
  const header = Bun.spawnSync(['g++', '-x', 'c++', '-fsyntax-only', '-'], {
    stdin: Buffer.from('#include <flatbuffers/flatbuffers.h>\n'),
  });
  if (header.exitCode !== 0) tools.push('libflatbuffers-dev');
  if (Bun.spawnSync([PYTHON, '-c', 'import flatbuffers']).exitCode !== 0) tools.push('python3-flatbuffers');
  return tools;
}

const missing = missingTools();
if (missing.length > 0)
  process.stderr.write(`SKIPPED: foreign producers: not installed: ${missing.join(', ')}\n`);
const skipped = missing.length > 0;

let directory = '';
beforeAll(() => {
  if (skipped) return;
  directory = mkdtempSync(join(tmpdir(), 'recorder-producers-'));
  const build = Bun.spawnSync(['sh', join(HERE, 'build.sh'), directory], { stderr: 'inherit' });
  expect(build.exitCode).toBe(0);
}, 120_000);

let server: TestServer | null = null;
afterAll(async () => {
  await server?.close();
  if (directory !== '') rmSync(directory, { recursive: true, force: true });
});

const PRODUCERS = {
  'C++': (socket: string) => [join(directory, 'producer'), socket],
  Python: (socket: string) => [
    PYTHON,
    join(HERE, 'producer.py'),
    socket,
    '--classes',
    join(directory, 'python'),
  ],
};
type Language = keyof typeof PRODUCERS;

async function produce(language: Language, socket: string, ...flags: string[]): Promise<SentFrame[]> {
  const command = [...PRODUCERS[language](socket), '--rows', String(ROWS), ...flags];
  const child = Bun.spawn(command, { stdout: 'pipe', stderr: 'inherit' });
  const output = await new Response(child.stdout).text();
  expect(await child.exited).toBe(0);
  const frames = sentFrames(output);
  expect(frames).toHaveLength(ROWS);
  return frames;
}

/** The value that the extractor put into a block's columns. */
function extracted(model: TopicModel, frame: Uint8Array): Record<string, StoredValue> {
  const batch = createBatch(model, 1);
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  expect(createExtractor(model)(view, frame, 0, frame.length, batch)).toBe(0);
  commitRow(batch, 0, 1, 0, 0, 0);
  const streams = [{ source: new Uint8Array(), session: new Uint8Array() }];
  const payload = new Uint8Array(blockSizeBytes(batch, streams));
  encodeBlock(batch, streams, payload);
  return storedInBlock(openBlock(model, payload, 1), 0);
}

for (const language of Object.keys(PRODUCERS) as Language[]) {
  test.skipIf(skipped)(
    `${language}: every value of every frame is in the columns`,
    async () => {
      const socket = join(directory, 'fake.sock');
      const recorder = await FakeRecorder.start(socket);
      try {
        const sent = await produce(language, socket, '--seed', '42');
        while (recorder.sink.frames.length < ROWS) await Bun.sleep(5);
        for (const [i, { topic, values }] of sent.entries()) {
          const { bytes } = recorder.sink.frames[i]!;
          const model = topicByIdentifier(new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, true))!;
          expect(model.topic).toBe(topic);
          expect(extracted(model, bytes)).toEqual(values);
        }
      } finally {
        recorder.stop();
      }
    },
    60_000,
  );
}

test.skipIf(skipped)(
  'Python: a session is welcomed and acknowledged',
  async () => {
    const socket = join(directory, 'session.sock');
    const recorder = (await FakeRecorder.start(socket)).syncEvery(5);
    try {
      await produce('Python', socket, '--session', 'strategy', 'run-1');
      expect(recorder.sink.frames).toHaveLength(ROWS);
    } finally {
      recorder.stop();
    }
  },
  60_000,
);

async function query<T>(sql: string): Promise<T[]> {
  const response = await fetch(`${server!.url}/?default_format=JSON`, { method: 'POST', body: sql });
  const text = await response.text();
  if (!response.ok) throw new Error(text);
  return (JSON.parse(text) as { data: T[] }).data;
}

/** All rows of a topic by seq, as they are stored. */
async function storedRows(
  model: TopicModel,
  source: string,
): Promise<Map<number, Record<string, StoredValue>>> {
  const columnTypes = await query<{ name: string; type: string }>(
    `SELECT name, type FROM system.columns WHERE database = 'hft' AND table = '${model.table}'`,
  );
  const types = new Map(columnTypes.map(({ name, type }) => [name, type]));
  const expressions = model.columns.map(
    (column) => `${storedValueSql(column, types.get(column.name)!)} AS v${column.index}`,
  );
  const rows = await query<Record<string, string | string[] | null>>(
    `SELECT seq, ${expressions.join(', ')} FROM hft.${model.table} WHERE session = '${source}'`,
  );
  return new Map(
    rows.map((row) => {
      const values = model.columns.map((column): [string, StoredValue] => [
        column.name,
        storedInTable(column, row[`v${column.index}`] ?? null),
      ]);
      return [Number(row['seq']), Object.fromEntries(values)];
    }),
  );
}

test.skipIf(skipped)(
  'through the recorder into ClickHouse every value of every frame arrives',
  async () => {
    server = await startTestServer();
    const socket = join(directory, 'recorder.sock');
    const main = join(HERE, '../../src/main.ts');
    const recorder = Bun.spawn(
      [process.execPath, main, 'serve', '--socket', socket, '--wal-dir', join(directory, 'wal'), '--json'],
      {
        env: { ...process.env, HFT_CLICKHOUSE_HOST: '127.0.0.1', HFT_CLICKHOUSE_PORT: String(server.port) },
        stdout: 'pipe',
        stderr: 'inherit',
      },
    );
    try {
      const sent = new Map<string, SentFrame[]>();
      while (!(await isListening(socket))) await Bun.sleep(20);
      // A plain connection gets a session of its own: they come in the order of the connections.
      for (const language of Object.keys(PRODUCERS) as Language[])
        sent.set(language, await produce(language, socket));
      sent.set('session', await produce('Python', socket, '--session', 'strategy', 'run-1', '--seed', '9'));
      recorder.kill('SIGTERM');
      expect(await recorder.exited).toBe(0);
      const sessions = await query<{ session: string }>(
        'SELECT session, min(wal_lsn) AS first FROM hft.market_data GROUP BY session ORDER BY first',
      );
      expect(sessions).toHaveLength(3);
      for (const [i, frames] of [...sent.values()].entries()) {
        for (const model of topics) {
          if (model.topic === 'gaps') continue;
          const stored = await storedRows(model, sessions[i]!.session);
          const own = frames.filter(({ topic }) => topic === model.topic);
          expect(stored.size).toBe(own.length);
          for (const { seq, values } of own) expect({ seq, ...stored.get(seq) }).toEqual({ seq, ...values });
        }
      }
    } finally {
      recorder.kill('SIGKILL');
      await recorder.exited;
    }
  },
  120_000,
);

async function isListening(path: string): Promise<boolean> {
  try {
    const socket = await Bun.connect({ unix: path, socket: { data: () => {} } });
    socket.end();
    return true;
  } catch {
    return false;
  }
}
