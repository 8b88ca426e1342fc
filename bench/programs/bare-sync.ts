// The least that a durable log can do: 4 KiB written over written blocks, then fdatasync, again and again.
// Arguments: a file to make, seconds, and how often a second (absent: one right after the other). Says
// `ready`, begins at a line on standard input, ends with one line of JSON: percentiles in ns.

import { closeSync, fsyncSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { percentilesOf } from '../support/latency-steps.ts';
import { wantExactTimers, writeAndSync } from '../support/posix.ts';

const FILE_BYTES = 64 * 1024 * 1024;
const WRITE_BYTES = 4096;

const [path, seconds] = [process.argv[2]!, Number(process.argv[3])];
const periodNs = process.argv[4] === undefined ? 0 : 1e9 / Number(process.argv[4]);
const fd = openSync(path, 'w');
writeSync(fd, new Uint8Array(FILE_BYTES).fill(1));
fsyncSync(fd);
process.stdout.write('ready\n');
readSync(0, new Uint8Array(16));
const bytes = new Uint8Array(WRITE_BYTES).fill(2);
const times: number[] = [];
wantExactTimers();
const endNs = Bun.nanoseconds() + seconds * 1e9;
let dueNs = Bun.nanoseconds();
for (let position = 0; Bun.nanoseconds() < endNs; position = (position + WRITE_BYTES) % FILE_BYTES) {
  dueNs += periodNs;
  const restMs = (dueNs - Bun.nanoseconds()) / 1e6;
  if (periodNs > 0 && restMs > 0) Bun.sleepSync(restMs);
  const startNs = Bun.nanoseconds();
  writeAndSync(fd, bytes, position);
  times.push(Bun.nanoseconds() - startNs);
}
closeSync(fd);
rmSync(path);
process.stdout.write(`${JSON.stringify(percentilesOf(Float64Array.from(times).sort()))}\n`);
