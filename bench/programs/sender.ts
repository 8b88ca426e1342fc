// Sends frames of a file over a Unix socket, again and again, from one buffer: blocking writes, no work a
// frame. Arguments: one JSON object (SenderOptions). Says `ready`, begins at a line on standard input, ends
// with one line of JSON (SenderResult).
//
// With a session it ends when everything is acknowledged, without one when the other side closes.

import { readFileSync, readSync } from 'node:fs';
import { encodeHello } from '../../src/net/control-messages.ts';
import { type AckReader, createAckReader } from '../support/ack-reader.ts';
import {
  closeDescriptor,
  connectUnix,
  endWriting,
  monotonicNs,
  readSome,
  writeAll,
} from '../support/posix.ts';

export interface SenderOptions {
  socket: string;
  framesPath: string;
  /** Frames to send. */
  frames: number;
  /** Null: a plain connection. */
  session: string | null;
  /** Connections among which the frames are shared out evenly, each with a session; default 1. */
  connections?: number;
}

/** Times are of the machine's monotonic clock, ns. */
export interface SenderResult {
  startNs: number;
  endNs: number;
}

const WRITE_BYTES = 256 * 1024;

/** Ends of frames in the buffer at which a write may end, about WRITE_BYTES apart, with the frames before. */
function writePoints(bytes: Uint8Array): { end: number; frames: number }[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const points: { end: number; frames: number }[] = [];
  let frames = 0;
  let start = 0;
  for (let at = 0; at < bytes.length; ) {
    at += 4 + view.getUint32(at, true);
    frames++;
    if (at - start >= WRITE_BYTES || at === bytes.length) {
      points.push({ end: at, frames });
      start = at;
    }
  }
  return points;
}

/** Where the first `frames` frames of the buffer end. */
function endOfFrames(bytes: Uint8Array, frames: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  for (let i = 0; i < frames; i++) at += 4 + view.getUint32(at, true);
  return at;
}

interface Connection {
  fd: number;
  acks: AckReader;
}

function open({ socket, session }: SenderOptions, number: number): Connection {
  const fd = connectUnix(socket);
  const acks = createAckReader(fd);
  if (session !== null) {
    const hello = encodeHello('bench', `${session}-${number}`, 1);
    writeAll(fd, hello, 0, hello.length);
    acks.welcome();
  }
  return { fd, acks };
}

/** Sends `frames` frames over each connection, one write on each in turn. */
function sendAll(connections: readonly Connection[], bytes: Uint8Array, frames: number): void {
  const points = writePoints(bytes);
  const perPass = points.at(-1)!.frames;
  const writeToEach = (start: number, end: number) => {
    for (const { fd } of connections) writeAll(fd, bytes, start, end);
  };
  let left = frames;
  for (; left >= perPass; left -= perPass) {
    let start = 0;
    for (const { end } of points) {
      writeToEach(start, end);
      start = end;
    }
  }
  writeToEach(0, endOfFrames(bytes, left));
}

/** Waits until everything is acknowledged, or read by a receiver without sessions. */
function finish({ fd, acks }: Connection, session: string | null, frames: number): void {
  if (session !== null) acks.waitFor(frames);
  else {
    endWriting(fd);
    const scrap = new Uint8Array(4096);
    while (readSome(fd, scrap) > 0);
  }
}

function main(options: SenderOptions): void {
  const bytes = new Uint8Array(readFileSync(options.framesPath));
  const count = options.connections ?? 1;
  const connections = Array.from({ length: count }, (_, number) => open(options, number));
  const frames = options.frames / count;
  if (!Number.isInteger(frames)) throw new Error(`${options.frames} frames over ${count} connections`);
  process.stdout.write('ready\n');
  readSync(0, new Uint8Array(16));
  const startNs = monotonicNs();
  sendAll(connections, bytes, frames);
  for (const connection of connections) finish(connection, options.session, frames);
  const result: SenderResult = { startNs, endNs: monotonicNs() };
  for (const { fd } of connections) closeDescriptor(fd);
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

main(JSON.parse(process.argv[2]!) as SenderOptions);
