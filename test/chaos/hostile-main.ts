// Who means no good: a process that holds silent and slow connections, announces frames of 1 GB, floods the
// socket with frames that are none, and sends junk to every HTTP path. Ends with its standard input; says
// what it has done as one JSON line.

import { connect, type Socket } from 'node:net';
import { seededRandom } from '../support/random.ts';

/** What the parent gives as the only argument, as JSON. */
export interface HostileTask {
  socket: string;
  http: string;
  seed: number;
  idleConnections: number;
}

export interface HostileReport {
  /** Half of them silent, half sending a byte now and then. */
  idleConnections: number;
  hugePrefixes: number;
  malformedFrames: number;
  requests: number;
  /** HTTP answers by status; 0: none came. */
  statuses: Record<string, number>;
}

const SLOW_BYTE_MS = 50;
const PREFIX_MS = 5;
const GARBAGE_FRAMES = 256;
const HTTP_TIMEOUT_MS = 10_000;
const PATHS = ['/', '/metrics', '/health', '/health/live', '/health/ready', '/health/acknowledge', '/status'];
const MORE_PATHS = ['/page/app.js', '/api/live', '/api/tap', '/api/sql', '/nothing', '/..%2f..%2fetc/passwd'];

const task = JSON.parse(process.argv[2]!) as HostileTask;
const random = seededRandom('hostile', task.seed);
const report: HostileReport = {
  idleConnections: task.idleConnections,
  hugePrefixes: 0,
  malformedFrames: 0,
  requests: 0,
  statuses: {},
};
let isOver = false;

function open(): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connect({ path: task.socket });
    socket.on('error', () => resolve(socket));
    socket.on('connect', () => resolve(socket));
    socket.resume();
  });
}

/** Connections that say nothing, or a byte of a frame now and then. */
async function idle(): Promise<void> {
  const sockets = await Promise.all(Array.from({ length: task.idleConnections }, open));
  const frame = Buffer.alloc(4096, 1);
  frame.writeUInt32LE(4092);
  for (let at = 0; !isOver; at++) {
    for (const [i, socket] of sockets.entries())
      if (i % 2 === 0) socket.write(frame.subarray(at % 4096, (at % 4096) + 1));
    await Bun.sleep(SLOW_BYTE_MS);
  }
  for (const socket of sockets) socket.destroy();
}

/** A length prefix of 1 GB, and some of what it announces. */
async function announce(): Promise<void> {
  const start = Buffer.alloc(8192, 2);
  start.writeUInt32LE(2 ** 30);
  while (!isOver) {
    const socket = await open();
    socket.end(start);
    report.hugePrefixes++;
    await Bun.sleep(PREFIX_MS);
  }
}

/** Frames of the right length with anything in them, as fast as they are taken. */
async function flood(): Promise<void> {
  const socket = await open();
  while (!isOver) {
    const frames = Array.from({ length: GARBAGE_FRAMES }, () => {
      const frame = Buffer.from(random.bytes(random.int(12, 300)));
      frame.writeUInt32LE(frame.length - 4);
      // Some with the identifier of a topic: the extractor has to look into them.
      if (random.next() < 0.5 && frame.length > 12) frame.write('FILL', 8, 'latin1');
      return frame;
    });
    report.malformedFrames += frames.length;
    const isTaken = socket.write(Buffer.concat(frames));
    if (!isTaken) await new Promise((resolve) => socket.once('drain', resolve));
    await Bun.sleep(0);
  }
  socket.destroy();
}

/** Every path with every method, junk in query, headers and body. */
async function scan(): Promise<void> {
  while (!isOver) {
    for (const path of [...PATHS, ...MORE_PATHS]) {
      for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
        if (!isOver) await request(`${path}?topic=${junk(40)}&limit=${junk(5)}&after=${junk(9)}`, method);
      }
    }
    await raw(`GET /${'a'.repeat(100_000)} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n`);
    await raw(random.bytes(2000));
  }
}

const junk = (length: number) => encodeURIComponent(Buffer.from(random.bytes(length)).toString('latin1'));

async function request(target: string, method: string): Promise<void> {
  const hasBody = method !== 'GET';
  const body = hasBody ? random.bytes(random.pick([10, 1000, 100_000])) : null;
  const headers = { 'x-recorder-action': junk(5), 'content-type': 'text/plain', cookie: junk(200) };
  const signal = AbortSignal.timeout(HTTP_TIMEOUT_MS);
  const status = await fetch(`${task.http}${target}`, { method, body, headers, signal })
    .then(async (response) => {
      await response.arrayBuffer();
      return response.status;
    })
    .catch(() => 0);
  count(status);
}

/** Bytes that are no request. */
function raw(bytes: string | Uint8Array): Promise<void> {
  const { hostname, port } = new URL(task.http);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname, () => socket.end(bytes));
    const timer = setTimeout(() => socket.destroy(), HTTP_TIMEOUT_MS);
    socket.on('error', () => undefined);
    socket.on('close', () => {
      clearTimeout(timer);
      count(0);
      resolve();
    });
    socket.resume();
  });
}

function count(status: number): void {
  report.requests++;
  report.statuses[status] = (report.statuses[status] ?? 0) + 1;
}

async function main(): Promise<void> {
  const work = Promise.all([idle(), announce(), flood(), scan()]);
  process.stdout.write('started\n');
  for await (const _ of process.stdin) {
    // Only its end matters.
  }
  isOver = true;
  await work;
  process.stdout.write(`${JSON.stringify(report)}\n`);
  process.exit();
}

void main();
