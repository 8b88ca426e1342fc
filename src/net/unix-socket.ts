// A Unix stream socket to listen on: bytes in, bytes out, no protocol.
//
// Invariants
// - Only this user can connect unless a mode is given: the socket is bound under another name, gets its
//   mode, and only then its own name. That name is given by link(2), which never replaces a file.
// - A file that is there is replaced only where it is a socket and a connect proves that nobody listens.
// - On close the file goes only if it is still ours. (Bun's own stop() unlinks the path it was given,
//   whoever owns it by then: seen with Bun 1.4.5. The name that Bun knows is gone long before.)
// - Chunks that Bun hands to `data` are fresh buffers (64 MiB in 307 chunks: 307 buffers, none changed
//   later).

import { chmodSync, chownSync, linkSync, lstatSync, unlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Socket } from 'bun';
import { RecorderError } from '../errors.ts';

export const DEFAULT_SOCKET_MODE = 0o600;
/** Room for the path in Linux' sockaddr_un, without the closing NUL. */
const MAX_PATH_BYTES = 107;

export type UnixConnection<T> = Socket<T>;

export interface UnixHandlers<T> {
  /** A new connection; its return value becomes `connection.data`. */
  open(connection: UnixConnection<T | undefined>): T;
  /** Bytes came. The chunk is not reused afterwards. */
  chunk(connection: UnixConnection<T>, bytes: Uint8Array): void;
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

/**
 * Listens on `path`. Errors (RecorderError): socket_path_too_long, socket_in_use, socket_path_not_a_socket,
 * socket_listen_failed.
 */
export async function listenUnix<T>(
  path: string,
  handlers: UnixHandlers<T>,
  mode: number = DEFAULT_SOCKET_MODE,
  owner: SocketOwnership = { uid: -1, gid: -1 },
): Promise<UnixListener> {
  const temporary = join(dirname(path), `.r${process.pid}-${bindCount++}`);
  const longest = Math.max(Buffer.byteLength(path), Buffer.byteLength(temporary));
  if (longest > MAX_PATH_BYTES) {
    throw new RecorderError('socket_path_too_long', `socket path ${path} is too long for a Unix socket`, {
      hint: `at most ${MAX_PATH_BYTES} bytes, with ${basename(temporary)} in the same folder`,
    });
  }
  const tookOver = await clearStalePath(path);
  const server = bind(temporary, handlers);
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

function bind<T>(path: string, handlers: UnixHandlers<T>): { stop(force?: boolean): void } {
  try {
    return Bun.listen<T>({
      unix: path,
      // The peer may close its sending side and still wait for the last acknowledgement.
      allowHalfOpen: true,
      socket: {
        binaryType: 'uint8array',
        open: (socket) => {
          socket.data = handlers.open(socket);
        },
        data: (socket, bytes: Uint8Array) => handlers.chunk(socket, bytes),
        end: (socket) => handlers.end(socket),
        drain: (socket) => handlers.drain(socket),
        close: (socket) => handlers.close(socket),
        // A reset peer shows in close, which always follows.
        error: () => {},
      },
    });
  } catch (cause) {
    throw new RecorderError('socket_listen_failed', `cannot listen in ${dirname(path)}`, {
      cause,
      hint: 'the folder must exist and be writable',
    });
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
