// Sends frames at a steady rate over a session, whatever the answers do (open loop), and says when they were
// acknowledged. Arguments: one JSON object (PacedOptions). Says `ready`, begins at a line on standard input,
// ends with one line of JSON (PacedResult).

import { readFileSync, readSync } from 'node:fs';
import { encodeHello } from '../../src/net/control-messages.ts';
import { createAckReader } from '../support/ack-reader.ts';
import { type Percentiles, type Step, stepLatencies } from '../support/latency-steps.ts';
import {
  closeDescriptor,
  connectUnix,
  monotonicNs,
  waitReadable,
  wantExactTimers,
  writeAll,
} from '../support/posix.ts';

export interface PacedOptions {
  socket: string;
  framesPath: string;
  session: string;
  rowsPerSecond: number;
  rows: number;
  /** Rows that are sent but not counted. */
  warmUpRows: number;
}

/** `startNs` is when row 0 was due (monotonic clock); latencies are ns from due to acknowledged. */
export interface PacedResult {
  startNs: number;
  acks: number;
  latency: Percentiles;
}

/** A sleep ends late by some tens of µs: the last part of a wait is spent looking. */
const SPIN_NS = 100_000;
/** Most that is written at once, so that acknowledgements are looked for in between. */
const MOST_FRAMES = 512;

function frameStarts(bytes: Uint8Array): Int32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const starts = [0];
  for (let at = 0; at < bytes.length; starts.push(at)) at += 4 + view.getUint32(at, true);
  return Int32Array.from(starts);
}

function run(options: PacedOptions): PacedResult {
  const { rows, rowsPerSecond, warmUpRows } = options;
  const bytes = new Uint8Array(readFileSync(options.framesPath));
  const starts = frameStarts(bytes);
  const perPass = starts.length - 1;
  const fd = connectUnix(options.socket);
  const acks = createAckReader(fd);
  const hello = encodeHello('bench', options.session, 1);
  writeAll(fd, hello, 0, hello.length);
  acks.welcome();
  process.stdout.write('ready\n');
  readSync(0, new Uint8Array(16));
  wantExactTimers();
  const steps: Step[] = [];
  const nsPerRow = 1e9 / rowsPerSecond;
  const startNs = monotonicNs() + 1e6;
  for (let sent = 0; acks.durableSeq < rows; ) {
    const timeNs = monotonicNs();
    const due = Math.min(rows, Math.floor((timeNs - startNs) / nsPerRow) + 1);
    if (due > sent) {
      const from = sent % perPass;
      const count = Math.min(due - sent, MOST_FRAMES, perPass - from);
      writeAll(fd, bytes, starts[from]!, starts[from + count]!);
      sent += count;
    }
    const waitNs = sent < rows ? startNs + sent * nsPerRow - monotonicNs() - SPIN_NS : 1e8;
    if (!waitReadable(fd, waitNs)) continue;
    acks.read();
    if (acks.durableSeq > (steps.at(-1)?.rows ?? 0))
      steps.push({ timeNs: monotonicNs(), rows: acks.durableSeq });
  }
  closeDescriptor(fd);
  const schedule = { startNs, rowsPerSecond, firstRow: warmUpRows, endRow: rows };
  return { startNs, acks: steps.length, latency: stepLatencies(steps, schedule) };
}

process.stdout.write(`${JSON.stringify(run(JSON.parse(process.argv[2]!) as PacedOptions))}\n`);
