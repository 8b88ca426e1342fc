// Bodies that are made while they are sent are the bytes of all rows encoded together, and hold nothing open.

import { afterEach, beforeEach, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBlock } from '../../src/columns/block-codec.ts';
import { RecorderError } from '../../src/errors.ts';
import type { FileHandle, FileSystem } from '../../src/io/file-system.ts';
import { realFileSystem } from '../../src/io/real-file-system.ts';
import { topicByName } from '../../src/schema/registry.ts';
import { createByteSink, writtenBytes } from '../../src/sink/byte-sink.ts';
import { createBodyBuffers, groupBody } from '../../src/sink/group-body.ts';
import type { BlockSlice, GroupEncoder } from '../../src/sink/group-encoder.ts';
import { createGroupReader } from '../../src/sink/group-reader.ts';
import type { InsertGroup } from '../../src/sink/insert-group.ts';
import { createRowBinaryEncoder } from '../../src/sink/row-binary.ts';
import { createCursor } from '../../src/wal/cursor.ts';
import { RECORD_HEADER_SIZE_BYTES } from '../../src/wal/format.ts';
import { bodyBytes } from '../support/insert-body.ts';
import { seededRandom } from '../support/random.ts';
import { randomRow, writeWal } from './wal-fixture.ts';

const orders = topicByName('orders')!;
const spans = topicByName('latency_spans')!;
const models = new Map([orders, spans].map((model) => [model.topic, model]));
const random = seededRandom('group bodies');
const ROWS = 7200;
const MIB = 1024 * 1024;

let dir: string;
let open = 0;
const counting: FileSystem = Object.create(realFileSystem, {
  open: {
    value: (...args: Parameters<FileSystem['open']>) => {
      const file = realFileSystem.open(...args);
      open++;
      const counted = {
        read: (target: Uint8Array, offset: number) => file.read(target, offset),
        close: () => {
          open--;
          file.close();
        },
      };
      return counted as FileHandle;
    },
  },
});

beforeEach(() => {
  open = 0;
  dir = mkdtempSync(join(tmpdir(), 'recorder-body-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** A WAL of several segments with two topics, cut into groups. */
async function groupsOf(limits: { rows: number; bytes: number }): Promise<InsertGroup[]> {
  const blocks = Array.from({ length: 24 }, (_, index) => {
    const topic = index % 3 === 0 ? spans : orders;
    const rows = Array.from({ length: random.int(ROWS / 24, (2 * ROWS) / 24) }, () =>
      randomRow(topic, random),
    );
    return { topic, rows, ingestTs: () => 1_700_000_000_000_000_000n };
  });
  const { nextLsn } = await writeWal(dir, [orders, spans], blocks);
  const groups: InsertGroup[] = [];
  for (const model of models.values()) {
    const cursor = { fileSystem: realFileSystem, dir, durableLsn: () => nextLsn };
    const modelOf = () => model;
    const options = { cursor, topic: model.topic, fromLsn: 0n, toLsn: null, limits, modelOf };
    const reader = createGroupReader(options);
    for (let group: InsertGroup | null = null; ; ) {
      const rowsBefore: number = group?.rowCount ?? 0;
      const filled = reader.fill(group);
      if (filled === null) break;
      if (filled.closed || filled.group.rowCount === rowsBefore) groups.push(filled.group);
      if (filled.group.rowCount === rowsBefore) break;
      group = filled.closed ? null : filled.group;
    }
    reader.close();
  }
  return groups;
}

/** The same rows, from all blocks in memory. */
function whole(group: InsertGroup, encoder: GroupEncoder): Uint8Array {
  const slices: BlockSlice[] = [];
  const cursor = createCursor({
    fileSystem: realFileSystem,
    dir,
    durableLsn: () => group.lastLsn + 1n,
    fromLsn: group.firstLsn,
    topic: group.topic,
    ownPayloads: true,
  });
  for (let block = cursor.next(); block !== null; block = cursor.next()) {
    const { lsn, rowCount } = block.header;
    const fromRow = Math.max(0, Number(group.firstLsn - lsn));
    const toRow = Math.min(rowCount, Number(group.lastLsn + 1n - lsn));
    slices.push({ view: openBlock(group.model, block.payload, rowCount), lsn, fromRow, toRow });
  }
  cursor.close();
  const sink = createByteSink();
  const origin = { recorder: new TextEncoder().encode(group.recorder), walId: group.walId };
  encoder(sink, slices, origin);
  return writtenBytes(sink).slice();
}

test('bodies taken in turns, through shared buffers, are those of the whole groups', async () => {
  const groups = await groupsOf({ rows: 2000, bytes: 1 << 30 });
  expect(groups.length).toBeGreaterThan(3);
  const buffers = createBodyBuffers();
  const source = { fileSystem: counting, dir, buffers };
  const running = groups.map((group) => {
    const encoder = createRowBinaryEncoder(group.model);
    const body = groupBody(source, group, group.slices, encoder);
    return { body, pieces: [] as Uint8Array[], expected: whole(group, encoder) };
  });
  let left = [...running];
  while (left.length > 0) {
    const next = random.pick(left);
    const { value, done } = next.body.next();
    if (done === true) left = left.filter((each) => each !== next);
    else next.pieces.push((value as Uint8Array).slice());
  }
  for (const { pieces, expected } of running) {
    expect(Bun.hash(Buffer.concat(pieces))).toBe(Bun.hash(expected));
    for (const piece of pieces) expect(piece.length).toBeLessThanOrEqual(2 * MIB);
    for (const piece of pieces.slice(0, -1)) expect(piece.length).toBeGreaterThanOrEqual(MIB);
  }
  expect(running.some(({ pieces }) => pieces.length > 1)).toBe(true);
  expect(open).toBe(0);
});

test('a body is the same each time, and one that is given up holds no file open', async () => {
  const [group] = await groupsOf({ rows: 1e6, bytes: 1 << 30 });
  const encoder = createRowBinaryEncoder(group!.model);
  const source = { fileSystem: counting, dir, buffers: createBodyBuffers() };
  const make = () => groupBody(source, group!, group!.slices, encoder);
  const first = bodyBytes({ body: make() });
  const givenUp = make();
  givenUp.next();
  expect(open).toBe(1);
  givenUp.return();
  expect(open).toBe(0);
  expect(Bun.hash(bodyBytes({ body: make() }))).toBe(Bun.hash(first));
});

test('the memory of a body goes to the next one, unless somebody may still hold a piece of it', async () => {
  const [group] = await groupsOf({ rows: 1e6, bytes: 1 << 30 });
  const encoder = createRowBinaryEncoder(group!.model);
  const buffers = createBodyBuffers();
  const make = () => groupBody({ fileSystem: counting, dir, buffers }, group!, group!.slices, encoder);
  const first = bodyBytes({ body: make() });
  const { spare } = buffers;
  expect(spare).not.toBeNull();
  const [one, other] = [make(), make()];
  const piece = one.next().value as Uint8Array;
  expect(piece.buffer).toBe(spare!.bytes.buffer);
  expect((other.next().value as Uint8Array).buffer).not.toBe(piece.buffer);
  // Two bodies at once; one of them leaves its memory.
  one.return();
  expect(piece.length).toBe(0);
  expect(buffers.spare).toBeNull();
  while (other.next().done !== true);
  expect(buffers.spare).not.toBeNull();
  expect(Bun.hash(bodyBytes({ body: make() }))).toBe(Bun.hash(first));
});

test('a block that changed since the group was made ends the body with an error', async () => {
  const [group] = await groupsOf({ rows: 1e6, bytes: 1 << 30 });
  const { segment, offset, payloadSizeBytes } = group!.slices.at(-1)!;
  const file = realFileSystem.open(`${dir}/${segment}`, 'write');
  const at = offset + RECORD_HEADER_SIZE_BYTES + random.int(0, payloadSizeBytes - 1);
  const byte = new Uint8Array(1);
  file.read(byte, at);
  file.write(Uint8Array.of(byte[0]! ^ 0x20), at);
  file.close();
  const source = { fileSystem: counting, dir, buffers: createBodyBuffers() };
  const body = groupBody(source, group!, group!.slices, createRowBinaryEncoder(group!.model));
  expect(() => bodyBytes({ body })).toThrow('now reads otherwise');
  expect(open).toBe(0);
});

test('a disk that does not read ends the body with an error of the log, not of the server', async () => {
  const [group] = await groupsOf({ rows: 1e6, bytes: 1 << 30 });
  const failing: FileSystem = Object.create(counting, {
    open: {
      value: (...args: Parameters<FileSystem['open']>) => {
        const file = counting.open(...args);
        const read = () => {
          throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
        };
        return { read, close: () => file.close() };
      },
    },
  });
  const source = { fileSystem: failing, dir, buffers: createBodyBuffers() };
  const body = groupBody(source, group!, group!.slices, createRowBinaryEncoder(group!.model));
  let failure: unknown;
  try {
    bodyBytes({ body });
  } catch (error) {
    failure = error;
  }
  expect(failure).toBeInstanceOf(RecorderError);
  expect(failure).toMatchObject({ code: 'wal_read', cause: { code: 'EIO' } });
  expect(open).toBe(0);
});
