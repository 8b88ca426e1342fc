// The body of an insert, made part after part while it is sent.
//
// Purpose: the memory of a delivery is some parts of PART_PAYLOAD_BYTES, whatever the size of its group: the
// blocks are read from the WAL again when their turn comes (they are in the page cache: 13 GB/s, checksum
// included), encoded, and handed out in pieces. A body of one piece costs Bun's HTTP client a multiple of its
// size in memory, and time that grows with it (64 MiB pieces took 4 times as long as 1 MiB ones).
//
// Invariants
// - The same slices in the same format give the same bytes, whatever was sent before.
// - What is read again is what the group was made of: every block is checked against its checksum.
// - Buffers are shared by all topics of a thread: nothing lies in them from one step to the next. A piece is
//   its taker's until it asks for the next one (fetch copies it before it does; a test sees to that).

import { openBlock } from '../columns/block-codec.ts';
import { RecorderError } from '../errors.ts';
import type { FileHandle, FileSystem } from '../io/file-system.ts';
import type { TopicModel } from '../schema/model.ts';
import { checksum, RECORD_HEADER_SIZE_BYTES } from '../wal/format.ts';
import { createByteSink, resetSink, writtenBytes } from './byte-sink.ts';
import type { BlockSlice, GroupEncoder, GroupOrigin } from './group-encoder.ts';
import type { GroupSlice, InsertGroup } from './insert-group.ts';

/** Blocks that are encoded at a time: this many bytes, at least one block. */
const PART_PAYLOAD_BYTES = 512 * 1024;
/** Pieces of 256 KiB to 1 MiB go through the HTTP client fastest. */
const PIECE_SIZE_BYTES = 256 * 1024;
/** A larger buffer is given back after use. */
const KEPT_SIZE_BYTES = 4 * PART_PAYLOAD_BYTES;

/** Buffers for making bodies, shared by all topics of a thread. */
export interface BodyBuffers {
  payloads: Uint8Array;
  encoded: ReturnType<typeof createByteSink>;
}

export function createBodyBuffers(): BodyBuffers {
  return { payloads: new Uint8Array(PART_PAYLOAD_BYTES), encoded: createByteSink() };
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
  try {
    yield* lentPieces(encodedParts(source.buffers, files, model, slices, encoder, origin));
  } finally {
    files.close();
  }
}

function* encodedParts(
  buffers: BodyBuffers,
  files: SegmentFiles,
  model: TopicModel,
  slices: readonly GroupSlice[],
  encoder: GroupEncoder,
  origin: GroupOrigin,
): Generator<Uint8Array<ArrayBuffer>, void> {
  for (let next = 0; next < slices.length; ) {
    const count = partLength(slices, next);
    const part = readPart(files, buffers, model, slices, next, count);
    next += count;
    resetSink(buffers.encoded);
    encoder(buffers.encoded, part, origin);
    yield writtenBytes(buffers.encoded);
  }
}

/**
 * Parts in pieces, valid until the next one is asked for. A part may change when the next is asked for, or
 * another topic's: it is copied, into memory that is given back at the end (the collector would leave it
 * lying).
 */
export function* lentPieces(parts: Iterable<Uint8Array>): Generator<Uint8Array, void> {
  let own = new Uint8Array(0);
  try {
    for (const part of parts) {
      if (own.length < part.length) own = new Uint8Array(Math.ceil(part.length * 1.25));
      own.set(part);
      yield* pieces(own.subarray(0, part.length));
    }
  } finally {
    own.buffer.transfer(0);
  }
}

/** Cuts bytes into pieces, views of them, that an HTTP client takes well. */
export function* pieces(bytes: Uint8Array): Generator<Uint8Array, void> {
  for (let start = 0; start < bytes.length; start += PIECE_SIZE_BYTES) {
    yield bytes.subarray(start, start + PIECE_SIZE_BYTES);
  }
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
  const sizeBytes = part.reduce((sum, { payloadSizeBytes }) => sum + payloadSizeBytes, 0);
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
    const length = this.#open(segment).read(target, offset + RECORD_HEADER_SIZE_BYTES);
    if (length === target.length && checksum(target) === payloadChecksum) return;
    throw new RecorderError('group_changed', `${segment}: the block at LSN ${lsn} now reads otherwise`, {
      hint: 'run `recorder wal verify`',
    });
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
