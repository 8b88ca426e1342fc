import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { connectUdpProducer, type UdpProducerOptions } from '../../src/feed/udp-producer.ts';
import { createDatagramListener, type DatagramListener } from '../../src/net/datagram-listener.ts';
import { StreamTable } from '../../src/net/session.ts';
import { parseUdpEndpoints } from '../../src/net/udp-endpoint.ts';
import { RecordingSink, testFrame, until } from '../net/recording-sink.ts';
import { seededRandom } from '../support/random.ts';

let sink: RecordingSink;
let listener: DatagramListener;

beforeEach(async () => {
  sink = new RecordingSink();
  const feeds = parseUdpEndpoints('f=127.0.0.1:0|127.0.0.1:0');
  listener = await createDatagramListener({ feeds, streams: new StreamTable(), sink, gapTimeoutMs: 60 });
});
afterEach(() => listener.close());

const line = (index: number) => ({ host: '127.0.0.1', port: listener.lines[index]!.port });

async function sendFrames(options: Partial<UdpProducerOptions>, frames: Uint8Array[]) {
  const producer = await connectUdpProducer({ lines: [line(0)], session: 'RUN', ...options });
  for (const frame of frames) if (!producer.send(frame)) await producer.ready();
  await producer.close();
  await listener.drain(2000);
  return producer;
}

const frames = (count: number): Uint8Array[] =>
  Array.from({ length: count }, (_, i) => testFrame(i + 1, 140));

describe('UDP producer', () => {
  test('packs frames into datagrams below the limit, larger frames go alone', async () => {
    const random = seededRandom('producer-udp');
    const sent = Array.from({ length: 2000 }, (_, i) => testFrame(i + 1, random.int(8, 600)));
    sent.splice(1000, 0, testFrame(5000, 3000), testFrame(5001, 65_485));
    const producer = await sendFrames({}, sent);
    expect(sink.frames).toHaveLength(2002);
    for (let i = 0; i < sent.length; i++) expect(Bun.hash(sink.frames[i]!.bytes)).toBe(Bun.hash(sent[i]!));
    expect(producer.stats).toMatchObject({ sent: 2002, droppedDatagrams: 0 });
    expect(producer.stats.datagrams).toBe(listener.stats.get('f')!.packets - 3);
    expect(sink.gaps).toEqual([]);
  });

  test('a frame that fits into no datagram is refused', async () => {
    const producer = await connectUdpProducer({ lines: [line(0)], session: 'RUN' });
    expect(() => producer.send(new Uint8Array(65_486))).toThrow(
      expect.objectContaining({ code: 'frame_too_large_for_udp' }),
    );
    await producer.close();
  });

  test.each([
    ['each tenth', { dropEvery: 10 }],
    ['a seeded share', { dropRate: 0.2, seed: 7 }],
  ])('datagrams dropped on purpose (%s) are exactly the gaps that are reported', async (_what, options) => {
    const producer = await sendFrames(options, frames(5000));
    const { lostRanges } = producer;
    await until(() => sink.gaps.length >= lostRanges.length, 'the gaps');
    expect(lostRanges.length).toBeGreaterThan(10);
    expect(sink.gaps.map(({ firstSeq, lastSeq }) => ({ first: firstSeq, last: lastSeq }))).toEqual([
      ...lostRanges,
    ]);
    const lost = lostRanges.reduce((sum, { first, last }) => sum + last - first + 1, 0);
    expect(sink.frames.length + lost).toBe(5000);
  });

  test('a seed drops the same datagrams again', async () => {
    const first = await sendFrames({ dropRate: 0.1, seed: 3 }, frames(2000));
    const second = await sendFrames({ dropRate: 0.1, seed: 3, session: 'RUN2' }, frames(2000));
    const third = await sendFrames({ dropRate: 0.1, seed: 4, session: 'RUN3' }, frames(2000));
    expect(second.lostRanges).toEqual(first.lostRanges);
    expect(third.lostRanges).not.toEqual(first.lostRanges);
  });

  test('of two lines that drop each for itself, only what both dropped is lost', async () => {
    const producer = await sendFrames({ lines: [line(0), line(1)], dropRate: 0.3, seed: 11 }, frames(5000));
    await until(() => sink.gaps.length >= producer.lostRanges.length, 'the gaps');
    const gaps = sink.gaps.map(({ firstSeq, lastSeq }) => ({ first: firstSeq, last: lastSeq }));
    expect(gaps).toEqual([...producer.lostRanges]);
    expect(gaps.length).toBeGreaterThan(0);
    expect(listener.stats.get('f')!.duplicates).toBeGreaterThan(1000);
  });

  test('heartbeats show a lost tail while the producer is silent', async () => {
    const options = { lines: [line(0)], session: 'RUN', dropEvery: 2, heartbeatMs: 20 };
    const producer = await connectUdpProducer(options);
    producer.send(testFrame(1));
    producer.flush();
    producer.send(testFrame(2));
    producer.flush();
    await until(() => sink.gaps.length === 1, 'the gap');
    expect(sink.gaps[0]).toMatchObject({ firstSeq: 2, lastSeq: 2, state: 'missing' });
    expect(producer.stats.heartbeats).toBeGreaterThan(0);
    await producer.close();
  });

  test('a frame leaves without a second one to push it', async () => {
    const producer = await connectUdpProducer({ lines: [line(0)], session: 'RUN', heartbeatMs: 0 });
    producer.send(testFrame(1));
    await until(() => sink.frames.length === 1, 'the frame');
    await producer.close();
  });
});
