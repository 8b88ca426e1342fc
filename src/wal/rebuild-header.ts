import os from 'node:os';
import type { FileHandle, FileSystem } from '../io/file-system.ts';
import { WalFormatError } from './errors.ts';
import {
  align8,
  decodeRecordHeader,
  encodeSegmentHeader,
  endLsn,
  parseSegmentName,
  RECORD_HEADER_SIZE_BYTES,
  RECORD_MAGIC,
} from './format.ts';
import { createHorizon, openHorizon } from './horizon.ts';
import { findRecord, readSegmentHeader, type SegmentFile } from './segment-file.ts';
import { encodeSegmentMeta, type WalTopic } from './segment-meta.ts';
import { scanSegment } from './segment-scan.ts';

export interface RebuildOptions {
  fileSystem: FileSystem;
  dir: string;
  /** The segment, whose header cannot be used. */
  name: string;
  /** Where the segment goes as it was. */
  keepAt: string;
  recorder: string;
  topics: readonly WalTopic[];
  now: Date;
}

const CHUNK_BYTES = 1024 * 1024;

/**
 * Replaces a segment by a new header and its records, byte for byte; the segment as it was stays at `keepAt`.
 * What only the old header knew is gone: rows of trimmed segments, and sessions without a row in the log.
 * Throws WalFormatError when it has no intact record.
 */
export function rebuildHeader(options: RebuildOptions): void {
  const { fileSystem, dir, name, keepAt } = options;
  const path = `${dir}/${name}`;
  const baseLsn = parseSegmentName(name);
  const source = fileSystem.open(path, 'read');
  const temporary = `${path}.new`;
  try {
    const walId = openHorizon(fileSystem, dir)?.walId ?? findWalId(source);
    const first = walId === null || baseLsn === null ? null : findRecord(source, 0, walId, baseLsn);
    if (walId === null || baseLsn === null || first === null) {
      throw new WalFormatError(`segment ${name} has neither a header nor an intact record`);
    }
    if (fileSystem.exists(temporary)) fileSystem.unlink(temporary);
    const target = fileSystem.open(temporary, 'create');
    try {
      const header = headerOf(options, walId, baseLsn, first.header.prevChecksum);
      target.write(header, 0);
      copyFrom(source, first.offset, target, header.length);
      target.syncNow();
    } finally {
      target.close();
    }
  } finally {
    source.close();
  }
  fileSystem.link(path, keepAt);
  fileSystem.syncDirectoryNow(keepAt.slice(0, keepAt.lastIndexOf('/')));
  fileSystem.rename(temporary, path);
  fileSystem.syncDirectoryNow(dir);
  proveRows(fileSystem, dir, path);
}

/**
 * Says in the horizon that the rows are durable, which they are now: recovery would else take the first
 * record, which names the old header as its predecessor, for the place where a crash cut the log.
 */
function proveRows(fileSystem: FileSystem, dir: string, path: string): void {
  const file = fileSystem.open(path, 'read');
  try {
    const { header } = readSegmentHeader(file, parseSegmentName(path.slice(dir.length + 1))!) as SegmentFile;
    const { walId, baseLsn, headerSizeBytes } = header;
    let provenLsn = baseLsn;
    for (const item of scanSegment(file, {
      offset: headerSizeBytes,
      lsn: baseLsn,
      walId,
      prevChecksum: null,
    })) {
      if (item.kind === 'block' && item.header.endsGroup) provenLsn = endLsn(item.header);
    }
    const horizon = createHorizon(fileSystem, dir, walId, provenLsn);
    if (horizon.durableLsn() < provenLsn) horizon.publish(provenLsn, provenLsn);
  } finally {
    file.close();
  }
}

/** Whether a file has a record whose header is intact. */
export function hasRecord(fileSystem: FileSystem, path: string): boolean {
  const file = fileSystem.open(path, 'read');
  try {
    return findWalId(file) !== null;
  } finally {
    file.close();
  }
}

function headerOf(
  { recorder, topics, now }: RebuildOptions,
  walId: bigint,
  baseLsn: bigint,
  prevChecksum: bigint,
): Uint8Array {
  const metadata = encodeSegmentMeta({
    recorder,
    createdAt: now.toISOString(),
    host: os.hostname(),
    topics: topics.map((topic) => ({ ...topic, rowsBefore: 0n })),
    streams: [],
    previousBaseLsn: null,
    groupEndLsn: baseLsn,
    syncedLsn: baseLsn,
    gapBefore: null,
  });
  return encodeSegmentHeader({ walId, baseLsn, prevChecksum }, metadata);
}

function copyFrom(source: FileHandle, fromOffset: number, target: FileHandle, toOffset: number): void {
  const chunk = new Uint8Array(CHUNK_BYTES);
  for (let done = 0; ; done += CHUNK_BYTES) {
    const count = source.read(chunk, fromOffset + done);
    if (count > 0) target.write(chunk.subarray(0, count), toOffset + done);
    if (count < CHUNK_BYTES) return;
  }
}

/** The WAL that the first record header with a valid checksum names. */
function findWalId(file: FileHandle): bigint | null {
  const chunk = new Uint8Array(align8(Math.min(CHUNK_BYTES, file.sizeBytes() + 8)));
  const words = new Uint32Array(chunk.buffer);
  const bytes = new Uint8Array(RECORD_HEADER_SIZE_BYTES);
  for (let start = 0; start < file.sizeBytes(); start += chunk.length) {
    const count = file.read(chunk, start) >>> 2;
    for (let word = 0; word < count; word += 2) {
      if (words[word] !== RECORD_MAGIC) continue;
      const header = decodeRecordHeader(bytes.subarray(0, file.read(bytes, start + word * 4)));
      if (typeof header !== 'string') return header.walId;
    }
  }
  return null;
}
