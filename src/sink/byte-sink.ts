// A growing buffer that encoders write into. State only: the functions beside it and the generated encoders
// do the work. A sink is reused from group to group.

export interface ByteSink {
  bytes: Uint8Array<ArrayBuffer>;
  /** Over the same bytes. */
  view: DataView;
  /** Bytes written so far. */
  position: number;
}

/** Longest LEB128 of a length: lengths fit 32 bits. */
export const MAX_VARINT_SIZE_BYTES = 5;
const INITIAL_SIZE_BYTES = 64 * 1024;
/** A larger buffer is given back after use: a backlog must not hold its peak for ever. */
const KEPT_SIZE_BYTES = 4 * 1024 * 1024;

export function createByteSink(sizeBytes = INITIAL_SIZE_BYTES): ByteSink {
  const bytes = new Uint8Array(sizeBytes);
  return { bytes, view: new DataView(bytes.buffer), position: 0 };
}

/** Makes room for `neededBytes` after the position; what was written stays. Replaces `bytes` and `view`. */
export function reserve(sink: ByteSink, neededBytes: number): void {
  const least = sink.position + neededBytes;
  if (least <= sink.bytes.length) return;
  const grown = new Uint8Array(Math.max(least, sink.bytes.length * 2));
  grown.set(sink.bytes.subarray(0, sink.position));
  freeSink(sink);
  sink.bytes = grown;
  sink.view = new DataView(grown.buffer);
}

/** Empties the sink. Views of its bytes are void from then on. */
export function resetSink(sink: ByteSink): void {
  sink.position = 0;
  if (sink.bytes.length > KEPT_SIZE_BYTES) Object.assign(sink, createByteSink());
}

/** Gives the memory back at once: the collector would leave it lying. Nothing can be written any more. */
export function freeSink(sink: ByteSink): void {
  sink.bytes.buffer.transfer(0);
}

/** What was written, as a view: valid until the sink is used again. */
export function writtenBytes(sink: ByteSink): Uint8Array<ArrayBuffer> {
  return sink.bytes.subarray(0, sink.position);
}

/** Writes an unsigned LEB128 number; there must be room. */
export function writeVarint(sink: ByteSink, value: number): void {
  let rest = value;
  while (rest >= 0x80) {
    sink.bytes[sink.position++] = (rest & 0x7f) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  sink.bytes[sink.position++] = rest;
}

/** Writes bytes with their length in front, as RowBinary and Native write a String. Makes room itself. */
export function writeString(sink: ByteSink, value: Uint8Array): void {
  reserve(sink, value.length + MAX_VARINT_SIZE_BYTES);
  writeVarint(sink, value.length);
  sink.bytes.set(value, sink.position);
  sink.position += value.length;
}

/** Copies bytes. Makes room itself. */
export function writeBytes(sink: ByteSink, value: Uint8Array): void {
  reserve(sink, value.length);
  sink.bytes.set(value, sink.position);
  sink.position += value.length;
}
