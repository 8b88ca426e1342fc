// What the ingest half is given, and what it says of frames that it does not take.

import type { StreamName } from '../../columns/block-codec.ts';
import type { GapEvent } from '../../net/frame-sink.ts';
import type { Extract } from '../../schema/extractor.ts';
import type { TopicModel } from '../../schema/model.ts';
import type { BlockAppend } from '../../wal/writer.ts';

export interface IngestOptions {
  topics: readonly TopicModel[];
  createExtract(model: TopicModel): Extract;
  batchRows: number;
  /** Writes a block, which says whether it ends a group; throws WalFullError while there is no room. */
  append(block: BlockAppend): void;
  streamName(streamId: number): StreamName;
  /**
   * Whether a stream's frames come as datagrams, which cannot be held back; a stream's rows are never
   * shed.
   */
  isDatagram(streamId: number): boolean;
  /** Whether a stream has brought vital rows, and notes that it has. */
  isVital(streamId: number): boolean;
  noteVital(streamId: number): void;
  /** Keeps a refused frame. */
  quarantine(event: RefusedFrame): void;
  /** A sequence gap was found or closed. */
  gap(event: GapEvent): void;
  /** Rows or quarantined frames wait to be made durable. */
  pending(): void;
}

/** A frame that was not accepted: bytes[start, end) is what is left of it, valid during the call. */
export interface RefusedFrame {
  streamId: number;
  /** 0 where the frame has no sequence number */
  seq: number;
  reason: string;
  bytes: Uint8Array;
  start: number;
  end: number;
  origin: string;
}
