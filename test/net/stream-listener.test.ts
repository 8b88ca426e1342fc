import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Socket } from 'bun';
import { type ControlMessage, decodeControl, encodeHello } from '../../src/net/control-messages.ts';
import { FrameReader } from '../../src/net/frame-reader.ts';
import { StreamTable } from '../../src/net/session.ts';
import { createStreamListener, type StreamListener } from '../../src/net/stream-listener.ts';
import { seededRandom } from '../support/random.ts';
import { prefix, prefixed, RecordingSink, testFrame, until } from './recording-sink.ts';

let folder = '';
let path = '';
let streams: StreamTable;
let sink: RecordingSink;
let listener: StreamListener;
let clients: Client[] = [];

/** A producer as somebody else would write it: writes bytes, collects what comes back. */
class Client {
  readonly messages: ControlMessage[] = [];
  isClosed = false;
  socket!: Socket;
  readonly #reader = new FrameReader({
    frame: (bytes, view, start, end) => {
      this.messages.push(decodeControl(bytes, view, start, end) as ControlMessage);
    },
    malformed: (reason) => {
      throw new Error(`the recorder sent ${reason}`);
    },
  });
  #unwritten: Uint8Array = new Uint8Array(0);

  static async connect(): Promise<Client> {
    const client = new Client();
    client.socket = await Bun.connect({
      unix: path,
      allowHalfOpen: true,
      socket: {
        binaryType: 'uint8array',
        data: (_socket, bytes: Uint8Array) => {
          client.#reader.push(bytes);
        },
        drain: () => client.write(new Uint8Array(0)),
        end: (socket) => {
          client.isClosed = true;
          socket.end();
        },
        close: () => {
          client.isClosed = true;
        },
        error: () => {},
      },
    });
    clients.push(client);
    return client;
  }

  write(bytes: Uint8Array): void {
    this.#unwritten = Buffer.concat([this.#unwritten, bytes]);
    const written = this.socket.write(this.#unwritten);
    this.#unwritten = this.#unwritten.subarray(Math.max(0, written));
  }

  async next(kind: ControlMessage['kind']): Promise<ControlMessage> {
    await until(() => this.messages.some((message) => message.kind === kind), `a ${kind}`);
    const index = this.messages.findIndex((message) => message.kind === kind);
    return this.messages.splice(index, 1)[0]!;
  }
}

async function start(options: { maxConnections?: number; maxFrameBytes?: number } = {}): Promise<void> {
  sink = new RecordingSink();
  listener = await createStreamListener({ path, streams, sink, ...options });
}

/** What the supervisor does: everything received so far becomes durable. */
function sync(): void {
  streams.markDurable(streams.capture());
  listener.sendAcks();
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'recorder-stream-'));
  path = join(folder, 'r.sock');
  streams = new StreamTable();
  clients = [];
  await start();
});
afterEach(() => {
  for (const { socket } of clients) socket.terminate();
  listener.close();
  rmSync(folder, { recursive: true });
});

describe('plain connections', () => {
  test('a producer that only connects and writes is recorded, with a session of its own', async () => {
    for (let i = 0; i < 2; i++) {
      const client = await Client.connect();
      client.write(prefixed(testFrame(1), testFrame(2)));
      client.socket.end();
    }
    await until(() => listener.stats.accepted === 2 && listener.stats.connections === 0, 'both are done');
    expect(sink.seqs()).toEqual([1, 2, 1, 2]);
    expect(new Set(sink.frames.map(({ streamId }) => streamId)).size).toBe(2);
    const names = sink.frames.map(({ streamId }) => streams.get(streamId)!);
    expect(new Set(names.map(({ session }) => session)).size).toBe(2);
    expect(names[0]!.source).toBe('unix');
    sync();
    expect(streams.size).toBe(0);
  });

  test('a large random stream in random writes arrives whole', async () => {
    const random = seededRandom('stream-listener');
    const frames = Array.from({ length: 3000 }, (_, i) => testFrame(i + 1, random.int(8, 4000)));
    const bytes = prefixed(...frames);
    const client = await Client.connect();
    for (let at = 0; at < bytes.length; ) {
      const size = random.int(1, 100_000);
      client.write(bytes.subarray(at, at + size));
      at += size;
      if (random.int(0, 3) === 0) await Bun.sleep(0);
    }
    await until(() => sink.frames.length === frames.length, 'all frames');
    for (let i = 0; i < frames.length; i++)
      expect(Bun.hash(sink.frames[i]!.bytes)).toBe(Bun.hash(frames[i]!));
    expect(listener.stats.bytes).toBe(bytes.length);
  });

  test('a connection that sends nothing leaves nothing', async () => {
    const client = await Client.connect();
    client.socket.end();
    await until(() => listener.stats.accepted === 1 && listener.stats.connections === 0, 'it is gone');
    expect(sink.chunks).toBe(0);
    expect(streams.size).toBe(0);
  });

  test('half a frame and then the end is counted with its bytes, the frames before it are kept', async () => {
    const client = await Client.connect();
    client.write(Buffer.concat([prefixed(testFrame(1)), prefixed(testFrame(2)).subarray(0, 13)]));
    client.socket.end();
    await until(() => sink.refused.length === 1, 'the truncated frame');
    expect(sink.seqs()).toEqual([1]);
    expect(sink.refused[0]).toMatchObject({
      reason: 'truncated',
      seq: 2,
      claimedSizeBytes: 13,
      origin: path,
    });
    expect(sink.refused[0]!.bytes).toEqual(new Uint8Array(prefixed(testFrame(2)).subarray(0, 13)));
  });

  test('a killed connection in the middle of a frame is the same', async () => {
    const client = await Client.connect();
    client.write(prefixed(testFrame(1)).subarray(0, 6));
    await until(() => listener.stats.bytes === 6, 'the bytes');
    client.socket.terminate();
    await until(() => listener.stats.connections === 0, 'it is gone');
    expect(sink.refused.map(({ reason }) => reason)).toEqual(['truncated']);
  });

  test('short and large frames are counted and take a number, their neighbours arrive', async () => {
    listener.close();
    await start({ maxFrameBytes: 100 });
    const client = await Client.connect();
    const frames = [
      testFrame(1),
      new Uint8Array(0),
      new Uint8Array(3),
      testFrame(4),
      new Uint8Array(500),
      testFrame(6),
    ];
    client.write(prefixed(...frames));
    await until(() => sink.frames.length === 3, 'the good frames');
    expect(sink.seqs()).toEqual([1, 4, 6]);
    expect(sink.refused.map(({ reason, seq }) => [reason, seq])).toEqual([
      ['too_short', 2],
      ['too_short', 3],
      ['too_large', 5],
    ]);
  });

  test('a broken length prefix ends the connection with a reason, and no other connection', async () => {
    const other = await Client.connect();
    const client = await Client.connect();
    client.write(Buffer.concat([prefixed(testFrame(1)), prefix(2 ** 31), testFrame(2)]));
    expect(await client.next('goodbye')).toMatchObject({ reason: expect.stringContaining('length prefix') });
    await until(() => client.isClosed, 'closed by the recorder');
    expect(sink.refused).toHaveLength(1);
    expect(sink.refused[0]).toMatchObject({ reason: 'bad_length', seq: 2, claimedSizeBytes: 2 ** 31 });
    other.write(prefixed(testFrame(7)));
    await until(() => sink.frames.length === 2, "the other connection's frame");
    expect(listener.stats.brokenStreams).toBe(1);
  });

  test('a Hello in the middle of a plain stream is a malformed frame', async () => {
    const client = await Client.connect();
    client.write(Buffer.concat([prefixed(testFrame(1)), encodeHello('a', 'b', 1), prefixed(testFrame(3))]));
    await until(() => sink.frames.length === 2, 'the frames');
    expect(sink.seqs()).toEqual([1, 3]);
    expect(sink.refused.map(({ reason, seq }) => [reason, seq])).toEqual([['bad_control', 2]]);
  });
});

describe('sessions', () => {
  test('are welcomed, and acknowledged only after the sync', async () => {
    const client = await Client.connect();
    client.write(Buffer.concat([encodeHello('engine', 'run', 1), prefixed(testFrame(1), testFrame(2))]));
    expect(await client.next('welcome')).toMatchObject({ durableSeq: 0, maxFrameBytes: 1024 * 1024 });
    await until(() => sink.frames.length === 2, 'the frames');
    listener.sendAcks();
    await Bun.sleep(20);
    expect(client.messages).toEqual([]);
    const capture = streams.capture();
    client.write(prefixed(testFrame(3)));
    await until(() => sink.frames.length === 3, 'the third frame');
    streams.markDurable(capture);
    listener.sendAcks();
    expect(await client.next('ack')).toEqual({ kind: 'ack', durableSeq: 2 });
    sync();
    expect(await client.next('ack')).toEqual({ kind: 'ack', durableSeq: 3 });
    const stream = streams.get(sink.frames[0]!.streamId)!;
    expect([stream.source, stream.session]).toEqual(['engine', 'run']);
  });

  test('a reconnected producer resends from its last Ack, and what was received is dropped', async () => {
    const first = await Client.connect();
    first.write(
      Buffer.concat([encodeHello('e', 's', 1), prefixed(testFrame(1), testFrame(2), testFrame(3))]),
    );
    await until(() => sink.frames.length === 3, 'the frames');
    first.socket.terminate();
    await until(() => listener.stats.connections === 0, 'it is gone');
    sync();
    const second = await Client.connect();
    second.write(
      Buffer.concat([encodeHello('e', 's', 2), prefixed(testFrame(2), testFrame(3), testFrame(4))]),
    );
    expect(await second.next('welcome')).toMatchObject({ durableSeq: 3 });
    await until(() => sink.frames.length === 4, 'the new frame');
    expect(sink.seqs()).toEqual([1, 2, 3, 4]);
    expect(listener.stats.duplicates).toBe(2);
    expect(sink.gaps).toEqual([]);
  });

  test('a frame cut by the end of the connection is taken when it is sent again', async () => {
    const first = await Client.connect();
    const frames = prefixed(testFrame(1), testFrame(2));
    first.write(Buffer.concat([encodeHello('e', 's', 1), frames.subarray(0, frames.length - 5)]));
    first.socket.end();
    await until(() => sink.frames.length === 1, 'the whole frame');
    sync();
    await until(() => listener.stats.connections === 0, 'it is gone');
    const second = await Client.connect();
    second.write(Buffer.concat([encodeHello('e', 's', 2), prefixed(testFrame(2))]));
    await until(() => sink.frames.length === 2, 'the cut frame');
    expect(sink.seqs()).toEqual([1, 2]);
    expect(sink.refused).toEqual([]);
  });

  test('after a restart what recovery found is known', async () => {
    listener.close();
    streams = new StreamTable();
    streams.restore([{ source: 'e', session: 's', lastSeq: 5, holes: [{ first: 4, last: 4 }] }]);
    await start();
    const client = await Client.connect();
    client.write(
      Buffer.concat([encodeHello('e', 's', 3), prefixed(...[3, 4, 5, 6].map((number) => testFrame(number)))]),
    );
    expect(await client.next('welcome')).toMatchObject({ durableSeq: 3 });
    await until(() => sink.frames.length === 2, 'the frames that were missing');
    expect(sink.seqs()).toEqual([4, 6]);
    sync();
    expect(await client.next('ack')).toEqual({ kind: 'ack', durableSeq: 6 });
  });

  test('a producer that goes on beyond what was received leaves a gap', async () => {
    const client = await Client.connect();
    client.write(Buffer.concat([encodeHello('e', 's', 11), prefixed(testFrame(11))]));
    await until(() => sink.frames.length === 1, 'the frame');
    expect(sink.gaps).toMatchObject([
      { source: 'e', session: 's', firstSeq: 1, lastSeq: 10, line: path, state: 'missing' },
    ]);
    sync();
    expect(await client.next('ack')).toEqual({ kind: 'ack', durableSeq: 11 });
  });

  test('a Hello may be repeated to go on from another number', async () => {
    listener.close();
    streams.restore([{ source: 'e', session: 's', lastSeq: 100 }]);
    await start();
    const client = await Client.connect();
    client.write(encodeHello('e', 's', 1));
    expect(await client.next('welcome')).toMatchObject({ durableSeq: 100 });
    client.write(Buffer.concat([encodeHello('e', 's', 101), prefixed(testFrame(101))]));
    await until(() => sink.frames.length === 1, 'the frame');
    expect(sink.seqs()).toEqual([101]);
  });

  test('a second connection takes the session over, the first is told', async () => {
    const first = await Client.connect();
    first.write(Buffer.concat([encodeHello('e', 's', 1), prefixed(testFrame(1))]));
    await until(() => sink.frames.length === 1, 'the first frame');
    const second = await Client.connect();
    second.write(Buffer.concat([encodeHello('e', 's', 2), prefixed(testFrame(2))]));
    expect(await first.next('goodbye')).toMatchObject({ reason: expect.stringContaining('taken over') });
    first.write(prefixed(testFrame(99)));
    await until(() => sink.frames.length === 2, 'the second frame');
    await until(() => first.isClosed, 'the first is closed');
    expect(sink.seqs()).toEqual([1, 2]);
  });

  test.each([
    ['an empty source', encodeHello('', 's', 1)],
    ['a name of the recorder itself', encodeHello('e', 'plain-1', 1)],
    ['a reserved source', encodeHello('feed-a', 's', 1)],
  ])('a Hello with %s is refused with a reason', async (_what, hello) => {
    streams.reserveSource('feed-a');
    const client = await Client.connect();
    client.write(Buffer.concat([hello, prefixed(testFrame(1))]));
    expect(await client.next('goodbye')).toMatchObject({ reason: expect.stringContaining('Hello refused') });
    await until(() => client.isClosed, 'closed');
    expect(sink.frames).toEqual([]);
    expect(sink.refused.map(({ reason }) => reason)).toEqual(['bad_control']);
  });

  test('a connection that ends its sending side gets its last Ack, then the end', async () => {
    const client = await Client.connect();
    client.write(Buffer.concat([encodeHello('e', 's', 1), prefixed(testFrame(1))]));
    client.socket.shutdown();
    await until(() => sink.frames.length === 1, 'the frame');
    await Bun.sleep(20);
    expect(client.isClosed).toBe(false);
    sync();
    expect(await client.next('ack')).toEqual({ kind: 'ack', durableSeq: 1 });
    await until(() => client.isClosed && listener.stats.connections === 0, 'the end');
  });

  test('every single-byte mutation of a Hello leaves the listener working', async () => {
    const hello = encodeHello('engine', 'run', 1);
    for (let at = 4; at < hello.length; at += 1) {
      const mutated = Uint8Array.from(hello);
      mutated[at]! ^= 0x81;
      const client = await Client.connect();
      client.write(Buffer.concat([mutated, prefixed(testFrame(1))]));
      client.socket.end();
    }
    await until(() => {
      sync();
      return listener.stats.accepted === hello.length - 4 && listener.stats.connections === 0;
    }, 'all are done');
    const client = await Client.connect();
    client.write(Buffer.concat([encodeHello('fresh', 'session', 1), prefixed(testFrame(1))]));
    expect((await client.next('welcome')).kind).toBe('welcome');
  });
});

describe('the listener', () => {
  test('paused it reads nothing, resumed it reads what has waited', async () => {
    const client = await Client.connect();
    client.write(prefixed(testFrame(1)));
    await until(() => sink.frames.length === 1, 'the first frame');
    listener.pause();
    const late = await Client.connect();
    client.write(prefixed(testFrame(2)));
    late.write(prefixed(testFrame(1)));
    late.socket.end();
    await Bun.sleep(50);
    expect(sink.frames).toHaveLength(1);
    listener.resume();
    await until(() => sink.frames.length === 3, 'what has waited');
  });

  test('who brings what is not wanted is held alone until released; a drain reads it all', async () => {
    const [unwanted, wanted] = [await Client.connect(), await Client.connect()];
    sink.holds = true;
    unwanted.write(prefixed(testFrame(1)));
    await until(() => listener.stats.held === 1, 'held');
    sink.holds = false;
    unwanted.write(prefixed(testFrame(2)));
    for (let i = 1; i <= 3; i++) {
      wanted.write(prefixed(testFrame(i)));
      await until(() => sink.frames.length === 1 + i, 'the other one is read');
      // A pause of all that ends is no release.
      listener.pause();
      listener.resume();
    }
    listener.release();
    await until(() => sink.frames.length === 5, 'read again');
    expect(listener.stats.held).toBe(0);
    sink.holds = true;
    unwanted.write(prefixed(testFrame(3)));
    await until(() => listener.stats.held === 1, 'held again');
    unwanted.write(prefixed(testFrame(4)));
    await listener.drain(5000);
    expect([sink.frames.length, listener.stats.held]).toEqual([7, 0]);
  });

  test('takes only so many connections', async () => {
    listener.close();
    await start({ maxConnections: 2 });
    for (let i = 0; i < 2; i++) (await Client.connect()).write(prefixed(testFrame(1)));
    await until(() => sink.frames.length === 2, 'both are used');
    const third = await Client.connect();
    expect(await third.next('goodbye')).toEqual({ kind: 'goodbye', reason: 'too many connections' });
    await until(() => third.isClosed, 'closed');
    expect(listener.stats).toMatchObject({ connections: 2, refused: 1 });
  });

  test('connections that only stay open give way to one that sends', async () => {
    listener.close();
    await start({ maxConnections: 3 });
    const used = await Client.connect();
    used.write(prefixed(testFrame(1)));
    await until(() => sink.frames.length === 1, 'used');
    const idle = [await Client.connect(), await Client.connect()];
    const late = await Client.connect();
    late.write(prefixed(testFrame(2)));
    await until(() => sink.frames.length === 2, 'the late one is read');
    expect(await idle[0]!.next('goodbye')).toEqual({ kind: 'goodbye', reason: 'too many connections' });
    await until(() => idle[0]!.isClosed, 'the oldest idle one is closed');
    expect([used.isClosed, idle[1]!.isClosed, late.isClosed]).toEqual([false, false, false]);
    expect(listener.stats).toMatchObject({ connections: 3, refused: 1 });
  });

  test('drain reads what was written, removes the socket, keeps connections for the last Ack', async () => {
    const client = await Client.connect();
    client.write(encodeHello('e', 's', 1));
    await client.next('welcome');
    const frames = Array.from({ length: 2000 }, (_, i) => testFrame(i + 1, 500));
    client.write(prefixed(...frames));
    await listener.drain(5000);
    expect(sink.frames).toHaveLength(2000);
    expect(readdirSync(folder)).toEqual([]);
    await expect(Client.connect()).rejects.toThrow();
    sync();
    expect(await client.next('ack')).toEqual({ kind: 'ack', durableSeq: 2000 });
    listener.close();
    expect(await client.next('goodbye')).toEqual({ kind: 'goodbye', reason: 'the recorder stops' });
    await until(() => client.isClosed, 'closed');
  });

  test('drain ends at its deadline where a producer never pauses', async () => {
    const client = await Client.connect();
    const timer = setInterval(() => client.write(prefixed(testFrame(1))), 5);
    await listener.drain(150);
    clearInterval(timer);
    expect(sink.frames.length).toBeGreaterThan(0);
  });
});
