// What the connections of a stream listener have in common.

import type { FrameSink } from './frame-sink.ts';
import type { Stream, StreamTable } from './session.ts';
import type { StreamConnection } from './stream-connection.ts';

export interface StreamListenerStats {
  /** Open now */
  connections: number;
  /** Not read from now, since what they bring is not wanted for now */
  held: number;
  /** Opened since the start */
  accepted: number;
  /** Turned away: too many */
  refused: number;
  /** Reads that brought bytes */
  chunks: number;
  bytes: number;
  /** Handed to the sink as frames */
  frames: number;
  /** Dropped because their sequence number had been received before */
  duplicates: number;
  malformed: number;
  /** Connections ended by a broken length prefix */
  brokenStreams: number;
}

/** What all connections of a listener have in common. */
export interface StreamShared {
  readonly path: string;
  readonly sourceName: string;
  readonly maxFrameBytes: number;
  readonly streams: StreamTable;
  readonly sink: FrameSink;
  readonly notice: (text: string) => void;
  readonly stats: StreamListenerStats;
  /** The connection that has each session now */
  readonly sessions: Map<Stream, StreamConnection>;
  readonly plainPrefix: string;
  /** Stops reading from a connection until all that are held are released. */
  readonly hold: (connection: StreamConnection) => void;
  /** Whether a connection is read from now: it is not held, and nothing is paused. */
  readonly isRead: (connection: StreamConnection) => boolean;
}
