// The newest rows of each topic, for people who want to see what is coming in.
//
// Invariants
// - Recording pays a few numbers for a block: where it lies. Blocks are read and decoded when somebody asks.
// - Only durable rows are shown. A block that is no longer where it was (trimmed, or written again after a
//   failed sync) is left out.

import { type BlockView, openBlock } from '../../columns/block-codec.ts';
import { rowAt } from '../../columns/block-rows.ts';
import { errorCode, type FileSystem } from '../../io/file-system.ts';
import type { TopicModel } from '../../schema/model.ts';
import { WalFormatError } from '../../wal/errors.ts';
import { firstRecordOffset } from '../../wal/recovery-plan.ts';
import {
  openSegmentFile,
  ReadBuffer,
  readPayload,
  readRecordHeader,
  recordSizeBytes,
} from '../../wal/segment-file.ts';
import { limitOf, type SurveyedSegment, surveySegments } from '../../wal/survey.ts';

/** Where a block lies. */
interface BlockPlace {
  lsn: bigint;
  rowCount: number;
  /** First LSN of the segment, which names its file. */
  baseLsn: bigint;
  offset: number;
}

/** Blocks remembered of a topic: a trickle makes one block a row. */
const PLACES = 64;
/** Segments of earlier runs whose headers are read at the start; the last ones may be empty. */
const SEEDED_SEGMENTS = 4;

export class NewestRows {
  readonly #fileSystem: FileSystem;
  readonly #dir: string;
  readonly #places = new Map<string, BlockPlace[]>();

  constructor(fileSystem: FileSystem, dir: string) {
    this.#fileSystem = fileSystem;
    this.#dir = dir;
  }

  /** Finds the last blocks of earlier runs by their headers. To be called before `appended`. */
  seed(): void {
    const { segments } = surveySegments(this.#fileSystem, this.#dir);
    const first = Math.max(0, segments.length - SEEDED_SEGMENTS);
    for (const [index, segment] of segments.entries()) {
      if (index >= first) this.#seedFrom(segment, limitOf(segments, index));
    }
  }

  #seedFrom(segment: SurveyedSegment, limitLsn: bigint | null): void {
    const { header: segmentHeader, meta, baseLsn, name, sizeBytes } = segment;
    if (segmentHeader === null || meta === null) return;
    const { walId } = segmentHeader;
    const file = this.#fileSystem.open(`${this.#dir}/${name}`, 'read');
    try {
      const buffer = new ReadBuffer();
      let offset = firstRecordOffset(file, segment, walId) ?? sizeBytes;
      for (;;) {
        const header = readRecordHeader(file, offset, sizeBytes, walId, buffer);
        if (typeof header === 'string' || (limitLsn !== null && header.lsn >= limitLsn)) return;
        const topic = meta.topics[header.topicIndex]?.topic;
        if (topic !== undefined) this.appended(topic, header.lsn, header.rowCount, { baseLsn, offset });
        offset += recordSizeBytes(header);
      }
    } finally {
      file.close();
    }
  }

  /** A block was appended at a place; null where the WAL does not know it any more. */
  appended(
    topic: string,
    lsn: bigint,
    rowCount: number,
    place: { baseLsn: bigint; offset: number } | null,
  ): void {
    if (place === null) return;
    let places = this.#places.get(topic);
    if (places === undefined) {
      places = [];
      this.#places.set(topic, places);
    }
    places.push({ lsn, rowCount, baseLsn: place.baseLsn, offset: place.offset });
    if (places.length > PLACES) places.shift();
  }

  /** Up to `limit` rows below `durableLsn`, newest first, as `rowAt` shows them. */
  read(model: TopicModel, limit: number, durableLsn: bigint): Record<string, unknown>[] {
    const rows: Record<string, unknown>[] = [];
    for (const place of [...(this.#places.get(model.topic) ?? [])].reverse()) {
      if (rows.length >= limit) break;
      if (place.lsn + BigInt(place.rowCount) > durableLsn) continue;
      this.#readBlock(model, place, limit, rows);
    }
    return rows;
  }

  #readBlock(model: TopicModel, place: BlockPlace, limit: number, rows: Record<string, unknown>[]): void {
    const segment = this.#open(place.baseLsn);
    if (segment === null) return;
    try {
      const { file, header: segmentHeader, meta } = segment;
      const buffer = new ReadBuffer();
      const { walId } = segmentHeader;
      const header = readRecordHeader(file, place.offset, file.sizeBytes(), walId, buffer);
      if (typeof header === 'string' || header.lsn !== place.lsn) return;
      const payload = readPayload(file, place.offset, header, buffer);
      if (payload === null) return;
      const view: BlockView = openBlock(model, payload, header.rowCount);
      const origin = { lsn: header.lsn, recorder: meta.recorder, walId };
      for (let i = header.rowCount - 1; i >= 0 && rows.length < limit; i--) rows.push(rowAt(view, i, origin));
    } finally {
      segment.file.close();
    }
  }

  #open(baseLsn: bigint): ReturnType<typeof openSegmentFile> | null {
    try {
      return openSegmentFile(this.#fileSystem, this.#dir, baseLsn);
    } catch (error) {
      if (error instanceof WalFormatError || errorCode(error) === 'ENOENT') return null;
      throw error;
    }
  }
}
