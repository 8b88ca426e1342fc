// Reading of one segment file: header, single records, and the search for the next record after damage.
//
// Reads are preads into reused buffers, not maps. Measured on 1.3 GB in the page cache, checksums included:
// map 19-25 GB/s with 550-690 MB resident, pread 13.5 GB/s with 34 MB. Both are far above what any consumer
// takes, and a map of a file that is truncated by its writer kills the reading process.

import { errorCode, type FileHandle, type FileSystem } from '../io/file-system.ts';
import { WalFormatError } from './errors.ts';
import {
  align8,
  checksum,
  decodeRecordHeader,
  decodeSegmentHeader,
  firstNonZero,
  RECORD_HEADER_SIZE_BYTES,
  RECORD_MAGIC,
  type RecordHeader,
  type RecordHeaderFault,
  SEGMENT_HEADER_SIZE_BYTES,
  type SegmentHeader,
  type SegmentHeaderFault,
  segmentName,
} from './format.ts';
import { decodeSegmentMeta, type SegmentMeta } from './segment-meta.ts';

const SEARCH_CHUNK_BYTES = 1024 * 1024;
const LEAST_BUFFER_BYTES = 4096;

/** What records are read from. */
export type Readable = Pick<FileHandle, 'read'>;

/** A buffer that grows and is reused: a view that it returned is valid until its next read. */
export class ReadBuffer {
  #bytes: Uint8Array;

  constructor(initialSizeBytes = 0) {
    this.#bytes = new Uint8Array(initialSizeBytes);
  }

  /** Reads up to `sizeBytes` at `offset`, fewer at the end of the file. The view starts 8-byte aligned. */
  read(file: Readable, offset: number, sizeBytes: number): Uint8Array {
    if (this.#bytes.length < sizeBytes) {
      this.#bytes = new Uint8Array(Math.max(Math.ceil(sizeBytes * 1.25), LEAST_BUFFER_BYTES));
    }
    const target = this.#bytes.subarray(0, sizeBytes);
    return target.subarray(0, file.read(target, offset));
  }
}

/** An open segment with its header. */
export interface SegmentFile {
  name: string;
  baseLsn: bigint;
  file: FileHandle;
  header: SegmentHeader;
  meta: SegmentMeta;
}

export type SegmentFault = SegmentHeaderFault | 'bad_metadata' | 'wrong_name';

/** Reads the header of an open file; a fault when it is not the header of the segment `baseLsn`. */
export function readSegmentHeader(
  file: FileHandle,
  baseLsn: bigint,
): { header: SegmentHeader; meta: SegmentMeta } | SegmentFault {
  const fixed = new Uint8Array(SEGMENT_HEADER_SIZE_BYTES);
  const header = decodeSegmentHeader(fixed.subarray(0, file.read(fixed, 0)));
  if (typeof header === 'string') return header;
  const metadata = new Uint8Array(header.headerSizeBytes - SEGMENT_HEADER_SIZE_BYTES);
  if (file.read(metadata, SEGMENT_HEADER_SIZE_BYTES) < metadata.length) return 'too_short';
  if (checksum(metadata) !== header.metaChecksum) return 'bad_metadata';
  if (header.baseLsn !== baseLsn) return 'wrong_name';
  try {
    return { header, meta: decodeSegmentMeta(new TextDecoder().decode(metadata)) };
  } catch (error) {
    if (error instanceof WalFormatError) return 'bad_metadata';
    throw error;
  }
}

/**
 * Opens the segment `baseLsn`; throws WalFormatError when its header cannot be used. The caller closes
 * `file`.
 */
export function openSegmentFile(fileSystem: FileSystem, dir: string, baseLsn: bigint): SegmentFile {
  const name = segmentName(baseLsn);
  const file = fileSystem.open(`${dir}/${name}`, 'read');
  try {
    const result = readSegmentHeader(file, baseLsn);
    if (typeof result === 'string')
      throw new WalFormatError(`segment ${name} has no valid header: ${result}`);
    return { name, baseLsn, file, ...result };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Header of the segment `baseLsn`, or null when there is no such file or it has no valid header. */
export function headerOf(
  fileSystem: FileSystem,
  dir: string,
  baseLsn: bigint,
): Pick<SegmentFile, 'header' | 'meta'> | null {
  try {
    const segment = openSegmentFile(fileSystem, dir, baseLsn);
    segment.file.close();
    return segment;
  } catch (error) {
    if (error instanceof WalFormatError || errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

/** Null for a segment that was trimmed after it had been listed. */
function openIfThere(fileSystem: FileSystem, path: string): FileHandle | null {
  try {
    return fileSystem.open(path, 'read');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

/**
 * Opens a segment at its first record, for which another segment's header serves when its own is damaged;
 * null when that cannot help. Throws WalFormatError for a segment of a newer version. The caller closes the
 * file.
 */
export function openForReading(
  fileSystem: FileSystem,
  dir: string,
  { name, baseLsn }: { name: string; baseLsn: bigint },
  others: readonly { baseLsn: bigint }[],
): { segment: SegmentFile; offset: number } | null {
  const file = openIfThere(fileSystem, `${dir}/${name}`);
  if (file === null) return null;
  const read = readSegmentHeader(file, baseLsn);
  if (typeof read !== 'string') {
    return { segment: { name, baseLsn, file, ...read }, offset: read.header.headerSizeBytes };
  }
  const isUsable = read !== 'wrong_name' && read !== 'future_version';
  for (const other of isUsable ? others : []) {
    const borrowed = headerOf(fileSystem, dir, other.baseLsn);
    const first = borrowed && findRecord(file, 0, borrowed.header.walId, baseLsn);
    if (borrowed === null || first === null) continue;
    const { header, meta } = borrowed;
    return { segment: { name, baseLsn, file, header, meta }, offset: first.offset };
  }
  file.close();
  if (read === 'future_version') {
    throw new WalFormatError(`segment ${name} is of a newer version of the format`);
  }
  return null;
}

export type RecordFault =
  | RecordHeaderFault
  | 'end_of_file'
  | 'truncated'
  | 'foreign_wal'
  | 'bad_payload_checksum';

/** Reads the header at `offset` and checks that the record is of this WAL and lies in the file. */
export function readRecordHeader(
  file: Readable,
  offset: number,
  fileSizeBytes: number,
  walId: bigint,
  buffer: ReadBuffer,
): RecordHeader | RecordFault {
  if (offset >= fileSizeBytes) return 'end_of_file';
  const header = decodeRecordHeader(buffer.read(file, offset, RECORD_HEADER_SIZE_BYTES));
  if (typeof header === 'string') return header;
  if (header.walId !== walId) return 'foreign_wal';
  if (offset + recordSizeBytes(header) > fileSizeBytes) return 'truncated';
  return header;
}

/** Bytes of a whole record, its padding included. */
export function recordSizeBytes(header: RecordHeader): number {
  return RECORD_HEADER_SIZE_BYTES + header.payloadSizeBytes + header.paddingSizeBytes;
}

/** Reads and checks a record's payload into `buffer`; null when its checksum does not hold. */
export function readPayload(
  file: Readable,
  offset: number,
  header: RecordHeader,
  buffer: ReadBuffer,
): Uint8Array | null {
  const payload = buffer.read(file, offset + RECORD_HEADER_SIZE_BYTES, header.payloadSizeBytes);
  if (payload.length < header.payloadSizeBytes || checksum(payload) !== header.payloadChecksum) return null;
  return payload;
}

/**
 * Finds the first whole record at or after `fromOffset` (a multiple of 8) whose rows come at or after
 * `minLsn`. Header and payload must both hold, so that bytes inside a damaged payload are not taken for a
 * record by chance.
 */
export function findRecord(
  file: FileHandle,
  fromOffset: number,
  walId: bigint,
  minLsn: bigint,
): { offset: number; header: RecordHeader } | null {
  const fileSizeBytes = file.sizeBytes();
  const chunk = new Uint8Array(Math.min(SEARCH_CHUNK_BYTES, align8(fileSizeBytes)));
  const words = new Uint32Array(chunk.buffer);
  const buffer = new ReadBuffer();
  for (let start = fromOffset; start < fileSizeBytes; start += chunk.length) {
    const wordCount = file.read(chunk, start) >>> 2;
    for (let i = 0; i < wordCount; i += 2) {
      if (words[i] !== RECORD_MAGIC) continue;
      const offset = start + i * 4;
      const header = readRecordHeader(file, offset, fileSizeBytes, walId, buffer);
      if (typeof header === 'string' || header.lsn < minLsn) continue;
      if (readPayload(file, offset, header, buffer) !== null) return { offset, header };
    }
  }
  return null;
}

/** Offset of the first byte at or after `fromOffset` that is not zero, or -1. */
export function findNonZero(file: FileHandle, fromOffset: number): number {
  const chunk = new Uint8Array(Math.min(SEARCH_CHUNK_BYTES, align8(file.sizeBytes()) + 8));
  for (let start = fromOffset; ; start += chunk.length) {
    const count = file.read(chunk, start);
    const found = firstNonZero(chunk.subarray(0, count));
    if (found !== -1) return start + found;
    if (count < chunk.length) return -1;
  }
}
