// Sends frames of a file over a Unix socket, again and again, from one buffer: blocking writes, no work a
// frame. Arguments: one JSON object (SenderOptions). Says `ready`, begins at a line on standard input, ends
// with one line of JSON (SenderResult).
//
// With a session it ends when everything is acknowledged, without one when the other side closes.

import { readFileSync, readSync } from 'node:fs';
import { encodeHello } from '../../src/net/control-messages.ts';
import { createAckReader } from '../support/ack-reader.ts';
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
}

/** Times are of the machine's monotonic clock, ns. */
export interface SenderResult {
  startNs: number;
  endNs: number;
  acked: number;
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

function sendAll(fd: number, bytes: Uint8Array, frames: number): void {
  const points = writePoints(bytes);
  const perPass = points.at(-1)!.frames;
  let left = frames;
  for (; left >= perPass; left -= perPass) {
    let start = 0;
    for (const { end } of points) {
      writeAll(fd, bytes, start, end);
      start = end;
    }
  }
  writeAll(fd, bytes, 0, endOfFrames(bytes, left));
}

function main(options: SenderOptions): void {
  const bytes = new Uint8Array(readFileSync(options.framesPath));
  const fd = connectUnix(options.socket);
  const acks = createAckReader(fd);
  if (options.session !== null) {
    const hello = encodeHello('bench', options.session, 1);
    writeAll(fd, hello, 0, hello.length);
    acks.welcome();
  }
  process.stdout.write('ready\n');
  readSync(0, new Uint8Array(16));
  const startNs = monotonicNs();
  sendAll(fd, bytes, options.frames);
  if (options.session !== null) acks.waitFor(options.frames);
  else {
    endWriting(fd);
    const scrap = new Uint8Array(4096);
    while (readSome(fd, scrap) > 0);
  }
  const result: SenderResult = { startNs, endNs: monotonicNs(), acked: acks.durableSeq };
  closeDescriptor(fd);
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

main(JSON.parse(process.argv[2]!) as SenderOptions);
