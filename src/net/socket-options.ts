// What Bun has no call for on a socket, through libc: the receive buffer, the kernel's own drop count, who is
// at the other end of a Unix socket, reading into memory of our own, descriptors. Linux.

import { ptr } from 'bun:ffi';
import { RecorderError } from '../errors.ts';
import { lazyLibc } from '../libc.ts';

const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
/** As SO_RCVBUF, beyond net.core.rmem_max; needs CAP_NET_ADMIN. */
const SO_RCVBUFFORCE = 33;
/** u32[9] of memory figures; the last is the count of datagrams dropped (SK_MEMINFO_DROPS). */
const SO_MEMINFO = 55;
/** i32 pid, u32 uid, u32 gid of the process that connected, as they were then. */
const SO_PEERCRED = 17;
const PEERCRED_WORDS = 3;
const MEMINFO_WORDS = 9;
const MEMINFO_DROPS = 8;
const MSG_DONTWAIT = 0x40;
const F_DUPFD_CLOEXEC = 1030;
const SOL_IP = 0;
const IP_RECVERR = 11;
const SOL_IPV6 = 41;
const IPV6_RECVERR = 25;

const libc = lazyLibc({
  setsockopt: { args: ['int', 'int', 'int', 'ptr', 'u32'], returns: 'int' },
  getsockopt: { args: ['int', 'int', 'int', 'ptr', 'ptr'], returns: 'int' },
  fcntl: { args: ['int', 'int', 'int'], returns: 'int' },
  close: { args: ['int'], returns: 'int' },
  recv: { args: ['int', 'ptr', 'u64', 'int'], returns: 'int' },
  recvmmsg: { args: ['int', 'ptr', 'u32', 'int', 'ptr'], returns: 'int' },
});

/** The descriptor of a socket of Bun's, whose types do not show it. */
export function descriptorOf(socket: object): number {
  return (socket as { fd: number }).fd;
}

/**
 * Asks for a receive buffer of `bytes`; returns what the kernel has granted, in the same measure (it books
 * and reports twice the size, for its own overhead), or null where it cannot be asked.
 */
export function requestReceiveBuffer(fd: number, bytes: number): number | null {
  const symbols = libc();
  if (symbols === null) return null;
  const wanted = Int32Array.of(bytes);
  const forced = symbols.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, ptr(wanted), 4) === 0;
  if (!forced) symbols.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, ptr(wanted), 4);
  const granted = new Int32Array(1);
  const length = Uint32Array.of(4);
  if (symbols.getsockopt(fd, SOL_SOCKET, SO_RCVBUF, ptr(granted), ptr(length)) !== 0) return null;
  return granted[0]! / 2;
}

/**
 * Datagrams that the kernel has dropped at this socket since it was opened, u32 that wraps; null: unknown.
 */
export function kernelDrops(fd: number): number | null {
  const symbols = libc();
  if (symbols === null) return null;
  const figures = new Uint32Array(MEMINFO_WORDS);
  const length = Uint32Array.of(figures.byteLength);
  if (symbols.getsockopt(fd, SOL_SOCKET, SO_MEMINFO, ptr(figures), ptr(length)) !== 0) return null;
  return length[0]! < figures.byteLength ? null : figures[MEMINFO_DROPS]!;
}

/** Who connected to a Unix socket; null where the system does not say. */
export function peerCredentials(fd: number): { pid: number; uid: number; gid: number } | null {
  const symbols = libc();
  if (symbols === null) return null;
  const words = new Uint32Array(PEERCRED_WORDS);
  const length = Uint32Array.of(words.byteLength);
  if (symbols.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ptr(words), ptr(length)) !== 0) return null;
  const [pid, uid, gid] = words;
  return length[0] === words.byteLength ? { pid: pid!, uid: uid!, gid: gid! } : null;
}

/**
 * Reads what lies in a socket's buffer, without waiting; the number of bytes. 0 or less: nothing, or what
 * the socket's owner will find out itself (its end, an error), or no such call here.
 */
export function receiveNow(fd: number, into: Uint8Array): number {
  const symbols = libc();
  return symbols === null ? 0 : symbols.recv(fd, ptr(into), into.length, MSG_DONTWAIT);
}

/**
 * Reads datagrams into what `headers`, `count` of C's struct mmsghdr, point to, without waiting; the number
 * of them. 0 or less: none, or no such call here.
 */
export function receiveDatagramsNow(fd: number, headers: DataView, count: number): number {
  return libc()?.recvmmsg(fd, ptr(headers), count, MSG_DONTWAIT, null) ?? 0;
}

/** Whether there is a libc to call: where not, sockets are read by Bun alone. */
export function hasSocketCalls(): boolean {
  return libc() !== null;
}

/**
 * A second descriptor of a socket, which stays open when the first is closed. Throws a RecorderError,
 * no_descriptor, where none can be had.
 */
export function duplicateDescriptor(fd: number): number {
  // Not 0 to 2, which are others' by custom, whoever has closed them.
  const second = libc()?.fcntl(fd, F_DUPFD_CLOEXEC, 3) ?? -1;
  if (second >= 0) return second;
  throw new RecorderError('no_descriptor', 'the system gives no further descriptor', {
    hint: 'raise the limit of open files (ulimit -n, LimitNOFILE=)',
  });
}

/** Closes a descriptor of duplicateDescriptor. */
export function closeDescriptor(fd: number): void {
  libc()?.close(fd);
}

/** Has the kernel keep no ICMP errors for a UDP socket, and forget those it has kept (ip(7), ipv6(7)). */
export function ignoreIcmpErrors(fd: number): void {
  const off = Int32Array.of(0);
  libc()?.setsockopt(fd, SOL_IP, IP_RECVERR, ptr(off), 4);
  // Refused on a socket of the other family.
  libc()?.setsockopt(fd, SOL_IPV6, IPV6_RECVERR, ptr(off), 4);
}
