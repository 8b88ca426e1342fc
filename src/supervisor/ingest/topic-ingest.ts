// One topic between the listeners and the WAL: its open batch, the full ones that wait, and its counts.

import {
  type Batch,
  batchLayout,
  createBatch,
  ingestTsAt,
  isFull,
  resetBatch,
  seqAt,
  streamIndexAt,
} from '../../columns/batch.ts';
import { blockSizeBytes, encodeBlock, type StreamName } from '../../columns/block-codec.ts';
import { limits } from '../../limits.ts';
import type { Extract } from '../../schema/extractor.ts';
import type { TopicModel } from '../../schema/model.ts';
import { RunReader } from '../../schema/run-reader.ts';
import type { BlockAppend } from '../../wal/writer.ts';
import { RESERVED_FOR } from '../guards/topic-priority.ts';

/** Why rows are dropped on purpose. */
export const SHED_CAUSES = ['memory', 'disk'] as const;
export type ShedCause = (typeof SHED_CAUSES)[number];

/** Of which streams a topic's rows are dropped. Datagrams cannot be held back; streams can. */
export type Drops = 'none' | 'datagrams' | 'all';

/** What is stopped on a full disk. */
export interface Stopped {
  /**
   * Topics by index, and whether all their rows are dropped or datagrams alone: streams that bring them are
   * held back then.
   */
  readonly topics: ReadonlyMap<number, 'all' | 'datagrams'>;
  /** Streams that bring vital rows too are held back as well. */
  readonly holdsVital: boolean;
}

export const NOTHING_STOPPED: Stopped = { topics: new Map(), holdsVital: false };

/** Whether something that was stopped before goes on now: who is held back may be read from again. */
export function isReleased(before: Stopped, now: Stopped): boolean {
  const goesOn = [...before.topics].some(([index, rows]) => now.topics.get(index) !== rows);
  return goesOn || (before.holdsVital && !now.holdsVital);
}

/** One topic on its way into the WAL. */
export interface TopicIngest {
  readonly model: TopicModel;
  readonly index: number;
  /** Made at the first frame: seven of them would delay the start by milliseconds. */
  extract: Extract;
  /** Reads frames in runs once the extractor has learned vtables; null before its first frame. */
  runs: RunReader | null;
  /** Goes last when there is no room for all. */
  readonly isVital: boolean;
  /** Rows of a batch of full size. */
  readonly batchRows: number;
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

/** Rows of a topic's first batch: one that was full is followed by one of full size. */
const FIRST_BATCH_ROWS = 256;

/** Makes a topic's state. */
export function createTopic(
  model: TopicModel,
  index: number,
  createExtract: (model: TopicModel) => Extract,
  batchRows: number,
): TopicIngest {
  // As many as a batch can have before its bytes seal it: memory for more would never be used.
  const mostRows = Math.ceil(limits.batchBytes / batchLayout(model).rowSizeBytes);
  const fullRows = Math.min(batchRows, mostRows);
  const topic: TopicIngest = {
    model,
    index,
    extract: (view, bytes, start, end, batch) => {
      topic.extract = createExtract(model);
      const { shapes } = topic.extract;
      if (shapes !== undefined) topic.runs = new RunReader(model, shapes);
      return topic.extract(view, bytes, start, end, batch);
    },
    runs: null,
    isVital: RESERVED_FOR.includes(model.topic),
    batchRows: fullRows,
    batch: createBatch(model, Math.min(fullRows, FIRST_BATCH_ROWS)),
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
  return topic;
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
    inTimeOrder: batch.inTimeOrder,
    payloadSizeBytes: blockSizeBytes(batch, streams),
    encode: (target) => encodeBlock(batch, streams, target),
  };
}

/** Empties the open batch after its rows have gone into the WAL. */
export function emptyBatch(topic: TopicIngest): void {
  const { batch, model, batchRows } = topic;
  if (batch.capacityRows < batchRows && isFull(batch)) topic.batch = createBatch(model, batchRows);
  else resetBatch(batch);
}

/** Memory that a batch has taken, which is more than its rows need. */
export function allocatedBytes({ u8, vars }: Batch): number {
  return vars.reduce((sum, { bytes }) => sum + bytes.length, u8.length);
}
