// What the listeners tell the rest of the program. The supervisor implements FrameSink; nothing else is
// shared.
//
// Call order: chunkStart, then any number of frame, malformed and gap, then chunkEnd; never nested, never two
// chunks at once. A chunk is what one read of a socket gave (a datagram counts as one). gap alone may also
// come outside a chunk, from a timer.
//
// Lifetime: `bytes` and `view` are valid during the call only. They cover the same memory: byte i of one is
// byte i of the other. A frame is bytes[start, end), one FlatBuffer without its size prefix, at any
// alignment.

/**
 * Why bytes were not accepted as a frame. Names are stable: they appear in metrics and in the quarantine
 * index.
 */
export const FramingFault = {
  /** Shorter than the least FlatBuffer with an identifier, 8 bytes */
  tooShort: 'too_short',
  /** Longer than the configured longest frame; only its first bytes are kept */
  tooLarge: 'too_large',
  /** A length prefix above 64 MiB: the framing is lost, the stream ends */
  badLength: 'bad_length',
  /** The connection ended in the middle of a frame */
  truncated: 'truncated',
  /** A control message that cannot be read, or at a place where it may not stand */
  badControl: 'bad_control',
  /** A datagram shorter than the 20 bytes of a MoldUDP64 header */
  shortPacket: 'short_packet',
  /** Sequence number 0 or above 2^53 - 1 */
  badSequence: 'bad_sequence',
  /** A datagram with fewer messages than its count says; those that are whole were delivered */
  badCount: 'bad_count',
  /** Bytes after the last message of a datagram; its messages were delivered */
  trailingBytes: 'trailing_bytes',
} as const;
export type FramingFault = (typeof FramingFault)[keyof typeof FramingFault];

/** streamId of what cannot be attributed to a stream. */
export const NO_STREAM = -1;

export interface MalformedEvent {
  /** Stream, or NO_STREAM */
  streamId: number;
  /** Sequence number that the frame would have had, 0 where there is none */
  seq: number;
  reason: FramingFault;
  /**
   * bytes[start, end) is what is left of the frame, a leading part where it was too large; valid during the
   * call
   */
  bytes: Uint8Array;
  start: number;
  end: number;
  /** Size that the frame claimed to have */
  claimedSizeBytes: number;
  /** Socket path, or address and port, that it came from */
  origin: string;
}

export interface GapEvent {
  streamId: number;
  source: string;
  session: string;
  /** First and last missing sequence number, both included */
  firstSeq: number;
  lastSeq: number;
  /** Line that showed the gap: address and port, or the socket's path */
  line: string;
  /** missing: given up after the waiting time; filled_late: came after an event had said missing */
  state: 'missing' | 'filled_late';
}

/** Frames that a sink has taken together. */
export interface FrameRun {
  count: number;
  /** Where the first one begins that it has not taken. */
  end: number;
}

export interface FrameSink {
  /**
   * Bytes were just read: the moment to take the ingest time stamp of the frames that follow. `origin`:
   * socket path, or address and port, that they came from.
   */
  chunkStart(origin: string): void;
  /** One frame, in the order of arrival. seq is given as two 32-bit words. Hot: must not throw. */
  frame(
    streamId: number,
    seqLow: number,
    seqHigh: number,
    bytes: Uint8Array,
    view: DataView,
    start: number,
    end: number,
  ): void;
  /**
   * Takes what frames it likes at the beginning of bytes[start, end), where they stand with their size
   * prefixes; the first has this number, the others those behind it. None is longer than `maxFrameBytes`.
   * The answer is valid until the next call. Absent: frames are wanted one by one.
   */
  run?(
    streamId: number,
    seqLow: number,
    seqHigh: number,
    bytes: Uint8Array,
    view: DataView,
    start: number,
    end: number,
    maxFrameBytes: number,
  ): FrameRun;
  /** Bytes that are not a frame. Those of too_short and too_large take a sequence number as a frame does. */
  malformed(event: MalformedEvent): void;
  gap(event: GapEvent): void;
  /** True: the sender, where it can be held back, is not to be read from until its listener is told. */
  chunkEnd(): boolean;
}
