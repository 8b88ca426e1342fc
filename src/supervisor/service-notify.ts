// What a service manager is told, as sd_notify(3) has it: ready, alive, stopping. Datagrams of text to the
// Unix socket that NOTIFY_SOCKET names; Bun has no such sockets, so libc sends them. Without the variable
// nothing happens.

import { ptr } from 'bun:ffi';
import { lazyLibc } from '../libc.ts';

const AF_UNIX = 1;
/** SOCK_DGRAM, SOCK_CLOEXEC and SOCK_NONBLOCK: a full queue must not hold up the event loop. */
const DATAGRAM = 2 | 0o2000000 | 0o4000;
const MSG_NOSIGNAL = 0x4000;
/** Room for the path in sockaddr_un. */
const MAX_PATH_BYTES = 108;
/** As sd_watchdog_enabled(3) advises a half of the time; a third leaves room for a busy loop. */
const WATCHDOG_SHARE = 3;

const libc = lazyLibc({
  socket: { args: ['int', 'int', 'int'], returns: 'int' },
  sendto: { args: ['int', 'ptr', 'usize', 'int', 'ptr', 'u32'], returns: 'i64' },
  close: { args: ['int'], returns: 'int' },
});

export interface ServiceNotifier {
  /** Everything is open: the service is up. From now on the watchdog is fed, if there is one. */
  ready(status: string): void;
  /** A stop has begun that may take `withinMs`. */
  stopping(withinMs: number): void;
  /** Feeds the watchdog no more. */
  close(): void;
}

const NOBODY: ServiceNotifier = { ready: () => {}, stopping: () => {}, close: () => {} };

/** sockaddr_un of a path, or of an abstract name, which begins with `@`; null where it does not fit. */
function addressOf(path: string): Uint8Array | null {
  const name = Buffer.from(path);
  if (!/^[/@]/.test(path) || name.length >= MAX_PATH_BYTES) return null;
  const isAbstract = path.startsWith('@');
  if (isAbstract) name[0] = 0;
  // A path ends with a NUL, an abstract name with its length.
  const address = new Uint8Array(2 + name.length + (isAbstract ? 0 : 1));
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  return address;
}

/** Sends datagrams to a Unix socket, each from a socket of its own; null where this system cannot. */
function openSender(path: string): ((text: string) => boolean) | null {
  const address = addressOf(path);
  const symbols = address === null ? null : libc();
  if (address === null || symbols === null) return null;
  return (text) => {
    const fd = symbols.socket(AF_UNIX, DATAGRAM, 0);
    if (fd < 0) return false;
    const bytes = Buffer.from(text);
    const sent = symbols.sendto(fd, ptr(bytes), bytes.length, MSG_NOSIGNAL, ptr(address), address.length);
    symbols.close(fd);
    return Number(sent) === bytes.length;
  };
}

/**
 * Speaks to the service manager that `env` names; takes the variables out of it, so that no process started
 * from here speaks in this one's name.
 * @param onFailure told once when a message does not get through
 */
export function openServiceNotifier(
  env: Record<string, string | undefined>,
  onFailure: (text: string) => void,
): ServiceNotifier {
  const { NOTIFY_SOCKET: path, WATCHDOG_USEC: watchdogUs, WATCHDOG_PID: watchdogPid } = env;
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name];
  if (path === undefined || path === '') return NOBODY;
  const send = openSender(path);
  let hasFailed = false;
  const tell = (...lines: string[]) => {
    if (send?.(lines.join('\n')) === true || hasFailed) return;
    hasFailed = true;
    onFailure(`the service manager at ${path} cannot be told: it may take the recorder for hung`);
  };
  const isForUs = watchdogPid === undefined || Number(watchdogPid) === process.pid;
  const watchdogMs = isForUs ? Number(watchdogUs ?? 0) / 1000 : 0;
  let timer: ReturnType<typeof setInterval> | null = null;
  return {
    ready(status) {
      tell('READY=1', `STATUS=${status}`);
      // A timer that runs is the proof: the event loop turns.
      if (watchdogMs > 0) timer = setInterval(() => tell('WATCHDOG=1'), watchdogMs / WATCHDOG_SHARE);
    },
    stopping(withinMs) {
      tell('STOPPING=1', 'STATUS=draining', `EXTEND_TIMEOUT_USEC=${Math.ceil(withinMs * 1000)}`);
    },
    close() {
      if (timer !== null) clearInterval(timer);
    },
  };
}
