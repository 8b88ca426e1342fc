// The stream listener: Unix socket, framing and sessions, down to calls of a FrameSink.
//
//   const streams = new StreamTable();            // shared with the datagram listener; restore() it first
//   const listener = await createStreamListener({ path, streams, sink });
//   … seal and append all open batches, then: const capture = streams.capture();
//   … sync the WAL, then: streams.markDurable(capture); listener.sendAcks();
//   await listener.drain(500); …seal, sync, markDurable, sendAcks…; listener.close();
//
// Invariants
// - A connection is plain until its first frame is a Hello; sequence numbers count from 1 in a session of
//   its own.
// - On a session each frame takes the next sequence number, malformed ones of known extent too. What was
//   received before is dropped and counted as a duplicate, so a producer may always send again from its
//   last Ack.
// - A frame that the end of the connection cuts takes no sequence number: its producer sends it again.
// - An Ack says what is durable, never more (ackableSeq). Acks are cumulative: one is enough where several
//   are due.
// - With a list of users, a connection of anybody else is closed before a byte of it is looked at.
// - Where there are too many connections, those that never brought a frame give way, the oldest first: who
//   only holds connections keeps nobody out.
// - A session has one connection: a second one takes it over, the first is told so and closed.
// - pause() stops reading from all connections; the kernel's buffers then hold back the producers. A
//   connection whose chunk the sink wants no more of is held alone, until release().

import { RetryableGoodbye } from './control-messages.ts';
import { DEFAULT_MAX_FRAME_BYTES } from './frame-reader.ts';
import type { FrameSink } from './frame-sink.ts';
import { PLAIN_SESSION_PREFIX, type StreamTable } from './session.ts';
import { descriptorOf, peerCredentials } from './socket-options.ts';
import { StreamConnection } from './stream-connection.ts';
import type { StreamListenerStats, StreamShared } from './stream-shared.ts';
import { DEFAULT_SOCKET_MODE, listenUnix, type SocketOwnership, type UnixConnection } from './unix-socket.ts';

export const DEFAULT_MAX_CONNECTIONS = 1024;

export interface StreamListenerOptions {
  /** Path of the Unix socket */
  path: string;
  /** Permission bits of the socket's file, default 0600 */
  mode?: number;
  /** `source` of connections without a Hello, default "unix" */
  sourceName?: string;
  /** Longest frame that is taken, default 1 MiB */
  maxFrameBytes?: number;
  maxConnections?: number;
  /** Users that may connect, by number; null or absent: all that the socket's file admits */
  allowedUids?: readonly number[] | null;
  /** User and group of the socket's file; -1 leaves one as it is */
  owner?: SocketOwnership;
  /** Asked once for the memory that chunks are read into while a producer is ahead */
  readBuffer?: () => Uint8Array;
  streams: StreamTable;
  sink: FrameSink;
  /** Told of what an operator may want to read in the log */
  notice?: (text: string) => void;
}

export interface StreamListener {
  readonly path: string;
  /** True where the socket file of a dead process was replaced */
  readonly tookOver: boolean;
  readonly stats: Readonly<StreamListenerStats>;
  /** Writes an Ack to each session whose durable position has moved; call after StreamTable.markDurable. */
  sendAcks(): void;
  pause(): void;
  resume(): void;
  /** Reads again from the connections that the sink held back; it may hold them again. */
  release(): void;
  /**
   * Takes no further connections and reads what producers have already written: resolves when every
   * connection has ended or been quiet for a moment, or after `deadlineMs`. Connections stay open, so that
   * last Acks can go out.
   */
  drain(deadlineMs: number): Promise<void>;
  /** Says goodbye to the sessions and closes every connection; the socket's file goes if it is still ours. */
  close(): void;
}

/** A connection that has sent nothing for this long has nothing more in the kernel's buffer. */
const QUIET_MS = 50;
const POLL_MS = 10;

/** Listens on a Unix socket; errors as listenUnix. */
export async function createStreamListener(options: StreamListenerOptions): Promise<StreamListener> {
  const connections = new Connections(options);
  const listener = await listenUnix<StreamConnection>(
    options.path,
    {
      open: (socket) => connections.open(socket),
      chunk: (socket, bytes) => socket.data.chunk(bytes),
      end: (socket) => socket.data.peerEnded(),
      drain: (socket) => socket.data.flush(),
      close: (socket) => connections.closed(socket.data),
    },
    options.mode ?? DEFAULT_SOCKET_MODE,
    options.owner,
    options.readBuffer,
  );
  return {
    path: options.path,
    tookOver: listener.tookOver,
    stats: connections.stats,
    sendAcks: () => connections.sendAcks(),
    pause: () => connections.pause(),
    resume: () => connections.resume(),
    release: () => connections.release(),
    async drain(deadlineMs) {
      listener.hide();
      connections.readAll();
      await connections.quiet(deadlineMs);
      listener.stopAccepting();
    },
    close() {
      listener.stopAccepting();
      connections.close();
    },
  };
}

/** The open connections of a listener and what they share. */
class Connections {
  readonly stats: StreamListenerStats = {
    connections: 0,
    held: 0,
    accepted: 0,
    refused: 0,
    chunks: 0,
    bytes: 0,
    frames: 0,
    duplicates: 0,
    malformed: 0,
    brokenStreams: 0,
  };
  readonly #open = new Set<StreamConnection>();
  readonly #held = new Set<StreamConnection>();
  readonly #shared: StreamShared;
  readonly #maxConnections: number;
  readonly #allowedUids: ReadonlySet<number> | null;
  #isPaused = false;
  /** What producers have written is read to its end, whatever it is. */
  #readsAll = false;

  constructor(options: StreamListenerOptions) {
    this.#maxConnections = options.maxConnections ?? DEFAULT_MAX_CONNECTIONS;
    this.#allowedUids = options.allowedUids ? new Set(options.allowedUids) : null;
    this.#shared = {
      path: options.path,
      sourceName: options.sourceName ?? 'unix',
      maxFrameBytes: options.maxFrameBytes ?? DEFAULT_MAX_FRAME_BYTES,
      streams: options.streams,
      sink: options.sink,
      notice: options.notice ?? (() => {}),
      stats: this.stats,
      sessions: new Map(),
      // Unique over restarts, so that two runs' plain connections never share a stream.
      plainPrefix: `${PLAIN_SESSION_PREFIX}${Date.now().toString(36)}-${process.pid.toString(36)}`,
      hold: (connection) => this.#hold(connection),
      isRead: (connection) => !this.#isPaused && !this.#held.has(connection),
    };
  }

  open(socket: UnixConnection<StreamConnection | undefined>): StreamConnection {
    const connection = new StreamConnection(this.#shared, socket, this.stats.accepted++);
    const stranger = this.#strangerAt(socket);
    if (stranger !== null) {
      this.stats.refused++;
      this.#shared.notice(`connection refused: ${stranger} is not in the list of users that may send`);
      connection.goodbye('this user may not send');
      return connection;
    }
    if (this.#open.size >= this.#maxConnections && !this.#makeRoom()) {
      this.stats.refused++;
      connection.goodbye(RetryableGoodbye.tooManyConnections);
      return connection;
    }
    this.#open.add(connection);
    this.stats.connections = this.#open.size;
    if (this.#isPaused) socket.pause();
    return connection;
  }

  /** Closes the oldest connection that has never brought a frame; false where there is none. */
  #makeRoom(): boolean {
    for (const connection of this.#open) {
      if (connection.hasStream) continue;
      this.stats.refused++;
      this.#open.delete(connection);
      connection.goodbye(RetryableGoodbye.tooManyConnections);
      return true;
    }
    return false;
  }

  /** Who connected and may not, as text; null where it may. Whom the kernel does not name may not. */
  #strangerAt(socket: UnixConnection<StreamConnection | undefined>): string | null {
    if (this.#allowedUids === null) return null;
    // Bun's types do not show the descriptor.
    const peer = peerCredentials(descriptorOf(socket));
    if (peer === null) return 'a peer that the system does not name';
    return this.#allowedUids.has(peer.uid) ? null : `user ${peer.uid} (process ${peer.pid})`;
  }

  closed(connection: StreamConnection): void {
    connection.closed();
    this.#open.delete(connection);
    this.#held.delete(connection);
    this.stats.connections = this.#open.size;
    this.stats.held = this.#held.size;
  }

  sendAcks(): void {
    for (const connection of this.#open) connection.sendAck();
  }

  pause(): void {
    this.#isPaused = true;
    for (const connection of this.#open) connection.socket.pause();
  }

  resume(): void {
    this.#isPaused = false;
    for (const connection of this.#open) if (!this.#held.has(connection)) connection.socket.resume();
  }

  release(): void {
    const held = [...this.#held];
    this.#held.clear();
    this.stats.held = 0;
    if (!this.#isPaused) for (const connection of held) connection.socket.resume();
  }

  /** Resumes all connections, and holds none any more. */
  readAll(): void {
    this.#readsAll = true;
    this.#isPaused = false;
    this.release();
    for (const connection of this.#open) connection.socket.resume();
  }

  #hold(connection: StreamConnection): void {
    if (this.#readsAll || !this.#open.has(connection)) return;
    this.#held.add(connection);
    this.stats.held = this.#held.size;
    connection.socket.pause();
  }

  /** Resolves when no connection is open, or none has sent anything for a moment, or after `deadlineMs`. */
  async quiet(deadlineMs: number): Promise<void> {
    const deadline = performance.now() + deadlineMs;
    let quietSince = performance.now();
    let chunksSeen = this.stats.chunks;
    // Once at least: connections that wait in the kernel's backlog are accepted meanwhile.
    do {
      await Bun.sleep(POLL_MS);
      if (this.stats.chunks !== chunksSeen) quietSince = performance.now();
      chunksSeen = this.stats.chunks;
    } while (
      this.#open.size > 0 &&
      performance.now() < deadline &&
      performance.now() - quietSince < QUIET_MS
    );
  }

  close(): void {
    for (const connection of [...this.#open]) connection.goodbye(RetryableGoodbye.stopping);
  }
}
