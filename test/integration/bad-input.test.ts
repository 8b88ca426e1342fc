// Bad input against a running recorder: every good frame between bad ones arrives, every refused one is
// counted by reason and kept byte for byte, and the recorder lives. The same stream goes through the
// generated extractors and through the generic path: both must store the same rows and refuse the same
// frames.

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeHello } from '../../src/net/control-messages.ts';
import { startTestServer, type TestServer } from '../support/embedded.ts';
import { seededRandom } from '../support/random.ts';
import { connectRaw, prefixed } from '../support/raw-connection.ts';
import {
  ownRows,
  type RecorderProcess,
  reconcile,
  run,
  sql,
  startRecorderProcess,
  temporaryHome,
  until,
} from '../support/recorder-process.ts';
import {
  type HostileFrame,
  hostileStream,
  neighbour,
  oddRows,
  PRODUCER_TOPICS,
  sampleFrame,
} from './hostile-frames.ts';

interface Kept {
  reason: string;
  source: string;
  session: string;
  seq: number;
  origin: string;
  offset: number;
  length: number;
  claimed: number;
  bytes: Buffer;
}

/** The quarantine, read from its description. */
function quarantine(walDir: string): Kept[] {
  const data = readFileSync(join(walDir, 'quarantine.bin'));
  const lines = readFileSync(join(walDir, 'quarantine.jsonl'), 'utf8').trimEnd().split('\n');
  return lines.map((line) => {
    const entry = JSON.parse(line) as Kept;
    return { ...entry, bytes: data.subarray(entry.offset, entry.offset + entry.length) };
  });
}

interface Status {
  malformed: Record<string, number>;
}

/** What was refused is counted by reason as it is kept. */
function expectCounted(walDir: string): void {
  const counted: Record<string, number> = {};
  for (const { reason } of quarantine(walDir)) counted[reason] = (counted[reason] ?? 0) + 1;
  const status = JSON.parse(readFileSync(join(walDir, 'status.json'), 'utf8')) as Status;
  expect(status.malformed).toEqual(counted);
}

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
}, 60_000);
afterAll(async () => server?.close());

const query = (text: string) => sql(server.url, text);

/** Table and number of each stored frame of a session; fails where one is there twice. */
async function storedSeqs(database: string, source: string, session: string): Promise<Map<number, string>> {
  const found = new Map<number, string>();
  for (const { table } of PRODUCER_TOPICS) {
    const where = `WHERE source = '${source}' AND session = '${session}'`;
    for (const [text] of await query(`SELECT seq FROM ${database}.${table} ${where}`)) {
      const seq = Number(text);
      if (found.has(seq)) throw new Error(`sequence number ${seq} is in ${found.get(seq)} and in ${table}`);
      found.set(seq, table);
    }
  }
  return found;
}

/** Every frame is a row or in the quarantine, never both; with the reason and the bytes that it must have. */
async function expectFates(
  frames: readonly HostileFrame[],
  database: string,
  { walDir, socket }: RecorderProcess,
  [source, session]: [string, string],
): Promise<Map<number, string>> {
  const rows = await storedSeqs(database, source, session);
  const kept = new Map(
    quarantine(walDir)
      .filter((entry) => entry.source === source && entry.session === session)
      .map((entry) => [entry.seq, entry]),
  );
  const wrong: unknown[] = [];
  for (const [i, { frame, fate, claimed }] of frames.entries()) {
    const seq = i + 1;
    const entry = kept.get(seq);
    const isRow = rows.has(seq);
    const isRight =
      isRow !== (entry !== undefined) &&
      (fate === 'either' || (isRow ? 'row' : entry?.reason) === fate) &&
      (entry === undefined ||
        (entry.bytes.equals(frame) &&
          entry.origin === socket &&
          entry.claimed === (claimed ?? frame.length)));
    if (!isRight)
      wrong.push({ seq, fate, isRow, reason: entry?.reason, frame: Buffer.from(frame).toString('hex') });
  }
  expect(wrong.slice(0, 5)).toEqual([]);
  expect(rows.size + kept.size).toBe(frames.length);
  return new Map([...kept].map(([seq, { reason }]) => [seq, reason]));
}

describe('a session between good and bad frames', () => {
  const random = seededRandom('bad-input');
  const odd = oddRows(random);
  const frames = hostileStream(random, odd);
  const reasons: Map<number, string>[] = [];
  const PATHS = { extractor: '1', generic: '0' };

  for (const [path, extract] of Object.entries(PATHS)) {
    test(`${path}: each frame is a row or in the quarantine, and no neighbour is lost`, async () => {
      using home = temporaryHome();
      const recorder = await startRecorderProcess(home.path, {
        flags: ['--clickhouse-host', server.url, '--clickhouse-database', path],
        env: { HFT_BATCHER_SCHEMA_EXTRACT: extract },
      });
      try {
        const connection = await connectRaw(recorder.socket);
        await connection.write(encodeHello('hostile', 'run-1', 1));
        await connection.write(Buffer.concat(frames.map(({ bytes }) => bytes)));
        await connection.acked(frames.length);
        connection.destroy();
        expect(await recorder.end('SIGTERM')).toMatchObject({ code: 0 });
        reasons.push(await expectFates(frames, path, recorder, ['hostile', 'run-1']));
        expectCounted(recorder.walDir);
        const flags = ['--clickhouse-host', server.url, '--clickhouse-database', path];
        const { json, code } = await reconcile(recorder.walDir, ...flags);
        const malformed = reasons.at(-1)!.size;
        const received = frames.length - malformed + (await ownRows(server.url, path));
        expect({ code, ...json }).toMatchObject({
          code: 0,
          matches: true,
          received,
          malformed,
        });
      } finally {
        await recorder.end('SIGKILL');
      }
    }, 120_000);
  }

  test('neighbours carry their numbers', async () => {
    const rows = await query(
      `SELECT seq, latency_ns FROM extractor.latency_spans WHERE trace_id = 'neighbour' AND seq = latency_ns`,
    );
    expect(rows).toHaveLength(frames.length / 2);
  });

  test('strings that are not UTF-8 and 10,000 levels are stored exactly', async () => {
    const texts = odd
      .filter(({ topic }) => topic.topic === 'orders')
      .map(({ row }) => row['symbol'] as Uint8Array);
    const stored = await query(
      `SELECT hex(order_id), hex(symbol), hex(strategy_id), hex(reason) FROM extractor.orders
       WHERE exch_ts = fromUnixTimestamp64Nano(toInt64(1)) ORDER BY seq LIMIT ${texts.length}`,
    );
    const hex = texts.map((text) => Buffer.from(text).toString('hex').toUpperCase());
    expect(stored).toEqual(hex.map((text) => [text, text, text, text]));
    const deep = odd.find(({ topic }) => topic.topic === 'market_data')!.row;
    for (const column of ['bid_prices', 'bid_sizes', 'ask_prices', 'ask_sizes']) {
      const [row] = await query(
        `SELECT arrayStringConcat(arrayMap(x -> toString(reinterpretAsInt64(x)), ${column}), ',')
         FROM extractor.market_data WHERE kind = 200 AND length(${column}) = 10000`,
      );
      expect(row?.[0] === (deep[column] as bigint[]).join(',')).toBe(true);
    }
  });

  test('both paths have stored the same bytes and refused the same frames for the same reasons', async () => {
    expect(reasons).toHaveLength(2);
    expect(reasons[1]).toEqual(reasons[0]!);
    for (const { table } of PRODUCER_TOPICS) {
      const hashes = [];
      for (const path of Object.keys(PATHS)) {
        const columns = '* EXCEPT (recorder, ingest_ts, wal_id, wal_lsn)';
        const body = `SELECT ${columns} FROM ${path}.${table} ORDER BY seq FORMAT RowBinary`;
        const response = await fetch(server.url, { method: 'POST', body });
        expect(response.ok).toBe(true);
        const bytes = await response.arrayBuffer();
        expect(bytes.byteLength).toBeGreaterThan(0);
        hashes.push(Bun.hash.xxHash3(bytes));
      }
      expect({ table, hash: hashes[1] }).toEqual({ table, hash: hashes[0]! });
    }
  });
});

describe('connections and datagrams that misbehave', () => {
  const home = temporaryHome();
  const random = seededRandom('bad-connections');
  let recorder: RecorderProcess;
  beforeAll(async () => {
    const flags = [
      '--clickhouse-host',
      server.url,
      '--clickhouse-database',
      'misuse',
      '--udp',
      '127.0.0.1:0',
    ];
    recorder = await startRecorderProcess(home.path, { flags });
  }, 60_000);
  afterAll(async () => {
    await recorder?.end('SIGKILL');
    home[Symbol.dispose]();
  });

  /** Waits until the quarantine has an entry that matches. */
  const keptLike = (matches: (entry: Kept) => boolean): Promise<Kept> =>
    until(() => quarantine(recorder.walDir).find(matches), 'no such entry in the quarantine');

  /** Sends a marked frame on a connection of its own and waits until it is a row. */
  async function expectRecording(mark: number): Promise<void> {
    const connection = await connectRaw(recorder.socket);
    await connection.write(prefixed(neighbour(mark)));
    connection.end();
    await expectStored([mark]);
  }

  async function expectStored(marks: readonly number[]): Promise<void> {
    const list = marks.join(', ');
    const count = `SELECT count(), uniqExact(latency_ns) FROM misuse.latency_spans
      WHERE latency_ns IN (${list})`;
    const expected = [String(marks.length), String(marks.length)];
    await until(async () => {
      // The table is made while the recorder starts.
      const [row] = await query(count).catch((error: Error) => {
        if (/UNKNOWN_(TABLE|DATABASE)/.test(error.message)) return [];
        throw error;
      });
      return Bun.deepEquals(row, expected);
    }, `rows ${list}`);
  }

  test('a silent connection, and one that stops within a frame, hold up nobody', async () => {
    const silent = await connectRaw(recorder.socket);
    const half = await connectRaw(recorder.socket);
    const frame = prefixed(neighbour(101));
    await half.write(frame.subarray(0, 30));
    await expectRecording(100);
    expect([silent.isClosed(), half.isClosed()]).toEqual([false, false]);
    await half.write(frame.subarray(30));
    await expectStored([101]);
    silent.destroy();
    half.destroy();
  }, 60_000);

  for (const cut of [1, 3, 4, 20]) {
    test(`a connection that closes ${cut} bytes into a frame: the rest of it is kept`, async () => {
      const connection = await connectRaw(recorder.socket);
      const part = prefixed(neighbour(300)).subarray(0, cut);
      await connection.write(Buffer.concat([prefixed(neighbour(200 + cut)), part]));
      connection.end();
      await expectStored([200 + cut]);
      const entry = await keptLike(({ reason, length }) => reason === 'truncated' && length === cut);
      expect(entry).toMatchObject({ source: 'unix', seq: 2, origin: recorder.socket });
      expect(entry.bytes.equals(part)).toBe(true);
    }, 60_000);
  }

  for (const size of [0, 3]) {
    test(`a length prefix of ${size} is refused, the frames around it are rows`, async () => {
      const connection = await connectRaw(recorder.socket);
      const around = [400 + size, 410 + size];
      const body = Buffer.alloc(size, 0x77);
      await connection.write(
        Buffer.concat([prefixed(neighbour(around[0]!)), prefixed(body), prefixed(neighbour(around[1]!))]),
      );
      connection.end();
      await expectStored(around);
      const entry = await keptLike(({ reason, length }) => reason === 'too_short' && length === size);
      expect(entry.bytes.equals(body)).toBe(true);
    }, 60_000);
  }

  for (const size of [2 ** 31, 2 ** 32 - 1, 64 * 1024 * 1024 + 1]) {
    test(`a length prefix of ${size} ends its connection with a reason, and no other`, async () => {
      const other = await connectRaw(recorder.socket);
      const connection = await connectRaw(recorder.socket);
      const mark = 500 + (size % 97);
      await connection.write(
        Buffer.concat([
          prefixed(neighbour(mark)),
          prefixed(Buffer.from('rest'), size),
          prefixed(neighbour(9)),
        ]),
      );
      await connection.closed();
      const goodbye = connection.messages().find(({ kind }) => kind === 'goodbye');
      expect(goodbye).toMatchObject({ reason: 'the length prefix of a frame is broken' });
      const entry = await keptLike(({ reason, claimed }) => reason === 'bad_length' && claimed === size);
      expect(entry.bytes.subarray(0, 8)).toEqual(Buffer.from(prefixed(Buffer.from('rest'), size)));
      await other.write(prefixed(neighbour(mark + 100)));
      await expectStored([mark, mark + 100]);
      other.destroy();
    }, 60_000);
  }

  test('frames that come byte by byte', async () => {
    const connection = await connectRaw(recorder.socket);
    const bytes = Buffer.concat([800, 801, 802].map((mark) => prefixed(neighbour(mark))));
    for (const byte of bytes) {
      await connection.write(Uint8Array.of(byte));
      await Bun.sleep(0);
    }
    connection.end();
    await expectStored([800, 801, 802]);
  }, 60_000);

  test('a hundred connections that send garbage at once, while one sends good frames', async () => {
    const marks = Array.from({ length: 200 }, (_, i) => 10_000 + i);
    const good = await connectRaw(recorder.socket);
    const bad = await Promise.all(Array.from({ length: 100 }, () => connectRaw(recorder.socket)));
    for (const [i, connection] of bad.entries()) {
      const garbage = random.bytes(random.int(1, 2000));
      // A small prefix: the framing goes on, over garbage.
      if (i % 2 === 0) garbage.set([random.int(8, 100), 0, 0, 0].slice(0, garbage.length), 0);
      void connection.write(garbage);
      for (const mark of marks.slice(2 * i, 2 * i + 2)) await good.write(prefixed(neighbour(mark)));
      if (i % 3 === 0) connection.destroy();
      else connection.end();
    }
    good.end();
    await expectStored(marks);
  }, 60_000);

  test('a Hello that cannot be taken is answered with a reason', async () => {
    const cases: [Uint8Array, RegExp][] = [
      [encodeHello('x'.repeat(256), 's', 1), /^Hello refused:/],
      [encodeHello('', 's', 1), /^Hello refused:/],
      [encodeHello('udp', 's', 1), /kept for the recorder/],
      [encodeHello('x', 's', 0), /^Hello refused:/],
    ];
    for (const [hello, reason] of cases) {
      const connection = await connectRaw(recorder.socket);
      await connection.write(hello);
      await connection.closed();
      const [message] = connection.messages();
      expect(message).toMatchObject({ kind: 'goodbye', reason: expect.stringMatching(reason) });
    }
    await expectRecording(900);
  }, 60_000);

  test('datagrams: whole messages are rows, the rest is counted and kept', async () => {
    const port = recorder.udpPorts[0]!;
    const socket = await Bun.udpSocket({});
    const send = (bytes: Uint8Array) => {
      socket.send(bytes, port, '127.0.0.1');
    };
    /** A datagram as the protocol describes it; `count` where it is to lie. */
    const datagram = (seq: bigint, messages: readonly Uint8Array[], count = messages.length): Buffer => {
      const header = Buffer.alloc(20);
      header.write('BAD       ', 0, 'latin1');
      header.writeBigUInt64BE(seq, 10);
      header.writeUInt16BE(count, 18);
      const blocks = messages.flatMap((message) => {
        const size = Buffer.alloc(2);
        size.writeUInt16BE(message.length);
        return [size, message];
      });
      return Buffer.concat([header, ...blocks]);
    };
    const good = (mark: number) => neighbour(20_000 + mark);
    const foreign = good(0).slice();
    foreign.set(Buffer.from('NOPE'), 4);
    const damaged = sampleFrame(PRODUCER_TOPICS[0]!, random).slice(0, -20);

    for (let size = 0; size < 20; size++) send(random.bytes(size));
    send(datagram(1n, [good(1), good(2)]));
    send(datagram(0n, [good(90)]));
    send(datagram(2n ** 63n, [good(91)]));
    send(datagram(2n ** 53n - 1n, [good(92)]));
    send(datagram(3n, [good(3), good(4)], 5)); // 5 to 7 are claimed and not there
    send(datagram(5n, [good(5), good(6), good(7)])); // … and come after all
    send(Buffer.concat([datagram(8n, [good(8)]), Buffer.from('trailing')]));
    send(datagram(9n, [good(9), new Uint8Array(0), Buffer.from('abc'), foreign, good(13)]));
    const long = datagram(14n, [good(14), good(15)]);
    long.writeUInt16BE(0xffff, 20); // the first block is longer than the datagram
    send(long);
    send(datagram(14n, [good(14), good(15)]));
    send(datagram(16n, [good(16)], 0xfffe));
    send(datagram(17n, [damaged, good(18)]));
    send(datagram(19n, [], 0xffff));
    const marks = [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 18];
    await expectStored(marks.map((mark) => 20_000 + mark));
    socket.close();

    // Nothing before the end of the session is missing; what the lying count claims beyond it is.
    const seqs = await query(
      `SELECT seq, latency_ns - 20000 FROM misuse.latency_spans WHERE source = 'udp' ORDER BY seq`,
    );
    expect(seqs).toEqual(marks.map((mark) => [String(mark), String(mark)]));
    const entries = await until(() => {
      const found = quarantine(recorder.walDir).filter(({ origin }) => origin === `127.0.0.1:${port}`);
      return found.some(({ seq }) => seq === 17) ? found : null;
    }, 'the last refused message');
    const reasons = entries.map(({ reason, seq }) => `${reason} ${seq}`);
    expect(reasons.filter((text) => text === 'short_packet 0').length).toBeGreaterThanOrEqual(19);
    expect(reasons.filter((text) => !text.startsWith('short_packet'))).toEqual([
      'bad_sequence 0',
      'bad_sequence 0',
      'bad_sequence 0',
      'bad_count 5',
      'trailing_bytes 9',
      'too_short 10',
      'too_short 11',
      'unknown_identifier 12',
      'bad_count 14',
      'bad_count 17',
      expect.stringMatching(/^bad_\w+ 17$|^missing_required 17$/),
    ]);
    const kept = (text: string) => entries.find(({ reason, seq }) => `${reason} ${seq}` === text)!.bytes;
    expect(kept('trailing_bytes 9').toString()).toBe('trailing');
    expect(kept('too_short 11').toString()).toBe('abc');
    expect(kept('unknown_identifier 12').equals(foreign)).toBe(true);
  }, 60_000);

  test('after all this it records, counts right, and stops as it should', async () => {
    const feed = await run(['feed', 'sim', '--rows', '2000', '--socket', recorder.socket, '--json']);
    expect({ code: feed.code, acked: feed.json['acked'] }).toEqual({ code: 0, acked: 2000 });
    expect(await recorder.end('SIGTERM')).toMatchObject({ code: 0, signal: null });
    expectCounted(recorder.walDir);
    expect(recorder.log()).not.toMatch(/^(fatal|error):/m);
    const flags = ['--clickhouse-host', server.url, '--clickhouse-database', 'misuse'];
    const { code, json } = await reconcile(recorder.walDir, ...flags);
    expect({ code, ...json }).toMatchObject({ code: 0, matches: true, lost: 0, duplicated: 0 });
  }, 60_000);
});
