import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { realFileSystem } from '../../../src/io/real-file-system.ts';
import { connectClickHouse, type SinkClient } from '../../../src/sink/clickhouse-client.ts';
import { openFlushLog } from '../../../src/sink/flush-log.ts';
import type { OpenGroup } from '../../../src/sink/flush-log-format.ts';
import { reconcile } from '../../../src/supervisor/replay/reconcile.ts';
import { type RecorderStatus, writeStatus } from '../../../src/supervisor/status-file.ts';
import { segmentsAmong } from '../../../src/wal/format.ts';
import { openWal } from '../../../src/wal/open.ts';
import { startTestServer, type TestServer } from '../../support/embedded.ts';
import { seededRandom } from '../../support/random.ts';

const TOPICS = ['ticks', 'fills'].map((topic, index) => ({
  topic,
  table: `${topic}_table`,
  fingerprint: BigInt(index + 1),
  bfbs: new Uint8Array(8),
}));
const RECORDER = "it's me";

let server: TestServer;
let client: SinkClient;
let walDir: string;

beforeAll(async () => {
  server = await startTestServer();
  client = connectClickHouse({ urls: [server.url], user: 'default', password: '', timeoutMs: 10_000 });
  await client.command('CREATE DATABASE desk');
});
afterAll(async () => {
  await client.close();
  await server.close();
});
beforeEach(async () => {
  walDir = mkdtempSync(join(tmpdir(), 'recorder-reconcile-'));
  for (const { table } of TOPICS) {
    await client.command(`CREATE OR REPLACE TABLE desk.${table}
      (recorder String, wal_id UInt64, wal_lsn UInt64) ENGINE = MergeTree ORDER BY wal_lsn`);
  }
  return () => rmSync(walDir, { recursive: true });
});

/** Writes blocks of random sizes over several segments; the LSNs of each topic. */
async function fillWal(blockCount: number, random = seededRandom('reconcile')) {
  const wal = await openWal({ dir: walDir, recorder: RECORDER, topics: TOPICS, segmentSizeBytes: 16_384 });
  const lsns: bigint[][] = TOPICS.map(() => []);
  for (let i = 0; i < blockCount; i++) {
    const topicIndex = random.int(0, 1);
    const rowCount = random.int(1, 500);
    const first = wal.append({
      topicIndex,
      rowCount,
      firstSeq: 1n,
      lastSeq: 1n,
      firstStream: 0,
      lastStream: 0,
      streamCount: 1,
      firstIngestTs: 1n,
      lastIngestTs: 1n,
      payloadSizeBytes: 256,
      encode: (target) => target.fill(i),
    });
    for (let row = 0; row < rowCount; row++) lsns[topicIndex]!.push(first + BigInt(row));
  }
  await wal.sync();
  const { walId } = wal;
  await wal.close();
  return { walId, lsns };
}

async function insertLsns(topicIndex: number, walId: bigint, lsns: readonly bigint[]): Promise<void> {
  const rows = lsns.map((lsn) =>
    JSON.stringify({ recorder: RECORDER, wal_id: String(walId), wal_lsn: String(lsn) }),
  );
  await client.insert({
    sql: `INSERT INTO desk.${TOPICS[topicIndex]!.table} FORMAT JSONEachRow`,
    body: Buffer.from(rows.join('\n')),
    queryId: crypto.randomUUID(),
    settings: {},
  });
}

/** Logs one finished group for a topic, up to `lastLsn`. */
async function logDelivered(
  walId: bigint,
  groups: [topic: number, lastLsn: bigint, outcome: 'inserted' | 'dead'][],
) {
  const log = openFlushLog(realFileSystem, walDir, walId);
  for (const [topic, lastLsn, outcome] of groups) {
    const group: OpenGroup = {
      topic: TOPICS[topic]!.topic,
      firstLsn: 0n,
      lastLsn,
      rowCount: 3,
      contentHash: 1n,
      token: 't',
      format: 'RowBinary',
    };
    await log.open(group);
    log.close(group, outcome);
  }
  await log.end();
}

const compare = async () =>
  (await reconcile({ fileSystem: realFileSystem, walDir, client, database: 'desk' }))!;

/** Status of a recorder that has ended. */
function statusOf(walId: bigint, received: number[], logged: number[]): RecorderStatus {
  const topics = TOPICS.map(({ topic }, i) => [
    topic,
    { received: received[i]!, logged: logged[i]!, malformed: 0, shed: 0 },
  ]);
  return {
    pid: 1,
    walId: String(walId),
    recorder: RECORDER,
    updatedAt: '',
    topics: Object.fromEntries(topics),
    malformed: { bad_root: 2, too_short: 1 },
    duplicates: 4,
    gaps: 0,
  };
}

/** Ranges as the oracle sees them: each LSN of `lsns` by itself. */
const eachOf = (ranges: { firstLsn: bigint; lastLsn: bigint }[]) =>
  ranges.flatMap(({ firstLsn, lastLsn }) =>
    Array.from({ length: Number(lastLsn - firstLsn) + 1 }, (_, i) => firstLsn + BigInt(i)),
  );

describe('reconcile', () => {
  test('matches when every row is there once', async () => {
    const { walId, lsns } = await fillWal(300);
    expect(readdirSync(walDir).filter((name) => name.endsWith('.wal')).length).toBeGreaterThan(2);
    for (const topic of [0, 1]) await insertLsns(topic, walId, lsns[topic]!);
    // Rows of another WAL and another recorder do not count.
    await insertLsns(0, walId + 1n, lsns[0]!);
    await logDelivered(walId, [
      [0, lsns[0]!.at(-1)!, 'inserted'],
      [1, lsns[1]!.at(-1)!, 'inserted'],
    ]);
    writeStatus(realFileSystem, walDir, statusOf(walId, [7, 9], [7, 9]));
    const report = await compare();
    const total = lsns[0]!.length + lsns[1]!.length;
    expect(report).toMatchObject({
      matches: true,
      received: total,
      logged: total,
      inserted: total,
      lost: 0,
      duplicated: 0,
      pending: 0,
      foreign: 0,
      malformed: 3,
      resent: 4,
    });
    expect(report.topics['fills']).toMatchObject({ received: lsns[1]!.length, inserted: lsns[1]!.length });
  });

  test('names exactly the rows that are missing, pending, double or foreign', async () => {
    const random = seededRandom('reconcile differences');
    const { walId, lsns } = await fillWal(300, random);
    const own = lsns[0]!;
    const border = own[random.int(own.length >> 1, own.length - 2)]!;
    const missing = own.filter(() => random.int(0, 19) === 0);
    const present = own.filter((lsn) => !missing.includes(lsn));
    const double = present.filter(() => random.int(0, 49) === 0);
    const foreign = lsns[1]!.filter(() => random.int(0, 49) === 0);
    await insertLsns(0, walId, [...present, ...double, ...foreign]);
    await logDelivered(walId, [[0, border, 'inserted']]);
    const report = await compare();
    const ticks = report.topics['ticks']!;
    expect(report.matches).toBe(false);
    expect(ticks.duplicated).toBe(double.length);
    expect(ticks.foreign).toBe(foreign.length);
    expect(ticks.lost).toBe(missing.filter((lsn) => lsn <= border).length);
    expect(ticks.pending).toBe(missing.filter((lsn) => lsn > border).length);
    expect(ticks.inserted).toBe(present.length + foreign.length);
    const shown = eachOf(ticks.missingLsns);
    expect(shown).toEqual(missing.filter((lsn) => lsn <= border).slice(0, shown.length));
    // Nothing of the other topic was delivered: all of it is on its way, none is lost.
    expect(report.topics['fills']).toMatchObject({ pending: lsns[1]!.length, lost: 0, inserted: 0 });
  });

  test('finds a missing row behind a foreign one, though the counts agree', async () => {
    const { walId, lsns } = await fillWal(20);
    const last = lsns[0]!.at(-1)!;
    await insertLsns(0, walId, [...lsns[0]!.slice(0, -1), lsns[1]![0]!]);
    await insertLsns(1, walId, lsns[1]!);
    await logDelivered(walId, [[0, last, 'inserted']]);
    const ticks = (await compare()).topics['ticks']!;
    expect(ticks).toMatchObject({ inserted: ticks.logged, lost: 1, foreign: 1 });
    expect(ticks.missingLsns).toEqual([{ firstLsn: last, lastLsn: last }]);
  });

  test('dead letters are not lost, but nothing matches', async () => {
    const { walId, lsns } = await fillWal(20);
    await insertLsns(0, walId, lsns[0]!.slice(3));
    await insertLsns(1, walId, lsns[1]!);
    await logDelivered(walId, [[0, lsns[0]!.at(-1)!, 'dead']]);
    expect((await compare()).topics['ticks']).toMatchObject({ deadLettered: 0, lost: 3 });
    // What counts is the letter, not what the flush log says of one.
    mkdirSync(join(walDir, 'dead-letter'));
    const letter = { topic: 'ticks', walId: walId.toString(16), rowCount: 3 };
    writeFileSync(join(walDir, 'dead-letter', 'ticks-0.json'), JSON.stringify(letter));
    expect((await compare()).topics['ticks']).toMatchObject({ deadLettered: 3, lost: 0 });
    expect((await compare()).matches).toBe(false);
  });

  test('rows that were received and never logged are lost, unless the recorder was killed', async () => {
    const { walId, lsns } = await fillWal(20);
    for (const topic of [0, 1]) await insertLsns(topic, walId, lsns[topic]!);
    writeStatus(realFileSystem, walDir, statusOf(walId, [12, 5], [10, 5]));
    const report = await compare();
    expect(report.topics['ticks']).toMatchObject({ received: lsns[0]!.length + 2, lost: 2 });
    expect(report.matches).toBe(false);
    // The lock of a process that is gone.
    const lock = {
      pid: 2 ** 22 + 1,
      host: hostname(),
      bootId: '',
      processStart: '1',
      startedAt: '',
    };
    writeFileSync(join(walDir, 'lock'), JSON.stringify(lock));
    const killed = await compare();
    expect(killed).toMatchObject({ matches: true, lost: 0 });
    expect(killed.notes.join()).toContain('killed');
  });

  test('trimmed segments are counted, damage is named, no WAL is null', async () => {
    const { walId, lsns } = await fillWal(300);
    for (const topic of [0, 1]) await insertLsns(topic, walId, lsns[topic]!);
    const total = lsns[0]!.length + lsns[1]!.length;
    const wal = await openWal({ dir: walDir, recorder: RECORDER, topics: TOPICS });
    expect((await wal.trim(BigInt(total - 1))).length).toBeGreaterThan(0);
    await wal.close();
    expect(await compare()).toMatchObject({ matches: true, logged: total, inserted: total });

    const segment = readdirSync(walDir)
      .sort()
      .find((name) => name.endsWith('.wal'))!; // the last holds no rows
    const file = realFileSystem.open(join(walDir, segment), 'write');
    const size = file.sizeBytes();
    file.write(new Uint8Array([0xff]), size - 200); // within the last record's payload
    file.close();
    const damaged = await compare();
    expect(damaged.damaged.length).toBe(1);
    expect(damaged.matches).toBe(false);

    rmSync(walDir, { recursive: true });
    expect(await reconcile({ fileSystem: realFileSystem, walDir, client, database: 'desk' })).toBeNull();
    writeFileSync(walDir, '');
  });

  test('a loss that an operator has accepted is named, and the rest matches', async () => {
    const random = seededRandom('reconcile accepted');
    const { walId, lsns } = await fillWal(300, random);
    const total = lsns[0]!.length + lsns[1]!.length;
    const segments = segmentsAmong(realFileSystem.list(walDir));
    // The first segment and one in the middle are gone; of both some rows had been delivered.
    const middle = segments[Math.floor(segments.length / 2)]!;
    const next = segments[segments.indexOf(middle) + 1]!;
    for (const { name } of [segments[0]!, middle]) rmSync(join(walDir, name));
    const gone = (lsn: bigint) => lsn < segments[1]!.baseLsn || (lsn >= middle.baseLsn && lsn < next.baseLsn);
    const delivered = lsns.map((list) => list.filter((lsn) => !gone(lsn) || random.int(0, 1) === 0));
    for (const topic of [0, 1]) await insertLsns(topic, walId, delivered[topic]!);
    await logDelivered(walId, [
      [0, BigInt(total), 'inserted'],
      [1, BigInt(total), 'inserted'],
    ]);
    const before = await compare();
    expect(before).toMatchObject({ matches: false, accepted: [], acceptedRows: 0 });
    expect(before.damaged).toEqual([
      { firstLsn: 0n, lastLsn: segments[1]!.baseLsn - 1n },
      { firstLsn: middle.baseLsn, lastLsn: next.baseLsn - 1n },
    ]);
    const options = { dir: walDir, recorder: RECORDER, topics: TOPICS, allowMissingSegments: true };
    await (await openWal(options)).close();
    const after = await compare();
    const inserted = delivered[0]!.length + delivered[1]!.length;
    expect(after).toMatchObject({ matches: true, damaged: [], lost: 0, foreign: 0, inserted });
    expect(after.accepted).toEqual(before.damaged);
    expect(after.acceptedRows).toBe(total - inserted);
    // What is lost besides is not accepted with it.
    const { table } = TOPICS[0]!;
    const kept = delivered[0]!.find((lsn) => !gone(lsn))!;
    await client.command(
      `ALTER TABLE desk.${table} DELETE WHERE wal_lsn = ${kept} SETTINGS mutations_sync = 1`,
    );
    expect(await compare()).toMatchObject({ matches: false, lost: 1 });
  });

  test('without ClickHouse everything is pending', async () => {
    const { lsns } = await fillWal(20);
    const report = await reconcile({ fileSystem: realFileSystem, walDir, client: null, database: 'desk' });
    expect(report).toMatchObject({ matches: false, pending: lsns[0]!.length + lsns[1]!.length, lost: 0 });
  });
});
