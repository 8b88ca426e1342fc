// Walks one segment record by record and tells intact blocks, damage, and the tail apart. Never writes. The
// caller decides what a damaged tail means (see recovery.ts): this file only says what lies there.

import type { FileHandle } from '../io/file-system.ts';
import { endLsn, type RecordHeader } from './format.ts';
import {
  findNonZero,
  findRecord,
  ReadBuffer,
  type RecordFault,
  readPayload,
  readRecordHeader,
  recordSizeBytes,
} from './segment-file.ts';

export type DamageReason = RecordFault | 'chain_broken' | 'lsn_gap' | 'lsn_overlap' | 'data_after_end';

export interface ScannedBlock {
  kind: 'block';
  offset: number;
  header: RecordHeader;
  /** 8-byte aligned; valid until the next step of the scan. */
  payload: Uint8Array;
}

/**
 * Damage with an intact record after it. Rows `firstLsn` to `lastLsn` are lost; none when `lastLsn <
 * firstLsn`.
 */
export interface ScannedDamage {
  kind: 'damage';
  offset: number;
  endOffset: number;
  reason: DamageReason;
  firstLsn: bigint;
  lastLsn: bigint;
}

/**
 * What follows the last intact record; always the last item. `reason` null: only zeros, or the end of the
 * file. Otherwise bytes that are no intact record lie up to `endOffset`; `lastLsn` is known when their header
 * holds.
 */
export interface ScannedTail {
  kind: 'tail';
  offset: number;
  endOffset: number;
  reason: DamageReason | null;
  lsn: bigint;
  lastLsn: bigint | null;
}

export type ScanItem = ScannedBlock | ScannedDamage | ScannedTail;

export interface ScanStart {
  offset: number;
  lsn: bigint;
  walId: bigint;
  /** Checksum that the first record must name as its predecessor; null when it is not known. */
  prevChecksum: bigint | null;
}

/** Scans from a record border to the end of the file. */
export function* scanSegment(file: FileHandle, start: ScanStart): Generator<ScanItem, void> {
  const buffer = new ReadBuffer();
  const fileSizeBytes = file.sizeBytes();
  let { offset, lsn, prevChecksum } = start;
  for (;;) {
    const header = readRecordHeader(file, offset, fileSizeBytes, start.walId, buffer);
    if (typeof header !== 'string' && header.lsn >= lsn) {
      const payload = readPayload(file, offset, header, buffer);
      if (payload !== null) {
        if (header.lsn > lsn) yield gapBefore(offset, lsn, header);
        else if (prevChecksum !== null && header.prevChecksum !== prevChecksum)
          yield brokenChain(offset, header);
        yield { kind: 'block', offset, header, payload };
        offset += recordSizeBytes(header);
        lsn = endLsn(header);
        prevChecksum = header.headerChecksum;
        continue;
      }
    }
    const item = damageAt(file, offset, lsn, start.walId, header);
    yield item;
    if (item.kind === 'tail') return;
    offset = item.endOffset;
    lsn = item.lastLsn + 1n > lsn ? item.lastLsn + 1n : lsn;
    prevChecksum = null;
  }
}

function gapBefore(offset: number, lsn: bigint, header: RecordHeader): ScannedDamage {
  return {
    kind: 'damage',
    offset,
    endOffset: offset,
    reason: 'lsn_gap',
    firstLsn: lsn,
    lastLsn: header.lsn - 1n,
  };
}

/**
 * The block is intact, but not the one that was written after its predecessor: it is reported and delivered.
 */
function brokenChain(offset: number, header: RecordHeader): ScannedDamage {
  const reason = 'chain_broken';
  return {
    kind: 'damage',
    offset,
    endOffset: offset,
    reason,
    firstLsn: header.lsn,
    lastLsn: header.lsn - 1n,
  };
}

function damageAt(
  file: FileHandle,
  offset: number,
  lsn: bigint,
  walId: bigint,
  header: RecordHeader | RecordFault,
): ScannedDamage | ScannedTail {
  const clean = { kind: 'tail', offset, endOffset: offset, reason: null, lsn, lastLsn: null } as const;
  if (header === 'end_of_file') return clean;
  const firstByte = header === 'zero' ? findNonZero(file, offset) : offset;
  if (firstByte === -1) return clean;
  const found = findRecord(file, offset + 8, walId, lsn);
  const reason = faultOf(header, lsn);
  if (found !== null) {
    const lastLsn = found.header.lsn - 1n;
    return { kind: 'damage', offset, endOffset: found.offset, reason, firstLsn: lsn, lastLsn };
  }
  const lastLsn = typeof header === 'string' || header.lsn !== lsn ? null : endLsn(header) - 1n;
  return { ...clean, endOffset: lastNonZeroEnd(file, firstByte), reason, lastLsn };
}

function faultOf(header: RecordHeader | RecordFault, lsn: bigint): DamageReason {
  if (header === 'zero') return 'data_after_end';
  if (typeof header === 'string') return header;
  return header.lsn < lsn ? 'lsn_overlap' : 'bad_payload_checksum';
}

/** End of the bytes that are not zero, rounded up to a multiple of 8. */
function lastNonZeroEnd(file: FileHandle, fromOffset: number): number {
  const sizeBytes = file.sizeBytes();
  const chunk = new Uint8Array(Math.min(1024 * 1024, sizeBytes));
  for (let end = sizeBytes; end > fromOffset; end -= chunk.length) {
    const start = Math.max(fromOffset, end - chunk.length);
    const view = chunk.subarray(0, end - start);
    file.read(view, start);
    const last = view.findLastIndex((byte) => byte !== 0);
    if (last !== -1) return Math.min(sizeBytes, start + Math.ceil((last + 1) / 8) * 8);
  }
  return fromOffset;
}
