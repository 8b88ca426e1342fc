import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { udp } from 'bun';
import {
  createDatagramListener,
  type DatagramListener,
  type DatagramListenerOptions,
} from '../../src/net/datagram-listener.ts';
import {
  END_OF_SESSION,
  HEADER_BYTES,
  moldSessionField,
  writeMoldBlock,
  writeMoldHeader,
} from '../../src/net/mold-udp64.ts';
import { StreamTable } from '../../src/net/session.ts';
import { kernelDrops, requestReceiveBuffer } from '../../src/net/socket-options.ts';
import { parseUdpEndpoints } from '../../src/net/udp-endpoint.ts';
import { RecordingSink, testFrame, until } from './recording-sink.ts';

let sink: RecordingSink;
let listener: DatagramListener | null = null;
let sender: udp.Socket<'buffer'>;

beforeEach(async () => {
  sink = new RecordingSink();
  sender = await Bun.udpSocket({ socket: { error: () => {} } });
});
afterEach(() => {
  sender.close();
  listener?.close();
  listener = null;
});

async function start(
  text: string,
  options: Partial<DatagramListenerOptions> = {},
): Promise<DatagramListener> {
  const feeds = parseUdpEndpoints(text);
  listener = await createDatagramListener({
    feeds,
    streams: new StreamTable(),
    sink,
    gapTimeoutMs: 40,
    ...options,
  });
  return listener;
}

function datagram(seq: number, count: number, control?: number): Uint8Array {
  const packet = new Uint8Array(HEADER_BYTES + count * 26);
  writeMoldHeader(packet, moldSessionField('RUN'), seq, control ?? count);
  let position = HEADER_BYTES;
  for (let i = 0; i < count; i++) position = writeMoldBlock(packet, position, testFrame(seq + i));
  return packet;
}

const isGapReported = () => sink.gaps.length > 0;

describe('createDatagramListener', () => {
  test('receives unicast datagrams in order', async () => {
    const { lines } = await start('127.0.0.1:0');
    for (let seq = 1; seq <= 99; seq += 3) sender.send(datagram(seq, 3), lines[0]!.port, '127.0.0.1');
    await until(() => sink.frames.length === 99, 'all frames');
    expect(sink.seqs()).toEqual(Array.from({ length: 99 }, (_, i) => i + 1));
    expect(lines[0]).toMatchObject({ feed: 'udp', address: `127.0.0.1:${lines[0]!.port}` });
    expect(listener!.stats.get('udp')).toMatchObject({
      packets: 33,
      frames: 99,
      duplicates: 0,
      malformed: 0,
    });
  });

  test('receives over IPv6', async () => {
    const { lines } = await start('[::1]:0');
    const sender6 = await Bun.udpSocket({ hostname: '::1', socket: {} });
    sender6.send(datagram(1, 1), lines[0]!.port, '::1');
    await until(() => sink.frames.length === 1, 'the frame');
    expect(lines[0]!.address).toBe(`[::1]:${lines[0]!.port}`);
    sender6.close();
  });

  test.each([
    ['group', '239.255.77.1:0?interface=127.0.0.1'],
    ['group from one source', '232.77.1.1:0?interface=127.0.0.1&source=127.0.0.1'],
  ])('joins a multicast %s, which other programs of the host may join too', async (_what, text) => {
    const { lines } = await start(text);
    const { port } = lines[0]!;
    const sink2 = new RecordingSink();
    const feeds = parseUdpEndpoints(text.replace(':0', `:${port}`));
    const second = await createDatagramListener({ feeds, streams: new StreamTable(), sink: sink2 });
    sender.setMulticastInterface('127.0.0.1');
    sender.send(datagram(1, 2), port, text.slice(0, text.indexOf(':')));
    await until(() => sink.frames.length === 2 && sink2.frames.length === 2, 'the frames');
    second.close();
  });

  test('reports a gap as a row-worthy event when the waiting time has passed', async () => {
    const { lines } = await start('f=127.0.0.1:0');
    sender.send(datagram(1, 2), lines[0]!.port, '127.0.0.1');
    sender.send(datagram(6, 1), lines[0]!.port, '127.0.0.1');
    sender.send(datagram(10, 0, END_OF_SESSION), lines[0]!.port, '127.0.0.1');
    await until(() => sink.gaps.length === 2, 'the gaps');
    const common = { source: 'f', session: 'RUN', line: lines[0]!.address, state: 'missing' };
    expect(sink.gaps).toMatchObject([
      { firstSeq: 3, lastSeq: 5, ...common },
      { firstSeq: 7, lastSeq: 9, ...common },
    ]);
  });

  test('fills from the other line', async () => {
    const { lines } = await start('f=127.0.0.1:0|127.0.0.1:0', { gapTimeoutMs: 10_000 });
    const [a, b] = lines.map(({ port }) => port);
    sender.send(datagram(1, 2), a!, '127.0.0.1');
    sender.send(datagram(5, 2), a!, '127.0.0.1');
    await until(() => sink.frames.length === 4, 'line A');
    for (let seq = 1; seq <= 5; seq += 2) sender.send(datagram(seq, 2), b!, '127.0.0.1');
    await until(() => listener!.stats.get('f')!.packets === 5, 'line B');
    listener!.close();
    expect(sink.seqs()).toEqual([1, 2, 5, 6, 3, 4]);
    expect(sink.gaps).toEqual([]);
    expect(listener!.stats.get('f')!.duplicates).toBe(4);
  });

  test('close reports gaps that were still waiting', async () => {
    const { lines } = await start('127.0.0.1:0', { gapTimeoutMs: 60_000 });
    sender.send(datagram(4, 1), lines[0]!.port, '127.0.0.1');
    await listener!.drain(2000);
    expect(sink.frames).toHaveLength(1);
    expect(isGapReported()).toBe(false);
    listener!.close();
    expect(sink.gaps).toMatchObject([{ firstSeq: 1, lastSeq: 3, state: 'missing' }]);
  });

  test('reads thousands that wait, in their order, and lets others have their turn', async () => {
    const { lines } = await start('127.0.0.1:0');
    const frame = sink.frame.bind(sink);
    sink.frame = (...args) => {
      frame(...args);
      const until = performance.now() + 0.1;
      while (performance.now() < until);
    };
    // As many as the smallest receive buffer that a system grants has room for.
    const count = 300;
    for (let seq = 1; seq <= count; seq++) sender.send(datagram(seq, 1), lines[0]!.port, '127.0.0.1');
    let turns = 0;
    const deadline = performance.now() + 5000;
    for (; sink.frames.length < count && performance.now() < deadline; turns++)
      await new Promise((resolve) => setImmediate(resolve));
    expect(sink.seqs()).toEqual(Array.from({ length: count }, (_, i) => i + 1));
    // A turn reads for 2 ms, and a batch of 64, here 6.4 ms, to its end.
    expect(turns).toBeGreaterThan(count / 65 / 2);
    expect(lines[0]!.kernelDrops()).toBe(0);
  });

  test('empty datagrams end nothing, first or in between', async () => {
    const { lines } = await start('127.0.0.1:0');
    const { port } = lines[0]!;
    const stats = listener!.stats.get('udp')!;
    const descriptors = () => readdirSync('/proc/self/fd').length;
    const before = descriptors();
    const empty = new Uint8Array(0);
    for (let seq = 1; seq <= 20; seq++) {
      // Alone it is what Bun reads, behind another one it is what is read after.
      sender.send(empty, port, '127.0.0.1');
      await until(() => stats.malformed === 3 * seq - 2, 'the empty one');
      sender.send(datagram(seq, 1), port, '127.0.0.1');
      sender.send(empty, port, '127.0.0.1');
      sender.send(empty, port, '127.0.0.1');
      await until(() => stats.malformed === 3 * seq, 'two empty ones');
    }
    expect(sink.seqs()).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    expect(sink.refused.map(({ reason }) => reason)).toEqual(Array(60).fill('short_packet'));
    expect(descriptors()).toBe(before);
  });

  test('a datagram of any length comes whole', async () => {
    const { lines } = await start('127.0.0.1:0', { maxFrameBytes: 70_000 });
    const lengths = [8, 100, 1450, 9000, 65_507 - HEADER_BYTES - 2];
    for (const [i, length] of lengths.entries()) {
      const message = new Uint8Array(length).map((_, at) => (at * 31) ^ i);
      const packet = new Uint8Array(HEADER_BYTES + 2 + length);
      writeMoldHeader(packet, moldSessionField('RUN'), i + 1, 1);
      writeMoldBlock(packet, HEADER_BYTES, message);
      sender.send(packet, lines[0]!.port, '127.0.0.1');
    }
    await until(() => sink.frames.length === lengths.length, 'all of them');
    for (const [i, { bytes }] of sink.frames.entries()) {
      expect(bytes).toEqual(new Uint8Array(lengths[i]!).map((_, at) => (at * 31) ^ i));
    }
  });

  test('closed, it reads no more, leaves no descriptor and frees its port', async () => {
    const descriptors = () => readdirSync('/proc/self/fd').length;
    const before = descriptors();
    const { lines } = await start('127.0.0.1:0');
    const { port } = lines[0]!;
    const stats = listener!.stats.get('udp')!;
    // In the middle of what one read gave.
    sink.frame = () => stats.packets === 20 && listener!.close();
    for (let seq = 1; seq <= 300; seq++) sender.send(datagram(seq, 1), port, '127.0.0.1');
    await until(() => stats.packets >= 20, 'the frame that closes it');
    await Bun.sleep(50);
    expect(stats.packets).toBe(20);
    expect(descriptors()).toBe(before);
    const again = await Bun.udpSocket({ hostname: '127.0.0.1', port });
    again.close();
  });

  test('opens all lines or none, and says which address is taken', async () => {
    const { lines } = await start('127.0.0.1:0');
    const taken = lines[0]!.port;
    const free = await Bun.udpSocket({ hostname: '127.0.0.1', port: 0 });
    const freePort = free.port;
    free.close();
    const feeds = parseUdpEndpoints(`a=127.0.0.1:${freePort},b=127.0.0.1:${taken}`);
    const attempt = createDatagramListener({ feeds, streams: new StreamTable(), sink });
    await expect(attempt).rejects.toMatchObject({
      code: 'udp_bind_failed',
      message: expect.stringContaining(`127.0.0.1:${taken}`),
    });
    const again = await Bun.udpSocket({ hostname: '127.0.0.1', port: freePort });
    again.close();
  });

  test('an interface that this host does not have is named', async () => {
    const feeds = parseUdpEndpoints('239.255.77.1:0?interface=192.0.2.1');
    const attempt = createDatagramListener({ feeds, streams: new StreamTable(), sink });
    await expect(attempt).rejects.toMatchObject({ code: 'udp_join_failed' });
  });
});

describe.skipIf(process.platform !== 'linux')('socket options', () => {
  test('the receive buffer that was granted is reported in the measure it was asked in', async () => {
    const { fd } = sender as unknown as { fd: number };
    expect(requestReceiveBuffer(fd, 100_000)).toBe(100_000);
    const rmemMax = Number(readFileSync('/proc/sys/net/core/rmem_max', 'utf8'));
    const granted = requestReceiveBuffer(fd, 32 * 1024 * 1024)!;
    expect([32 * 1024 * 1024, rmemMax]).toContain(granted);
  });

  test("the kernel's drops are those of /proc/net/udp", async () => {
    const receiver = await Bun.udpSocket({ hostname: '127.0.0.1', port: 0, socket: { data: () => {} } });
    const { fd } = receiver as unknown as { fd: number };
    requestReceiveBuffer(fd, 4096);
    // All in one turn of the loop: the receiver cannot read meanwhile.
    for (let i = 0; i < 200; i++) sender.send(new Uint8Array(1000), receiver.port, '127.0.0.1');
    const inode = /\d+/.exec(readlinkSync(`/proc/self/fd/${fd}`))![0];
    const row = readFileSync('/proc/net/udp', 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .find((columns) => columns[9] === inode)!;
    expect(kernelDrops(fd)).toBe(Number(row.at(-1)));
    expect(kernelDrops(fd)).toBeGreaterThan(0);
    receiver.close();
  });
});
