// A Unix stream socket to listen on: bytes in, bytes out, no protocol.
//
// Invariants
// - Only this user can connect unless a mode is given: the socket is bound under another name, gets its
//   mode, and only then its own name. That name is given by link(2), which never replaces a file.
// - A file that is there is replaced only where it is a socket and a connect proves that nobody listens.
// - On close the file goes only if it is still ours. (Bun's own stop() unlinks the path it was given,
//   whoever owns it by then: seen with Bun 1.4.5. The name that Bun knows is gone long before.)
// - While a producer sends faster than is read, most is read past Bun, into one buffer that stays in the
//   processor's cache: the buffer that Bun makes for each chunk costs 25 ns a row of 140 bytes in copies,
//   page faults and garbage. Bun still says when there is something to read, and finds ends and errors.

import { chmodSync, chownSync, linkSync, lstatSync, unlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Socket } from 'bun';
import { RecorderError } from '../errors.ts';
import { socketHandlers } from './socket-handlers.ts';
import { descriptorOf, receiveNow } from './socket-options.ts';

export const DEFAULT_SOCKET_MODE = 0o600;
/** Room for the path in Linux' sockaddr_un, without the closing NUL. */
const MAX_PATH_BYTES = 107;

export type UnixConnection<T> = Socket<T>;

export interface UnixHandlers<T> {
  /** A new connection; its return value becomes `connection.data`. */
  open(connection: UnixConnection<T | undefined>): T;
  /** Bytes came, valid during the call. Returns whether more may be read from the connection at once. */
  chunk(connection: UnixConnection<T>, bytes: Uint8Array): boolean;
  /** The peer will send nothing more; it may still read. */
  end(connection: UnixConnection<T>): void;
  /** There is room to write again after a short write. */
  drain(connection: UnixConnection<T>): void;
  /** The connection is gone; called once. */
  close(connection: UnixConnection<T>): void;
}

/** User and group of the socket's file by number; -1 leaves one as it is. */
export interface SocketOwnership {
  uid: number;
  gid: number;
}

export interface UnixListener {
  readonly path: string;
  /** True where the file of a dead process was replaced. */
  readonly tookOver: boolean;
  /** Removes the socket's file, if it is still ours; connections that wait to be accepted still are. */
  hide(): void;
  /** Takes no further connections; those that are open go on. Hides the file too. */
  stopAccepting(): void;
}

let bindCount = 0;
/** A chunk of this size says that the producer is ahead. */
const LARGE_CHUNK_BYTES = 64 * 1024;
/** So much in a read of our own is worth another one. */
const MORE_BYTES = 16 * 1024;
/** Reads that follow one of Bun's own: others on the event loop wait for some 1.5 ms at most. */
const READS_IN_A_ROW = 16;
/** More than lies in a Unix socket's buffer by default. */
const READ_BYTES = 256 * 1024;

/**
 * Listens on `path`. `readBuffer` is asked once for memory to read into when a producer is ahead. Errors
 * (RecorderError): socket_path_too_long, socket_in_use, socket_path_not_a_socket, socket_listen_failed.
 */
export async function listenUnix<T>(
  path: string,
  handlers: UnixHandlers<T>,
  mode: number = DEFAULT_SOCKET_MODE,
  owner: SocketOwnership = { uid: -1, gid: -1 },
  readBuffer: () => Uint8Array = () => new Uint8Array(READ_BYTES),
): Promise<UnixListener> {
  const temporary = join(dirname(path), `.r${process.pid}-${bindCount++}`);
  const longest = Math.max(Buffer.byteLength(path), Buffer.byteLength(temporary));
  if (longest > MAX_PATH_BYTES) {
    throw new RecorderError('socket_path_too_long', `socket path ${path} is too long for a Unix socket`, {
      hint: `at most ${MAX_PATH_BYTES} bytes, with ${basename(temporary)} in the same folder`,
    });
  }
  const tookOver = await clearStalePath(path);
  const server = bind(temporary, handlers, readBuffer);
  let inode: bigint;
  try {
    // Owner first: from the mode on others may connect.
    if (owner.uid !== -1 || owner.gid !== -1) chownSync(temporary, owner.uid, owner.gid);
    chmodSync(temporary, mode);
    inode = lstatSync(temporary, { bigint: true }).ino;
    linkSync(temporary, path);
  } catch (cause) {
    server.stop(true);
    const inUse = errorCode(cause) === 'EEXIST';
    if (inUse) throw inUseError(path);
    throw new RecorderError('socket_listen_failed', `cannot make the socket ${path}`, { cause });
  }
  unlinkSync(temporary);
  let accepting = true;
  return {
    path,
    tookOver,
    hide() {
      removeOwn(path, inode);
    },
    stopAccepting() {
      if (!accepting) return;
      accepting = false;
      removeOwn(path, inode);
      server.stop(false);
    },
  };
}

function bind<T>(
  path: string,
  handlers: UnixHandlers<T>,
  makeBuffer: () => Uint8Array,
): { stop(force?: boolean): void } {
  let readBuffer: Uint8Array | null = null;
  // A socket that is ended while it is opened is closed before its data is set.
  let opening: Socket<T> | null = null;
  let isGone = false;
  try {
    return Bun.listen<T>({
      unix: path,
      // The peer may close its sending side and still wait for the last acknowledgement.
      allowHalfOpen: true,
      socket: socketHandlers({
        binaryType: 'uint8array' as const,
        open: (socket: Socket<T>) => {
          opening = socket;
          isGone = false;
          socket.data = handlers.open(socket);
          opening = null;
          if (isGone) handlers.close(socket);
        },
        data: (socket: Socket<T>, bytes: Uint8Array) => {
          const goesOn = handlers.chunk(socket, bytes);
          if (bytes.length < LARGE_CHUNK_BYTES) return;
          // Given back at once: the collector sees little garbage in a run of frames, and comes late.
          (bytes.buffer as ArrayBuffer).transfer(0);
          if (!goesOn) return;
          readBuffer ??= makeBuffer();
          readOn(socket, handlers, readBuffer);
        },
        end: (socket: Socket<T>) => handlers.end(socket),
        drain: (socket: Socket<T>) => handlers.drain(socket),
        close: (socket: Socket<T>) => {
          if (socket === opening) isGone = true;
          else handlers.close(socket);
        },
      }),
    });
  } catch (cause) {
    throw new RecorderError('socket_listen_failed', `cannot listen in ${dirname(path)}`, {
      cause,
      hint: 'the folder must exist and be writable',
    });
  }
}

/** Reads what has come meanwhile, as long as there is much of it and it is wanted. */
function readOn<T>(socket: Socket<T>, handlers: UnixHandlers<T>, readBuffer: Uint8Array): void {
  const fd = descriptorOf(socket);
  for (let reads = 0; reads < READS_IN_A_ROW; reads++) {
    const count = receiveNow(fd, readBuffer);
    if (count <= 0) return;
    const goesOn = handlers.chunk(socket, readBuffer.subarray(0, count));
    if (!goesOn || count < MORE_BYTES) return;
  }
}

/**
 * Removes the socket of a dead process at `path`; true where there was one. Throws where anything else is
 * there.
 */
async function clearStalePath(path: string): Promise<boolean> {
  const before = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  if (before === undefined) return false;
  if (!before.isSocket()) {
    throw new RecorderError('socket_path_not_a_socket', `${path} exists and is not a socket`, {
      hint: 'choose another socket path or remove the file',
    });
  }
  if (await somebodyListens(path)) throw inUseError(path);
  const after = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  if (after !== undefined && after.ino !== before.ino) throw inUseError(path);
  if (after !== undefined) unlinkSync(path);
  return true;
}

const inUseError = (path: string): RecorderError =>
  new RecorderError('socket_in_use', `another process listens on ${path}`, {
    hint: 'stop it, or choose another socket path',
  });

/** Asks by connecting. Only "connection refused" proves that nobody listens; any doubt counts as somebody. */
async function somebodyListens(path: string): Promise<boolean> {
  try {
    const probe = await Bun.connect({ unix: path, socket: { data: () => {}, error: () => {} } });
    probe.end();
    return true;
  } catch (error) {
    const code = errorCode(error);
    return code !== 'ECONNREFUSED' && code !== 'ENOENT';
  }
}

function removeOwn(path: string, inode: bigint): void {
  const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  if (found?.ino === inode) unlinkSync(path);
}

function errorCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
