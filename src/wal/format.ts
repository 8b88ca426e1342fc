// Layout of the WAL on disk, version 2: fixed headers, checksums, file names. Pure: bytes in, values out, no
// IO.
//
// A segment file is one segment header and then records one after another, each 8-byte aligned. After the
// last record a segment that is being written holds zeros up to its allocated size; a finished segment ends
// there. All numbers are little-endian. All checksums are XXH3-64 with seed 0 (Bun.hash.xxHash3; of no bytes:
// 0x2d06800538d394c2).
//
// Segment header: 64 bytes, then metadata (JSON, UTF-8, padded with spaces to a multiple of 8; see
// segment-meta.ts)
//   offset size field
//        0    8 magic "RECWAL01"
//        8    4 version: 2; 1 where no record has padding, as older programs wrote it
//       12    4 headerSizeBytes: these 64 bytes and the padded metadata; the first record starts there
//       16    8 walId
//       24    8 baseLsn: LSN of the first row of this segment
//       32    8 prevChecksum: headerChecksum of the last record before this segment, 0 when there is none
//       40    8 metaChecksum: of the padded metadata
//       48    8 zero
//       56    8 headerChecksum: of bytes 0 to 55
//
// Record (one block): 128 bytes, then the payload, then padding
//   offset size field
//        0    4 magic "RBLK"
//        4    4 payloadSizeBytes, a multiple of 8
//        8    8 lsn of the block's first row
//       16    8 schemaFingerprint
//       24    4 rowCount, at least 1
//       28    2 topicIndex: position in the segment's list of topics
//       30    2 flags: bit 0 endsGroup
//       32    8 firstSeq     40    8 lastSeq: sequence numbers of the first and the last row
//       48    2 firstStream  50    2 lastStream: their streams, positions in the block's stream table
//       52    4 streamCount
//       56    8 firstIngestTs     64    8 lastIngestTs: ns since 1970, signed
//       72    8 walId
//       80    8 prevChecksum: headerChecksum of the record before, of the segment header for the first
//       88    8 payloadChecksum: of the payload with its padding
//       96    8 syncedLsn: rows below it had been synced when this record was written. A damaged record with
// an LSN
//               below the syncedLsn of a later record was durable once: that is corruption, not a torn tail.
//      104    4 inTimeOrder: 1 where ingest times never fall from row to row, 0 where that is not known
//      108    4 paddingSizeBytes, below 4096, a multiple of 8: zeros, which no checksum covers, so that
//               records that are written past the page cache begin and end with a page
//      112    8 zero
//      120    8 headerChecksum: of bytes 0 to 119
//
// Each record verifies alone; the chain of prevChecksum shows records that were replaced, swapped or taken
// out. Groups: blocks that were appended together are durable together. Recovery cuts blocks after the last
// endsGroup.

export const WAL_VERSION = 2;
/** No record has padding. */
const FIRST_VERSION = 1;
export const SEGMENT_HEADER_SIZE_BYTES = 64;
export const RECORD_HEADER_SIZE_BYTES = 128;
export const SEGMENT_MAGIC = 'RECWAL01';
/** "RBLK" as a little-endian u32. */
export const RECORD_MAGIC = 0x4b4c4252;
/** Longest payload: a block is far smaller, so a longer length can only be damage. */
export const MAX_PAYLOAD_SIZE_BYTES = 0x4000_0000;
/** Padding is shorter. */
export const MAX_PADDING_SIZE_BYTES = 4096;
export const MAX_SEGMENT_HEADER_SIZE_BYTES = 0x1000_0000;
const FLAG_ENDS_GROUP = 1;

export interface SegmentHeader {
  version: number;
  headerSizeBytes: number;
  walId: bigint;
  baseLsn: bigint;
  prevChecksum: bigint;
  metaChecksum: bigint;
  headerChecksum: bigint;
}

/** What the writer's caller says about a block. */
export interface BlockFields {
  topicIndex: number;
  rowCount: number;
  payloadSizeBytes: number;
  firstSeq: bigint;
  lastSeq: bigint;
  firstStream: number;
  lastStream: number;
  streamCount: number;
  firstIngestTs: bigint;
  lastIngestTs: bigint;
  /** Ingest times never fall from one row to the next; absent where that is not known. */
  inTimeOrder?: boolean;
}

export interface RecordHeader extends BlockFields {
  inTimeOrder: boolean;
  lsn: bigint;
  schemaFingerprint: bigint;
  endsGroup: boolean;
  walId: bigint;
  paddingSizeBytes: number;
  prevChecksum: bigint;
  payloadChecksum: bigint;
  syncedLsn: bigint;
  headerChecksum: bigint;
}

/** XXH3-64, seed 0. */
export function checksum(bytes: Uint8Array): bigint {
  return Bun.hash.xxHash3(bytes);
}

/** Rounds up to a multiple of 8. */
export function align8(sizeBytes: number): number {
  return Math.ceil(sizeBytes / 8) * 8;
}

/** File name of the segment that starts at `baseLsn`. */
export function segmentName(baseLsn: bigint): string {
  return `${baseLsn.toString(16).padStart(16, '0')}.wal`;
}

/** LSN in a segment's file name, or null when the name is not one. */
export function parseSegmentName(name: string): bigint | null {
  return /^[0-9a-f]{16}\.wal$/.test(name) ? BigInt(`0x${name.slice(0, 16)}`) : null;
}

/** Segments among the names of a directory, by LSN. */
export function segmentsAmong(names: readonly string[]): { name: string; baseLsn: bigint }[] {
  return names
    .map((name) => ({ name, baseLsn: parseSegmentName(name) }))
    .filter((entry): entry is { name: string; baseLsn: bigint } => entry.baseLsn !== null)
    .sort((a, b) => (a.baseLsn < b.baseLsn ? -1 : 1));
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Bytes of a whole segment header; `metadata` is JSON text. */
export function encodeSegmentHeader(
  fields: { walId: bigint; baseLsn: bigint; prevChecksum: bigint; version?: number },
  metadata: string,
): Uint8Array {
  const json = new TextEncoder().encode(metadata);
  const bytes = new Uint8Array(SEGMENT_HEADER_SIZE_BYTES + align8(json.length)).fill(0x20);
  bytes.fill(0, 0, SEGMENT_HEADER_SIZE_BYTES);
  bytes.set(json, SEGMENT_HEADER_SIZE_BYTES);
  bytes.set(new TextEncoder().encode(SEGMENT_MAGIC), 0);
  const view = viewOf(bytes);
  view.setUint32(8, fields.version ?? WAL_VERSION, true);
  view.setUint32(12, bytes.length, true);
  view.setBigUint64(16, fields.walId, true);
  view.setBigUint64(24, fields.baseLsn, true);
  view.setBigUint64(32, fields.prevChecksum, true);
  view.setBigUint64(40, checksum(bytes.subarray(SEGMENT_HEADER_SIZE_BYTES)), true);
  view.setBigUint64(56, checksum(bytes.subarray(0, 56)), true);
  return bytes;
}

/** Why bytes are not the header of a segment. */
export type SegmentHeaderFault =
  | 'too_short'
  | 'bad_magic'
  | 'bad_header_checksum'
  | 'future_version'
  | 'bad_header';

/**
 * Reads the first 64 bytes of a segment. Every version keeps magic, version and checksum where they are, so
 * the checksum is looked at first: a flipped bit never passes for a later version.
 */
export function decodeSegmentHeader(bytes: Uint8Array): SegmentHeader | SegmentHeaderFault {
  if (bytes.length < SEGMENT_HEADER_SIZE_BYTES) return 'too_short';
  for (let i = 0; i < 8; i++) if (bytes[i] !== SEGMENT_MAGIC.charCodeAt(i)) return 'bad_magic';
  const view = viewOf(bytes);
  const headerChecksum = view.getBigUint64(56, true);
  if (checksum(bytes.subarray(0, 56)) !== headerChecksum) return 'bad_header_checksum';
  const version = view.getUint32(8, true);
  if (version < FIRST_VERSION || version > WAL_VERSION) return 'future_version';
  const headerSizeBytes = view.getUint32(12, true);
  if (headerSizeBytes < SEGMENT_HEADER_SIZE_BYTES || headerSizeBytes % 8 !== 0) return 'bad_header';
  if (headerSizeBytes > MAX_SEGMENT_HEADER_SIZE_BYTES || view.getBigUint64(48, true) !== 0n)
    return 'bad_header';
  return {
    version,
    headerSizeBytes,
    walId: view.getBigUint64(16, true),
    baseLsn: view.getBigUint64(24, true),
    prevChecksum: view.getBigUint64(32, true),
    metaChecksum: view.getBigUint64(40, true),
    headerChecksum,
  };
}

/** Fields of a record header that the writer adds to the block's own. */
export type RecordFields = BlockFields & Omit<RecordHeader, keyof BlockFields | 'headerChecksum'>;

/** Writes a record header into the first 128 bytes of `target`; returns its checksum. */
export function encodeRecordHeader(target: Uint8Array, fields: RecordFields): bigint {
  const view = viewOf(target);
  view.setUint32(0, RECORD_MAGIC, true);
  view.setUint32(4, fields.payloadSizeBytes, true);
  view.setBigUint64(8, fields.lsn, true);
  view.setBigUint64(16, fields.schemaFingerprint, true);
  view.setUint32(24, fields.rowCount, true);
  view.setUint16(28, fields.topicIndex, true);
  view.setUint16(30, fields.endsGroup ? FLAG_ENDS_GROUP : 0, true);
  view.setBigUint64(32, fields.firstSeq, true);
  view.setBigUint64(40, fields.lastSeq, true);
  view.setUint16(48, fields.firstStream, true);
  view.setUint16(50, fields.lastStream, true);
  view.setUint32(52, fields.streamCount, true);
  view.setBigInt64(56, fields.firstIngestTs, true);
  view.setBigInt64(64, fields.lastIngestTs, true);
  view.setBigUint64(72, fields.walId, true);
  view.setBigUint64(80, fields.prevChecksum, true);
  view.setBigUint64(88, fields.payloadChecksum, true);
  view.setBigUint64(96, fields.syncedLsn, true);
  view.setUint32(104, fields.inTimeOrder === true ? 1 : 0, true);
  view.setUint32(108, fields.paddingSizeBytes, true);
  view.setBigUint64(112, 0n, true);
  const headerChecksum = checksum(target.subarray(0, 120));
  view.setBigUint64(120, headerChecksum, true);
  return headerChecksum;
}

/** Why bytes are not the header of a record; `zero`: all 128 bytes are zero, as after the last record. */
export type RecordHeaderFault = 'zero' | 'too_short' | 'bad_magic' | 'bad_header_checksum' | 'bad_header';

/** Reads the 128 bytes of a record header at the start of `bytes`. */
export function decodeRecordHeader(bytes: Uint8Array): RecordHeader | RecordHeaderFault {
  if (bytes.length < RECORD_HEADER_SIZE_BYTES) return isZero(bytes) ? 'zero' : 'too_short';
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== RECORD_MAGIC) {
    return isZero(bytes.subarray(0, RECORD_HEADER_SIZE_BYTES)) ? 'zero' : 'bad_magic';
  }
  const headerChecksum = view.getBigUint64(120, true);
  if (checksum(bytes.subarray(0, 120)) !== headerChecksum) return 'bad_header_checksum';
  const payloadSizeBytes = view.getUint32(4, true);
  const rowCount = view.getUint32(24, true);
  const flags = view.getUint16(30, true);
  if (payloadSizeBytes % 8 !== 0 || payloadSizeBytes > MAX_PAYLOAD_SIZE_BYTES || rowCount === 0)
    return 'bad_header';
  const paddingSizeBytes = view.getUint32(108, true);
  if (paddingSizeBytes % 8 !== 0 || paddingSizeBytes >= MAX_PADDING_SIZE_BYTES) return 'bad_header';
  if ((flags & ~FLAG_ENDS_GROUP) !== 0) return 'bad_header';
  return {
    payloadSizeBytes,
    lsn: view.getBigUint64(8, true),
    schemaFingerprint: view.getBigUint64(16, true),
    rowCount,
    topicIndex: view.getUint16(28, true),
    endsGroup: (flags & FLAG_ENDS_GROUP) !== 0,
    firstSeq: view.getBigUint64(32, true),
    lastSeq: view.getBigUint64(40, true),
    firstStream: view.getUint16(48, true),
    lastStream: view.getUint16(50, true),
    streamCount: view.getUint32(52, true),
    firstIngestTs: view.getBigInt64(56, true),
    lastIngestTs: view.getBigInt64(64, true),
    inTimeOrder: view.getUint32(104, true) === 1,
    paddingSizeBytes,
    walId: view.getBigUint64(72, true),
    prevChecksum: view.getBigUint64(80, true),
    payloadChecksum: view.getBigUint64(88, true),
    syncedLsn: view.getBigUint64(96, true),
    headerChecksum,
  };
}

/** LSN of the row after the block's last. */
export function endLsn(header: RecordHeader): bigint {
  return header.lsn + BigInt(header.rowCount);
}

/** Whether all bytes are zero. */
export function isZero(bytes: Uint8Array): boolean {
  return firstNonZero(bytes) === -1;
}

/** Index of the first byte that is not zero, or -1. Compares words where the bytes are aligned. */
export function firstNonZero(bytes: Uint8Array): number {
  let i = 0;
  if (bytes.byteOffset % 4 === 0) {
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
    let word = 0;
    while (word < words.length && words[word] === 0) word++;
    i = word * 4;
  }
  while (i < bytes.length && bytes[i] === 0) i++;
  return i === bytes.length ? -1 : i;
}
