// The least that a durable log can do: 4 KiB written over written blocks, then fdatasync, again and again.
// Arguments: a file to make, seconds. Says `ready`, begins at a line on standard input, ends with one line of
// JSON: percentiles in ns.

import { closeSync, fsyncSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { percentilesOf } from '../support/latency-steps.ts';
import { writeAndSync } from '../support/posix.ts';

const FILE_BYTES = 64 * 1024 * 1024;
const WRITE_BYTES = 4096;

const [path, seconds] = [process.argv[2]!, Number(process.argv[3])];
const fd = openSync(path, 'w');
writeSync(fd, new Uint8Array(FILE_BYTES).fill(1));
fsyncSync(fd);
process.stdout.write('ready\n');
readSync(0, new Uint8Array(16));
const bytes = new Uint8Array(WRITE_BYTES).fill(2);
const times: number[] = [];
const endNs = Bun.nanoseconds() + seconds * 1e9;
for (let position = 0; Bun.nanoseconds() < endNs; position = (position + WRITE_BYTES) % FILE_BYTES) {
  const startNs = Bun.nanoseconds();
  writeAndSync(fd, bytes, position);
  times.push(Bun.nanoseconds() - startNs);
}
closeSync(fd);
rmSync(path);
process.stdout.write(`${JSON.stringify(percentilesOf(Float64Array.from(times).sort()))}\n`);
