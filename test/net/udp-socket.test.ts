// What can go wrong with a UDP socket that is read by a descriptor of its own.

import { dlopen, ptr } from 'bun:ffi';
import { afterEach, describe, expect, spyOn, test } from 'bun:test';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { parseUdpEndpoints } from '../../src/net/udp-endpoint.ts';
import { openUdpReceiver, type UdpReceiver } from '../../src/net/udp-socket.ts';
import { temporaryHome } from '../support/recorder-process.ts';
import { until } from './recording-sink.ts';

const AF_INET = 2;
const SOCK_DGRAM = 2;
const MSG_DONTWAIT = 0x40;
const MSG_ERRQUEUE = 0x2000;
const RECEIVE_BUFFER = 100_000;
const [LINE] = parseUdpEndpoints('127.0.0.1:0')[0]!.lines;

const libc = dlopen('libc.so.6', {
  socket: { args: ['int', 'int', 'int'], returns: 'int' },
  bind: { args: ['int', 'ptr', 'u32'], returns: 'int' },
  getsockname: { args: ['int', 'ptr', 'ptr'], returns: 'int' },
  sendto: { args: ['int', 'ptr', 'u64', 'int', 'ptr', 'u32'], returns: 'i64' },
  recv: { args: ['int', 'ptr', 'u64', 'int'], returns: 'i64' },
  dup: { args: ['int'], returns: 'int' },
  close: { args: ['int'], returns: 'int' },
}).symbols;

const receivers: UdpReceiver[] = [];
afterEach(() => {
  for (const receiver of receivers.splice(0)) receiver.close();
});

async function receive(onDatagram: (text: string) => void): Promise<UdpReceiver> {
  const receiver = await openUdpReceiver(LINE!, RECEIVE_BUFFER, (bytes, _view, start, end) =>
    onDatagram(Buffer.from(bytes.subarray(start, end)).toString()),
  );
  receivers.push(receiver);
  return receiver;
}

async function send(port: number, ...texts: string[]): Promise<void> {
  const sender = await Bun.udpSocket({});
  for (const text of texts) sender.send(text, port, '127.0.0.1');
  sender.close();
}

/** struct sockaddr_in of 127.0.0.1. */
const loopback = (port: number): Uint8Array =>
  Uint8Array.of(AF_INET, 0, port >> 8, port & 255, 127, 0, 0, 1, ...Array<number>(8).fill(0));

const descriptors = () => readdirSync('/proc/self/fd').map(Number);

/** The descriptors of this process that are the UDP socket bound to `port`. */
function descriptorsOf(port: number): number[] {
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0');
  const row = readFileSync('/proc/net/udp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .find((columns) => columns[1]?.endsWith(`:${hexPort}`))!;
  const isSocket = (fd: number): boolean => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === `socket:[${row[9]}]`;
    } catch {
      return false; // The descriptor of the folder that was listed.
    }
  };
  return descriptors().filter(isSocket);
}

describe.skipIf(process.platform !== 'linux')('a UDP socket that is read past Bun', () => {
  test('keeps no ICMP errors, which nobody would take from it', async () => {
    const came: string[] = [];
    const { port } = await receive((text) => came.push(text));
    const unused = await Bun.udpSocket({ hostname: '127.0.0.1', port: 0 });
    const closedPort = unused.port;
    unused.close();
    const [fd] = descriptorsOf(port);
    const address = loopback(closedPort);
    const scrap = new Uint8Array(256);
    for (let i = 0; i < 200; i++) {
      // "Port unreachable" comes back to the receiver's own address.
      expect(libc.sendto(fd!, ptr(scrap), 1, 0, ptr(address), address.length)).toBe(1n);
    }
    expect(libc.recv(fd!, ptr(scrap), scrap.length, MSG_DONTWAIT | MSG_ERRQUEUE)).toBe(-1n);
    await send(port, 'after');
    await until(() => came.length === 1, 'the datagram after the errors');
    expect(descriptorsOf(port)).toHaveLength(2);
  });

  test('is not read once its first datagram has closed it', async () => {
    // By then the descriptor's number is another socket's.
    const other = libc.socket(AF_INET, SOCK_DGRAM, 0);
    const address = loopback(0);
    expect(libc.bind(other, ptr(address), address.length)).toBe(0);
    expect(libc.getsockname(other, ptr(address), ptr(Uint32Array.of(address.length)))).toBe(0);
    await send((address[2]! << 8) | address[3]!, 'kept');
    const taken: number[] = [];
    const receiver = await receive(() => {
      const before = descriptorsOf(receiver.port);
      receiver.close();
      while (taken.length < 8) taken.push(libc.dup(other));
      expect(taken).toEqual(expect.arrayContaining(before));
    });
    await send(receiver.port, 'first', 'second');
    await until(() => taken.length > 0, 'the datagram');
    const scrap = new Uint8Array(16);
    expect(libc.recv(other, ptr(scrap), scrap.length, MSG_DONTWAIT)).toBe(4n);
    for (const fd of [other, ...taken]) libc.close(fd);
  });

  test('is watched again where the system has refused it once, and leaves no descriptor', async () => {
    const came: string[] = [];
    const { port } = await receive((text) => came.push(text));
    const before = descriptors().length;
    const connect = spyOn(Bun, 'connect').mockRejectedValueOnce(new Error('ENOSPC: epoll_ctl'));
    try {
      await send(port, '');
      await until(() => came.length === 1, 'the empty one');
      await send(port, 'later');
      await until(() => came.length === 2, 'the one after');
      expect(connect).toHaveBeenCalledTimes(2);
    } finally {
      connect.mockRestore();
    }
    expect(came).toEqual(['', 'later']);
    expect(descriptors().length).toBe(before);
  });

  test('that cannot be watched from the start is an error, and leaves nothing', async () => {
    const before = descriptors().length;
    const connect = spyOn(Bun, 'connect').mockRejectedValue(new Error('ENOSPC: epoll_ctl'));
    try {
      await expect(receive(() => {})).rejects.toMatchObject({
        code: 'udp_watch_failed',
        message: expect.stringContaining('127.0.0.1:'),
      });
    } finally {
      connect.mockRestore();
    }
    expect(descriptors().length).toBe(before);
  });
});

/** How a process ends in which the handler of a datagram, or of a stream's chunk, throws. */
async function endOf(program: string): Promise<{ code: number; text: string }> {
  const net = JSON.stringify(join(import.meta.dir, '../../src/net'));
  const source = `
    process.on('uncaughtException', (error) => { console.log(error.message); process.exit(70); });
    setTimeout(() => process.exit(0), 5000);
    const net = ${net};
    ${program}`;
  const child = Bun.spawn([process.execPath, '-e', source], { stderr: 'inherit' });
  const text = await new Response(child.stdout).text();
  return { code: await child.exited, text };
}

describe('a fault in a handler ends the process', () => {
  test('UDP: the first datagram of a batch, and another', async () => {
    for (const at of [1, 5]) {
      const program = `
        const { openUdpReceiver } = await import(net + '/udp-socket.ts');
        const line = { host: '127.0.0.1', port: 0, multicast: false };
        let count = 0;
        const { port } = await openUdpReceiver(line, 1e5, () => {
          if (++count === ${at}) throw new Error('fault ' + count);
        });
        const sender = await Bun.udpSocket({});
        for (let i = 0; i < 20; i++) sender.send('x', port, '127.0.0.1');`;
      expect(await endOf(program)).toEqual({ code: 70, text: `fault ${at}\n` });
    }
  }, 30_000);

  test('Unix socket', async () => {
    using home = temporaryHome();
    for (const at of ['open', 'chunk', 'end', 'close']) {
      const program = `
        const { listenUnix } = await import(net + '/unix-socket.ts');
        const path = ${JSON.stringify(join(home.path, at))};
        const fault = (name) => () => {
          if (name === '${at}') throw new Error('fault ' + name);
          return true;
        };
        const names = ['open', 'chunk', 'end', 'drain', 'close'];
        const handlers = Object.fromEntries(names.map((name) => [name, fault(name)]));
        await listenUnix(path, handlers);
        const client = await Bun.connect({ unix: path, socket: { data() {} } });
        client.write('x');
        setTimeout(() => client.end(), 100);`;
      expect(await endOf(program)).toEqual({ code: 70, text: `fault ${at}\n` });
    }
  }, 30_000);
});
