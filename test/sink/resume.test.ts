// What a flusher finds when it starts: a group that was under way and reads otherwise now, a horizon that is
// older than its own log, a disk without room.

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'bun:test';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FileSystem } from '../../src/io/file-system.ts';
import { realFileSystem } from '../../src/io/real-file-system.ts';
import { topicByName } from '../../src/schema/registry.ts';
import type { InsertRequest, SinkClient } from '../../src/sink/clickhouse-client.ts';
import { createFlusher, type FlusherOptions } from '../../src/sink/flusher.ts';
import type { FlusherEvent } from '../../src/sink/flusher-types.ts';
import { ServerError } from '../../src/sink/server-error.ts';
import { createCursor } from '../../src/wal/cursor.ts';
import { RECORD_HEADER_SIZE_BYTES } from '../../src/wal/format.ts';
import { HORIZON_FILE } from '../../src/wal/horizon.ts';
import { startTestServer, type TestServer } from '../support/embedded.ts';
import { seededRandom } from '../support/random.ts';
import { until } from '../support/recorder-process.ts';
import { clientOf, flusherConfigFor } from './servers.ts';
import { randomRow, writeWal } from './wal-fixture.ts';

const DRAIN_MS = 20_000;
/** Of the LSN in the file of the horizon. */
const DURABLE_OFFSET = 16;
const NOW_NS = BigInt(Date.now()) * 1_000_000n;
const random = seededRandom('resume');
const spans = topicByName('latency_spans')!;

let server: TestServer;
let client: SinkClient;
let walDir: string;
let events: FlusherEvent[];
let database = '';
let databases = 0;

beforeAll(async () => {
  server = await startTestServer();
  client = clientOf(server.url);
}, 60_000);
afterAll(async () => {
  await client.close();
  await server.close();
}, 30_000);
beforeEach(() => {
  walDir = mkdtempSync(join(tmpdir(), 'recorder-resume-'));
  events = [];
  database = `resume_${databases++}`;
});
afterEach(() => rmSync(walDir, { recursive: true, force: true }));

function make(extra: Partial<FlusherOptions> = {}) {
  const flusher = createFlusher({
    config: flusherConfigFor(server.url, { walDir, database }),
    topics: [spans],
    report: (event) => events.push(event),
    ...extra,
  });
  flusher.start();
  return flusher;
}

const append = (blocks: number, rowCount = 10) =>
  writeWal(
    walDir,
    [spans],
    Array.from({ length: blocks }, () => ({
      topic: spans,
      rows: Array.from({ length: rowCount }, () => randomRow(spans, random)),
      ingestTs: () => NOW_NS,
    })),
  );

/** A flusher that logs its group, sends it as `onInsert` says, and ends without an answer. */
async function leaveOpen(onInsert: (request: InsertRequest) => Promise<void>): Promise<void> {
  let isSent = false;
  const insert = async (request: InsertRequest) => {
    await onInsert(request);
    isSent = true;
    throw new ServerError('unknown', null, 'ECONNRESET');
  };
  const flusher = make({
    connect: () => Object.create(clientOf(server.url), { insert: { value: insert } }) as SinkClient,
  });
  await until(() => isSent, 'nothing was sent', DRAIN_MS);
  await flusher.stop();
  expect(readFileSync(join(walDir, 'flush.log'), 'utf8')).toContain('"type":"open"');
}

async function storedLsns(): Promise<number[]> {
  const sql = `SELECT wal_lsn AS lsn FROM ${database}.${spans.table} ORDER BY wal_lsn`;
  return (await client.query<{ lsn: string }>(sql)).map(({ lsn }) => Number(lsn));
}
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);
const failures = () => events.filter(({ kind }) => kind === 'failed' || kind === 'dead_letter');

/** Damages the payload of the block at `lsn`. */
function damage(lsn: bigint): void {
  const cursor = createCursor({
    fileSystem: realFileSystem,
    dir: walDir,
    durableLsn: () => lsn + 1n,
    fromLsn: lsn,
    topic: null,
  });
  const block = cursor.next()!;
  cursor.close();
  const path = join(walDir, block.segment);
  const bytes = readFileSync(path);
  const at = block.offset + RECORD_HEADER_SIZE_BYTES + random.int(0, block.header.payloadSizeBytes - 1);
  bytes[at]! ^= 0x10;
  writeFileSync(path, bytes);
}

test('rows of an open group that were damaged since are reported, the others arrive', async () => {
  await append(3);
  await leaveOpen(async () => {});
  damage(10n);
  expect((await make().drain(DRAIN_MS)).complete).toBe(true);
  expect(failures()).toEqual([]);
  expect(events).toContainEqual(expect.objectContaining({ kind: 'damage', firstLsn: 10n, lastLsn: 19n }));
  expect(await storedLsns()).toEqual([...range(0, 10), ...range(20, 30)]);
}, 60_000);

test('nothing of it is sent again where the server had taken the whole group before the damage', async () => {
  await append(3);
  await leaveOpen((request) => client.insert(request));
  damage(10n);
  expect((await make().drain(DRAIN_MS)).complete).toBe(true);
  expect(failures()).toEqual([]);
  expect(await storedLsns()).toEqual(range(0, 30));
}, 60_000);

test('a horizon older than the open group, as a power loss leaves it, is waited for', async () => {
  await append(3);
  await leaveOpen(async () => {});
  const path = join(walDir, HORIZON_FILE);
  const newest = readFileSync(path);
  const stale = Buffer.from(newest);
  stale.writeBigUInt64LE(12n, DURABLE_OFFSET);
  writeFileSync(path, stale);
  const flusher = make();
  await until(() => events.some(({ kind }) => kind === 'connected'), 'not connected', DRAIN_MS);
  await Bun.sleep(300);
  expect(failures()).toEqual([]);
  expect(await storedLsns()).toEqual([]);
  // What a recovery does, in the file that is mapped.
  writeFileSync(path, newest);
  await until(() => flusher.stats().topics[0]?.insertedRows === 30n, 'not delivered', DRAIN_MS);
  await flusher.stop();
  expect(await storedLsns()).toEqual(range(0, 30));
}, 60_000);

test('a block that is damaged while its group is sent: the rest of the group arrives', async () => {
  await append(3);
  let isFirst = true;
  const insert = async (request: InsertRequest) => {
    // After the group was read for the first time, before it is read for its body.
    if (isFirst) damage(0n);
    isFirst = false;
    await client.insert(request);
  };
  const connect = () => Object.create(clientOf(server.url), { insert: { value: insert } }) as SinkClient;
  const flusher = make({ connect });
  await until(() => flusher.stats().topics[0]?.insertedRows === 20n, 'not delivered', DRAIN_MS);
  expect((await flusher.drain(DRAIN_MS)).complete).toBe(true);
  expect(failures()).toEqual([]);
  expect(await storedLsns()).toEqual(range(10, 30));
}, 60_000);

test.each([
  ['after others of the same group have left', 100_000, 1 << 30],
  ['where it lies in several groups', 1000, 1 << 30],
  ['where it is a group of its own', 100_000, 1],
])(
  'damage from before is found when its block is sent, %s',
  async (name, flushRows, flushBytes) => {
    const [blocks, rowsOfBlock] = [10, 2500];
    await append(blocks, rowsOfBlock);
    const lsn = rowsOfBlock * (blocks - 2);
    damage(BigInt(lsn));
    let pieces = 0;
    let mostPieces = 0;
    const insert = async (request: InsertRequest) => {
      const body = request.body as Generator<Uint8Array, void>;
      pieces = 0;
      const counted = (function* () {
        for (const piece of body) {
          pieces++;
          yield piece;
        }
      })();
      try {
        await client.insert({ ...request, body: counted });
      } finally {
        mostPieces = Math.max(pieces, mostPieces);
      }
    };
    const connect = () => Object.create(clientOf(server.url), { insert: { value: insert } }) as SinkClient;
    const config = flusherConfigFor(server.url, { walDir, database, flushRows, flushBytes });
    const flusher = make({ connect, config });
    const arriving = BigInt(rowsOfBlock * (blocks - 1));
    await until(() => flusher.stats().topics[0]?.insertedRows === arriving, 'not delivered', DRAIN_MS);
    expect((await flusher.drain(DRAIN_MS)).complete).toBe(true);
    expect(failures()).toEqual([]);
    // Each row is reported once.
    const lost = events.flatMap((event) =>
      event.kind === 'damage' ? range(Number(event.firstLsn), Number(event.lastLsn) + 1) : [],
    );
    expect(lost).toEqual(range(lsn, lsn + rowsOfBlock));
    expect(mostPieces > 1).toBe(name.startsWith('after'));
    expect(await storedLsns()).toEqual([...range(0, lsn), ...range(lsn + rowsOfBlock, rowsOfBlock * blocks)]);
  },
  60_000,
);

test('a disk without room when the flusher starts is waited for, and said', async () => {
  await append(2);
  let isFull = true;
  const fileSystem: FileSystem = Object.create(realFileSystem, {
    open: {
      value: (path: string, mode: Parameters<FileSystem['open']>[1]) => {
        const isOwn = path.includes('/flusher/') || path.includes('flush.log');
        if (isFull && isOwn && mode === 'create') {
          throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
        }
        return realFileSystem.open(path, mode);
      },
    },
  });
  const flusher = make({ fileSystem });
  await until(() => events.some(({ kind }) => kind === 'no_room'), 'nothing was said', DRAIN_MS);
  await Bun.sleep(500);
  expect(failures()).toEqual([]);
  isFull = false;
  await until(() => flusher.stats().topics[0]?.insertedRows === 20n, 'not delivered', DRAIN_MS);
  expect(events).toContainEqual({ kind: 'recovered', topic: null });
  await flusher.stop();
}, 60_000);
