// The few system calls that a sender needs, through bun:ffi: blocking calls on plain buffers cost what they
// cost in C, so that a measurement is of the receiver and not of a JavaScript socket on the other side.

import { dlopen, FFIType, ptr } from 'bun:ffi';

const { i32, i64, u64, u32, ptr: pointer } = FFIType;

const { symbols } = dlopen('libc.so.6', {
  socket: { args: [i32, i32, i32], returns: i32 },
  connect: { args: [i32, pointer, u32], returns: i32 },
  read: { args: [i32, pointer, u64], returns: i64 },
  write: { args: [i32, pointer, u64], returns: i64 },
  pwrite: { args: [i32, pointer, u64, i64], returns: i64 },
  ppoll: { args: [pointer, u64, pointer, pointer], returns: i32 },
  shutdown: { args: [i32, i32], returns: i32 },
  close: { args: [i32], returns: i32 },
  fdatasync: { args: [i32], returns: i32 },
  clock_gettime: { args: [i32, pointer], returns: i32 },
  prctl: { args: [i32, u64, u64, u64, u64], returns: i32 },
});

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SHUT_WR = 1;
const POLLIN = 1;
const PR_SET_TIMERSLACK = 29;
const CLOCK_MONOTONIC = 1;

function must(result: number, what: string): number {
  if (result < 0) throw new Error(`${what} failed`);
  return result;
}

/** Connects a blocking stream socket; returns its descriptor. */
export function connectUnix(path: string): number {
  const address = new Uint8Array(2 + 108);
  const bytes = new TextEncoder().encode(path);
  if (bytes.length > 107) throw new Error(`path of a Unix socket is longer than 107 bytes: ${path}`);
  address[0] = AF_UNIX;
  address.set(bytes, 2);
  const fd = must(symbols.socket(AF_UNIX, SOCK_STREAM, 0), 'socket');
  must(symbols.connect(fd, ptr(address), 2 + bytes.length + 1), `connect to ${path}`);
  return fd;
}

/** Writes bytes [start, end) whole, blocking. */
export function writeAll(fd: number, bytes: Uint8Array, start: number, end: number): void {
  const base = ptr(bytes);
  for (let at = start; at < end; ) at += must(Number(symbols.write(fd, base + at, end - at)), 'write');
}

/** Reads what is there, blocking; 0 at the end of the stream. */
export function readSome(fd: number, into: Uint8Array): number {
  return must(Number(symbols.read(fd, ptr(into), into.length)), 'read');
}

const pollEntry = new DataView(new ArrayBuffer(8));
const pollTime = new BigInt64Array(2);

/** Waits until the descriptor can be read, at most `timeoutNs` (below a second); whether it can. */
export function waitReadable(fd: number, timeoutNs: number): boolean {
  pollEntry.setInt32(0, fd, true);
  pollEntry.setInt16(4, POLLIN, true);
  pollEntry.setInt16(6, 0, true);
  pollTime[1] = BigInt(Math.max(0, Math.floor(timeoutNs)));
  return symbols.ppoll(ptr(pollEntry), 1, ptr(pollTime), null) > 0;
}

/** Says that nothing more will be written. */
export function endWriting(fd: number): void {
  must(symbols.shutdown(fd, SHUT_WR), 'shutdown');
}

export function closeDescriptor(fd: number): void {
  must(symbols.close(fd), 'close');
}

/** Writes the bytes at `position` and syncs the file's data: what a log does at least for each commit. */
export function writeAndSync(fd: number, bytes: Uint8Array, position: number): void {
  must(Number(symbols.pwrite(fd, ptr(bytes), bytes.length, position)), 'pwrite');
  must(symbols.fdatasync(fd), 'fdatasync');
}

/** What Bun's monotonic clock, which begins with each process, is behind the machine's. */
const clockOffsetNs = ((): number => {
  const time = new BigInt64Array(2);
  must(symbols.clock_gettime(CLOCK_MONOTONIC, ptr(time)), 'clock_gettime');
  return Number(time[0]! * 1_000_000_000n + time[1]!) - Bun.nanoseconds();
})();

/** The machine's monotonic clock, ns: the same in all processes. */
export function monotonicNs(): number {
  // One call of clock_gettime each time would do, but optimised code reads its result only once (Bun 1.4.5).
  return Bun.nanoseconds() + clockOffsetNs;
}

/** Timers of this thread fire on time, not up to 50 µs later. */
export function wantExactTimers(): void {
  symbols.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
}
