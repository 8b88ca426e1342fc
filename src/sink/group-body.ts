// The body of an insert, made part after part while it is sent.
//
// Purpose: the memory of a delivery is a part of PART_PAYLOAD_BYTES and a piece, whatever the size of its
// group: the blocks are read from the WAL when their turn comes (they are in the page cache: 13 GB/s,
// checksum included), encoded, and handed out in pieces. A body of one piece costs Bun's HTTP client a
// multiple of its size in memory, and time that grows with it (64 MiB pieces took 4 times as long as 1 MiB
// ones).
//
// Invariants
// - The same slices in the same format give the same bytes, whatever was sent before.
// - What is read is what the group was made of: every block is checked against its checksum.
// - Payloads are read into a buffer that all topics of a thread share: nothing lies in it from one step to
//   the next.
// - A piece is its taker's until it asks for the next one (fetch copies it before it does; a test sees to
//   that), so that a body has one buffer. One that was taken to its end leaves it to the next body: fresh
//   memory cost 4 % of the thread. Of one that was given up, somebody may still hold a piece.

import { openBlock } from '../columns/block-codec.ts';
import { RecorderError } from '../errors.ts';
import { errorCode, type FileHandle, type FileSystem } from '../io/file-system.ts';
import type { TopicModel } from '../schema/model.ts';
import { checksum, RECORD_HEADER_SIZE_BYTES } from '../wal/format.ts';
import { type ByteSink, createByteSink, freeSink, resetSink, writtenBytes } from './byte-sink.ts';
import type { BlockSlice, GroupEncoder } from './group-encoder.ts';
import type { GroupSlice, InsertGroup } from './insert-group.ts';

/** Blocks that are encoded at a time: this many bytes, at least one block. */
const PART_PAYLOAD_BYTES = 512 * 1024;
/**
 * No piece but the last is smaller. Measured with Bun 1.4.5: fetch takes 0.45 to 1 s of CPU for a GB in
 * pieces of 64 to 1023 KiB, 0.25 s in pieces of 1 to 2 MiB.
 */
const PIECE_SIZE_BYTES = 1024 * 1024;
/** Room for what is not yet a piece, and for the rows of a full block of ticks and quotes (1.4 MB). */
const SINK_SIZE_BYTES = 3 * PIECE_SIZE_BYTES;
/** A larger buffer is given back after use. */
const KEPT_SIZE_BYTES = 4 * PART_PAYLOAD_BYTES;

/** Memory for making bodies, shared by all topics of a thread. */
export interface BodyBuffers {
  payloads: Uint8Array;
  /** For the next body; null while one has it. */
  spare: ByteSink | null;
}

export function createBodyBuffers(): BodyBuffers {
  return { payloads: new Uint8Array(PART_PAYLOAD_BYTES), spare: null };
}

function takeSink(buffers: BodyBuffers, sizeBytes: number): ByteSink {
  const { spare } = buffers;
  buffers.spare = null;
  if (spare !== null && spare.bytes.length >= sizeBytes) return spare;
  if (spare !== null) freeSink(spare);
  return createByteSink(sizeBytes);
}

function leaveSink(buffers: BodyBuffers, sink: ByteSink): void {
  if (buffers.spare !== null || sink.bytes.length > SINK_SIZE_BYTES) freeSink(sink);
  else buffers.spare = sink;
}

/** Where a body's rows come from. */
export interface BodySource {
  fileSystem: FileSystem;
  /** WAL directory. */
  dir: string;
  buffers: BodyBuffers;
}

/**
 * The body of an insert of these rows of a group, in pieces that are valid until the next one is asked for.
 * `return` it when it is not taken to its end. Throws RecorderError `group_changed` where a block is no
 * longer what it was, and the file system's errors.
 */
export function* groupBody(
  source: BodySource,
  { model, recorder, walId }: Pick<InsertGroup, 'model' | 'recorder' | 'walId'>,
  slices: readonly GroupSlice[],
  encoder: GroupEncoder,
): Generator<Uint8Array, void> {
  const files = new SegmentFiles(source);
  const origin = { recorder: new TextEncoder().encode(recorder), walId };
  const encoded = takeSink(source.buffers, Math.min(payloadSizeOf(slices), SINK_SIZE_BYTES));
  let isTaken = false;
  try {
    for (let next = 0; next < slices.length; ) {
      const count = partLength(slices, next);
      encoder(encoded, readPart(files, source.buffers, model, slices, next, count), origin);
      next += count;
      if (encoded.position < PIECE_SIZE_BYTES && next < slices.length) continue;
      yield* pieces(writtenBytes(encoded));
      resetSink(encoded);
    }
    isTaken = true;
  } finally {
    if (isTaken) leaveSink(source.buffers, encoded);
    else freeSink(encoded);
    files.close();
  }
}

/** Cuts bytes into pieces, views of them, that an HTTP client takes well. */
export function* pieces(bytes: Uint8Array): Generator<Uint8Array, void> {
  const count = Math.max(Math.floor(bytes.length / PIECE_SIZE_BYTES), 1);
  const sizeBytes = Math.ceil(bytes.length / count);
  for (let start = 0; start < bytes.length; start += sizeBytes) {
    yield bytes.subarray(start, start + sizeBytes);
  }
}

function payloadSizeOf(slices: readonly GroupSlice[]): number {
  return slices.reduce((sum, { payloadSizeBytes }) => sum + payloadSizeBytes, 0);
}

/** How many slices from `from` on are encoded together. */
function partLength(slices: readonly GroupSlice[], from: number): number {
  let sizeBytes = 0;
  let end = from;
  while (end < slices.length) {
    sizeBytes += slices[end]!.payloadSizeBytes;
    if (sizeBytes > PART_PAYLOAD_BYTES && end > from) break;
    end++;
  }
  return end - from;
}

/** Reads slices into the shared buffer; they are valid until it is used again. */
function readPart(
  files: SegmentFiles,
  buffers: BodyBuffers,
  model: TopicModel,
  slices: readonly GroupSlice[],
  from: number,
  count: number,
): BlockSlice[] {
  const part = slices.slice(from, from + count);
  const sizeBytes = payloadSizeOf(part);
  const isTooLarge = buffers.payloads.length > KEPT_SIZE_BYTES && sizeBytes <= KEPT_SIZE_BYTES;
  if (sizeBytes > buffers.payloads.length || isTooLarge) {
    buffers.payloads = new Uint8Array(Math.max(sizeBytes, PART_PAYLOAD_BYTES));
  }
  let position = 0;
  return part.map((slice) => {
    const payload = buffers.payloads.subarray(position, position + slice.payloadSizeBytes);
    position += slice.payloadSizeBytes;
    files.read(slice, payload);
    const { lsn, fromRow, toRow } = slice;
    return { view: openBlock(model, payload, slice.rowCount), lsn, fromRow, toRow };
  });
}

/** The segment that is being read. */
class SegmentFiles {
  readonly #source: BodySource;
  #name = '';
  #file: FileHandle | null = null;

  constructor(source: BodySource) {
    this.#source = source;
  }

  /** Fills `target` with the payload of the slice's block. */
  read({ segment, offset, lsn, payloadChecksum }: GroupSlice, target: Uint8Array): void {
    const length = this.#readAt(segment, target, offset + RECORD_HEADER_SIZE_BYTES);
    if (length === target.length && checksum(target) === payloadChecksum) return;
    throw new RecorderError('group_changed', `${segment}: the block at LSN ${lsn} now reads otherwise`, {
      hint: 'run `recorder wal verify`',
    });
  }

  /** What the disk does not give is not for the server to answer for, as another error would be. */
  #readAt(segment: string, target: Uint8Array, offset: number): number {
    try {
      return this.#open(segment).read(target, offset);
    } catch (cause) {
      if (errorCode(cause) === undefined) throw cause;
      throw new RecorderError('wal_read', `${segment} cannot be read at byte ${offset}`, { cause });
    }
  }

  close(): void {
    this.#file?.close();
    this.#file = null;
  }

  #open(name: string): FileHandle {
    if (this.#file === null || this.#name !== name) {
      this.close();
      this.#file = this.#source.fileSystem.open(`${this.#source.dir}/${name}`, 'read');
      this.#name = name;
    }
    return this.#file;
  }
}
