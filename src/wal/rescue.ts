// Rows whose sync has failed are read back and written again into a new segment under new LSNs. They come
// from memory where the write itself has failed, else from the file: from the page cache where they were
// written through it, from the disk where not. Each record verifies by its checksums: what comes back is what
// was appended, or nothing.

import type { ActiveSegment } from './active-segment.ts';
import type { FailedWrite } from './background-writes.ts';
import { WalFormatError } from './errors.ts';
import { type Readable, ReadBuffer, readPayload, readRecordHeader, recordSizeBytes } from './segment-file.ts';
import type { BlockAppend } from './settings.ts';

/**
 * Reads the records of the segments from `lsn` on, copies of which are returned. Throws WalFormatError when
 * one of them is not as it was written, and the file system's errors.
 */
export function readBack(segments: readonly ActiveSegment[], walId: bigint, lsn: bigint): BlockAppend[] {
  const blocks: BlockAppend[] = [];
  const buffer = new ReadBuffer();
  for (const segment of segments) {
    const { name, headerSizeBytes, usedSizeBytes } = segment;
    const file = asAppended(segment);
    let offset = headerSizeBytes;
    while (offset < usedSizeBytes) {
      const header = readRecordHeader(file, offset, usedSizeBytes, walId, buffer);
      if (typeof header === 'string') throw new WalFormatError(`${name} at ${offset}: ${header}`);
      if (header.lsn >= lsn) {
        const payload = readPayload(file, offset, header, buffer)?.slice();
        if (payload === undefined) throw new WalFormatError(`${name} at ${offset}: bad_payload_checksum`);
        blocks.push({ ...header, encode: (target) => target.set(payload) });
      }
      offset += recordSizeBytes(header);
    }
  }
  return blocks;
}

/** Reads of a segment's file as they would be had no write failed. */
function asAppended({ file, writes: { failed } }: ActiveSegment): Readable {
  if (failed.length === 0) return file;
  return {
    read(target, offset) {
      const end = offset + target.length;
      // Where the disk did not take it, it may not read either.
      const isKept = failed.some(
        (write) => write.offset <= offset && end <= write.offset + write.bytes.length,
      );
      const count = isKept ? target.length : file.read(target, offset);
      for (const write of failed) overlay(target, offset, write);
      return count;
    },
  };
}

function overlay(target: Uint8Array, offset: number, { bytes, offset: at }: FailedWrite): void {
  const start = Math.max(offset, at);
  const end = Math.min(offset + target.length, at + bytes.length);
  if (start < end) target.set(bytes.subarray(start - at, end - at), start - offset);
}
