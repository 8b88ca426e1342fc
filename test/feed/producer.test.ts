import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectProducer, type Producer, type ProducerOptions } from '../../src/feed/producer.ts';
import { StreamTable } from '../../src/net/session.ts';
import { testFrame, until } from '../net/recording-sink.ts';
import { seededRandom } from '../support/random.ts';
import { FakeRecorder } from './producer-support.ts';

const SESSION = { source: 'engine', session: 'run' };
const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1);

let folder = '';
let path = '';
let recorders: FakeRecorder[] = [];
let producers: Producer[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'recorder-producer-'));
  path = join(folder, 'r.sock');
  recorders = [];
  producers = [];
});
afterEach(() => {
  for (const producer of producers) producer.abort();
  for (const recorder of recorders) recorder.stop();
  rmSync(folder, { recursive: true });
});

async function startRecorder(streams?: StreamTable, maxConnections?: number): Promise<FakeRecorder> {
  const recorder = await FakeRecorder.start(path, streams, maxConnections);
  recorders.push(recorder);
  return recorder;
}

async function connect(options: Partial<ProducerOptions> = {}): Promise<Producer> {
  const producer = await connectProducer({ path, session: SESSION, ...options });
  producers.push(producer);
  return producer;
}

const failure = (code: string) => expect.objectContaining({ code });

describe('plain producer', () => {
  test('sends frames of any size, and close waits until they are written', async () => {
    const recorder = await startRecorder();
    const { session: _, ...plain } = { path, session: SESSION };
    const producer = await connectProducer(plain);
    const random = seededRandom('producer-plain');
    const frames = numbers(500).map((number) => testFrame(number, random.int(8, 20_000)));
    for (const frame of frames) if (!producer.send(frame)) await producer.ready();
    await producer.close();
    await until(() => recorder.sink.frames.length === 500, 'all frames');
    for (let i = 0; i < 500; i++) {
      expect(Bun.hash(recorder.sink.frames[i]!.bytes)).toBe(Bun.hash(frames[i]!));
    }
    await until(() => recorder.listener.stats.connections === 0, 'the end of the connection');
    expect(recorder.sink.refused).toEqual([]);
    expect(() => producer.send(testFrame(1))).toThrow(failure('producer_closed'));
  });

  test('goes on at a frame boundary after a lost connection', async () => {
    const first = await startRecorder();
    const producer = await connectProducer({ path });
    producers.push(producer);
    for (const number of numbers(50)) producer.send(testFrame(number));
    await until(() => first.sink.frames.length === 50, 'the first frames');
    first.stop();
    const second = await startRecorder();
    for (const number of numbers(50)) producer.send(testFrame(number));
    await until(
      () => second.sink.frames.length > 0 && producer.stats.connections === 2,
      'the second connection',
    );
    await producer.close();
    expect(second.sink.refused).toEqual([]);
  });
});

describe('session producer', () => {
  test('is drained when every frame is acknowledged, not before', async () => {
    const recorder = await startRecorder();
    const producer = await connect();
    for (const number of numbers(1000)) producer.send(testFrame(number));
    await producer.flushed();
    await until(() => recorder.sink.frames.length === 1000, 'the frames');
    await expect(producer.drained(30)).rejects.toEqual(failure('producer_timeout'));
    expect(producer.ackedSeq).toBe(0);
    recorder.sync();
    await producer.drained(5000);
    expect(producer.stats).toMatchObject({ sent: 1000, acked: 1000, connections: 1 });
    expect(recorder.sink.seqs()).toEqual(numbers(1000));
    await producer.close();
  });

  test('waits for a recorder that starts later', async () => {
    const connecting = connect();
    await Bun.sleep(60);
    await startRecorder();
    const producer = await connecting;
    expect(producer.stats.connections).toBe(1);
  });

  test('gives up when no recorder answers in time', async () => {
    await expect(connect({ connectTimeoutMs: 50 })).rejects.toEqual(failure('producer_cannot_connect'));
  });

  test('resends from the last Ack after a restart of the recorder', async () => {
    const first = await startRecorder();
    const producer = await connect();
    for (const number of numbers(300)) producer.send(testFrame(number));
    await until(() => first.sink.frames.length === 300, 'the first frames');
    first.sync();
    await producer.drained(5000);
    for (const number of numbers(200)) producer.send(testFrame(300 + number));
    await until(() => first.sink.frames.length === 500, 'frames that will not be durable');
    first.stop();
    // The new recorder knows what was durable, as recovery would tell it.
    const streams = new StreamTable();
    streams.restore([{ ...SESSION, lastSeq: 300 }]);
    const second = (await startRecorder(streams)).syncEvery(5);
    await producer.drained(5000);
    expect(second.sink.seqs()).toEqual(numbers(200).map((number) => 300 + number));
    for (const { seq, bytes } of second.sink.frames) expect(bytes).toEqual(testFrame(seq));
    expect(producer.stats).toMatchObject({ sent: 500, acked: 500, connections: 2 });
  });

  test('skips what another run of the same session had made durable', async () => {
    const streams = new StreamTable();
    streams.restore([{ ...SESSION, lastSeq: 70 }]);
    const recorder = (await startRecorder(streams)).syncEvery(5);
    const producer = await connect();
    for (const number of numbers(100)) producer.send(testFrame(number));
    await producer.drained(5000);
    expect(recorder.sink.seqs()).toEqual(numbers(100).slice(70));
    expect(recorder.listener.stats.duplicates).toBe(0);
    expect(producer.stats).toMatchObject({ sent: 100, skipped: 70, acked: 100 });
  });

  test('nothing is lost or doubled over many restarts at random moments', async () => {
    const random = seededRandom('producer-restarts');
    const total = 20_000;
    let streams = new StreamTable();
    let recorder = await startRecorder(streams);
    const durable: number[] = [];
    const producer = await connect({ maxBufferedBytes: 50_000 });
    let isDone = false;
    const restarts = (async () => {
      while (!isDone) {
        await Bun.sleep(random.int(1, 15));
        // What has been received until now becomes durable; what comes before the stop is lost with the
        // recorder.
        recorder.sync();
        const durableFrames = recorder.sink.frames.length;
        await Bun.sleep(random.int(0, 3));
        if (random.int(0, 2) === 0) continue;
        durable.push(...recorder.sink.seqs().slice(0, durableFrames));
        const { durableSeq } = streams.open(SESSION.source, SESSION.session, true);
        recorder.stop();
        streams = new StreamTable();
        streams.restore([{ ...SESSION, lastSeq: durableSeq }]);
        recorder = await startRecorder(streams);
      }
    })();
    for (const number of numbers(total)) if (!producer.send(testFrame(number, 40))) await producer.ready();
    await producer.drained(20_000);
    isDone = true;
    await restarts;
    durable.push(...recorder.sink.seqs());
    expect(durable.length).toBe(total);
    expect(durable).toEqual(numbers(total));
    expect(producer.stats.acked).toBe(total);
  }, 30_000);

  test('a refusal ends it with the reason', async () => {
    await startRecorder();
    const refused = connect({ session: { source: '', session: 'x' } });
    await expect(refused).rejects.toMatchObject({
      code: 'producer_refused',
      message: expect.stringContaining('source must be'),
    });
  });

  test('a taken-over session ends the first producer, and it does not fight back', async () => {
    const recorder = (await startRecorder()).syncEvery(5);
    const first = await connect();
    first.send(testFrame(1));
    await first.drained(5000);
    const second = await connect();
    const isTakenOver = () => {
      try {
        return !first.send(testFrame(2));
      } catch (error) {
        return (error as { code: string }).code === 'producer_refused';
      }
    };
    await until(isTakenOver, 'the first is told');
    expect(recorder.listener.stats.accepted).toBe(2);
    await second.close();
  });

  test('a full recorder is tried again', async () => {
    await startRecorder(undefined, 1);
    const first = await connect();
    const waiting = connect({ session: { source: 'other', session: 's' } });
    await Bun.sleep(50);
    first.abort();
    await waiting;
  });
});

describe('the memory bound', () => {
  const frame = testFrame(1, 1000);

  test('block: send says so, ready resolves when Acks have made room', async () => {
    const recorder = await startRecorder();
    const producer = await connect({ maxBufferedBytes: 100_000 });
    let sent = 1;
    while (producer.send(frame)) sent++;
    expect(sent).toBeLessThanOrEqual(101);
    let isReady = false;
    const ready = producer.ready().then(() => {
      isReady = true;
    });
    await until(() => recorder.sink.frames.length === sent, 'the frames');
    expect(isReady).toBe(false);
    recorder.sync();
    await ready;
    expect(producer.send(frame)).toBe(true);
  });

  test('drop: frames beyond it are counted and take no number', async () => {
    const recorder = (await startRecorder()).syncEvery(5);
    const producer = await connect({ maxBufferedBytes: 10_000, whenFull: 'drop' });
    for (let i = 0; i < 25; i++) producer.send(frame);
    await producer.drained(5000);
    expect(producer.stats.dropped).toBeGreaterThan(0);
    expect(producer.stats.sent + producer.stats.dropped).toBe(25);
    expect(recorder.sink.seqs()).toEqual(numbers(producer.stats.sent));
    expect(recorder.sink.gaps).toEqual([]);
  });

  test('error: send throws and the producer goes on', async () => {
    const recorder = (await startRecorder()).syncEvery(5);
    const producer = await connect({ maxBufferedBytes: 5000, whenFull: 'error' });
    expect(() => {
      for (let i = 0; i < 25; i++) producer.send(frame);
    }).toThrow(failure('producer_full'));
    await producer.drained(5000);
    producer.send(frame);
    await producer.close();
    expect(recorder.sink.frames.length).toBe(producer.stats.sent);
  });
});
