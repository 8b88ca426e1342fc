// One topic between the listeners and the WAL: its open batch, the full ones that wait, and its counts.

import { type Batch, createBatch, ingestTsAt, seqAt, streamIndexAt } from '../../columns/batch.ts';
import { blockSizeBytes, encodeBlock, type StreamName } from '../../columns/block-codec.ts';
import type { Extract } from '../../schema/extractor.ts';
import type { TopicModel } from '../../schema/model.ts';
import type { BlockAppend } from '../../wal/writer.ts';

/** Why rows are dropped on purpose. */
export const SHED_CAUSES = ['memory', 'disk'] as const;
export type ShedCause = (typeof SHED_CAUSES)[number];

/** Of which streams a topic's rows are dropped. Datagrams cannot be held back; streams can. */
export type Drops = 'none' | 'datagrams' | 'all';

/** One topic on its way into the WAL. */
export interface TopicIngest {
  readonly model: TopicModel;
  readonly index: number;
  readonly extract: Extract;
  batch: Batch;
  /** Full batches that the WAL could not take yet, oldest first. */
  waiting: Batch[];
  /** Well-formed frames of this topic, shed ones included. */
  received: number;
  malformed: number;
  /** Rows in the WAL. */
  logged: number;
  /** Rows dropped on purpose. */
  shed: number;
  shedByCause: Record<ShedCause, number>;
  /** Rows that the recorder made itself: nobody sent them. */
  own: number;
  /** Rows are dropped instead of recorded: of no stream, of datagrams only, or of all. */
  drops: Drops;
  /** Why, while `drops` is not 'none'. */
  dropCause: ShedCause;
}

/** Makes a topic's state. */
export function createTopic(
  model: TopicModel,
  index: number,
  extract: Extract,
  batchRows: number,
): TopicIngest {
  return {
    model,
    index,
    extract,
    batch: createBatch(model, batchRows),
    waiting: [],
    received: 0,
    malformed: 0,
    logged: 0,
    shed: 0,
    shedByCause: { memory: 0, disk: 0 },
    own: 0,
    drops: 'none',
    dropCause: 'memory',
  };
}

/** The block of a batch, as the WAL takes it. */
export function blockOf(
  topic: TopicIngest,
  batch: Batch,
  streamName: (streamId: number) => StreamName,
): BlockAppend {
  const streams = batch.streamIds.map(streamName);
  const last = batch.rowCount - 1;
  return {
    topicIndex: topic.index,
    rowCount: batch.rowCount,
    firstSeq: seqAt(batch, 0),
    lastSeq: seqAt(batch, last),
    firstStream: streamIndexAt(batch, 0),
    lastStream: streamIndexAt(batch, last),
    streamCount: streams.length,
    firstIngestTs: ingestTsAt(batch, 0),
    lastIngestTs: ingestTsAt(batch, last),
    payloadSizeBytes: blockSizeBytes(batch, streams),
    encode: (target) => encodeBlock(batch, streams, target),
  };
}

/** Memory that a batch has taken, which is more than its rows need. */
export function allocatedBytes({ u8, vars }: Batch): number {
  return vars.reduce((sum, { bytes }) => sum + bytes.length, u8.length);
}
