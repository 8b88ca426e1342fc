// The ingest half of the recorder: frames in, durable rows and acknowledgements out.
//
// Invariants
// - A position is captured only when every row accepted so far lies in the WAL, and acknowledged only after
//   the sync
//   that covers it.
// - Refused frames are in the quarantine, synced, before their sequence numbers are acknowledged.
// - While more than limits.unsyncedBytes wait for the disk, stream producers are paused: the kernel holds
//   them back.
//
// Life cycle: openIngestPath recovers the WAL → frames through `ingest` → flush → close.

import type { Config } from '../../config.ts';
import type { FileSystem } from '../../io/file-system.ts';
import { realFileSystem } from '../../io/real-file-system.ts';
import { limits } from '../../limits.ts';
import type { Logger } from '../../log.ts';
import { NO_STREAM } from '../../net/frame-sink.ts';
import { type StreamCapture, StreamTable } from '../../net/session.ts';
import { createExtractor, type Extract } from '../../schema/extractor.ts';
import { createGeneric } from '../../schema/generic.ts';
import type { TopicModel } from '../../schema/model.ts';
import { generatedClassOf, topics } from '../../schema/registry.ts';
import { sentEndLsn } from '../../sink/flush-log.ts';
import { WalClosedError, WalFullError, WalWriteError } from '../../wal/errors.ts';
import { openWal } from '../../wal/open.ts';
import type { Wal } from '../../wal/writer.ts';
import { MemoryGuard, memoryBounds } from '../guards/memory-guard.ts';
import { sheddingOrder } from '../guards/topic-priority.ts';
import { logRecovery } from '../replay/recovery-log.ts';
import { createGapRecorder } from './gap-rows.ts';
import { GroupCommit } from './group-commit.ts';
import { Ingest } from './ingest.ts';
import { type IngestObserver, type SealedRows, SealedTally } from './ingest-observer.ts';
import type { RefusedFrame } from './ingest-options.ts';
import { Quarantine } from './quarantine.ts';
import { recoverStreams } from './recovered-streams.ts';
import { isReleased, NOTHING_STOPPED, type Stopped } from './topic-ingest.ts';

/** The stream producers, as far as this half has to do with them. */
export interface Producers {
  pause(): void;
  resume(): void;
  /** Reads again from connections that brought what was stopped. */
  release(): void;
  sendAcks(): void;
}

/** What the path stands on: the program's own, unless a test brings others. */
export interface IngestParts {
  fileSystem: FileSystem;
  topics: readonly TopicModel[];
  createExtract(model: TopicModel): Extract;
}

interface Capture {
  streams: StreamCapture;
  appendedBytes: number;
  sealed: SealedRows[];
}

/**
 * Opens the WAL and everything before it; throws the errors of openWal. `datagramSources`: names of the
 * UDP feeds.
 */
export async function openIngestPath(
  config: Config,
  datagramSources: readonly string[],
  observer: IngestObserver,
  logger: Logger,
  given: Partial<IngestParts> = {},
): Promise<IngestPath> {
  const createExtract = config.schemaExtract ? createExtractor : createGenericExtract;
  const parts: IngestParts = { fileSystem: realFileSystem, topics, createExtract, ...given };
  const { fileSystem } = parts;
  const streams = new StreamTable(limits.rememberedSessions);
  const recovered = recoverStreams(fileSystem, config.walDir, datagramSources);
  let path: IngestPath | null = null;
  const wal = await openWal({
    dir: config.walDir,
    fileSystem,
    recorder: config.recorderId,
    topics: parts.topics,
    segmentSizeBytes: config.walSegmentBytes,
    syncPolicy: config.walSync,
    syncIntervalMs: config.walSyncIntervalMs,
    isFollowed: config.mode === 'direct',
    allowMissingSegments: config.allowMissingSegments ?? false,
    ...recovered.walOptions,
    minNextLsn: sentEndLsn(fileSystem, config.walDir),
    onStateChange: () => {
      path?.commit.request();
      observer.walChanged();
    },
    spareSegment: () => observer.spareSegment(),
    onSyncFailure: (error) => {
      logger.error({ code: error.code }, error.message);
      observer.syncFailed(error);
    },
  });
  logRecovery(logger, config.walDir, wal.recovery);
  streams.restore(recovered.positions());
  recovered.follow((isWithinGroup) => streams.snapshot(isWithinGroup ? 'now' : 'capture'));
  path = new IngestPath(config, wal, streams, new Set(datagramSources), observer, logger, parts);
  return path;
}

export class IngestPath {
  readonly wal: Wal;
  readonly streams: StreamTable;
  readonly ingest: Ingest;
  readonly quarantine: Quarantine;
  readonly commit: GroupCommit<Capture>;
  readonly memory: MemoryGuard;
  readonly #observer: IngestObserver;
  readonly #tally: SealedTally;
  readonly #sheddingOrder: readonly number[];
  #shed: ReadonlySet<number> = new Set();
  #stopped = NOTHING_STOPPED;
  #producers: Producers | null = null;
  #paused = false;
  #appendedBytes = 0;
  #durableBytes = 0;
  #syncStartedMs: number | null = null;

  constructor(
    config: Config,
    wal: Wal,
    streams: StreamTable,
    datagramSources: ReadonlySet<string>,
    observer: IngestObserver,
    logger: Logger,
    { fileSystem, topics, createExtract }: IngestParts,
  ) {
    this.#observer = observer;
    this.#tally = new SealedTally(topics.length);
    this.#sheddingOrder = sheddingOrder(topics.map(({ topic }) => topic));
    this.memory = new MemoryGuard(memoryBounds(config), topics.length);
    this.wal = wal;
    this.streams = streams;
    this.quarantine = new Quarantine({
      directory: config.walDir,
      fileSystem,
      maxBytes: config.quarantineMaxBytes,
    });
    this.ingest = new Ingest({
      topics,
      batchRows: config.batchRows,
      createExtract,
      append: (block) => {
        // A round ends with its group: after a crash the rows of all its topics are there, or none.
        const lsn = wal.append(block);
        this.#appendedBytes += block.payloadSizeBytes;
        const { topicIndex, rowCount: rows, firstIngestTs: oldestNs } = block;
        this.#tally.add({ topicIndex, rows, oldestNs });
        observer.appended(topics[topicIndex]!.topic, lsn, block);
      },
      streamName: (streamId) => {
        const stream = streams.get(streamId)!;
        return { source: stream.sourceBytes, session: stream.sessionBytes };
      },
      isDatagram: (streamId) => datagramSources.has(streams.get(streamId)?.source ?? ''),
      isVital: (streamId) => streams.get(streamId)?.isVital === true,
      noteVital: (streamId) => {
        streams.get(streamId)!.isVital = true;
      },
      quarantine: (frame) => this.#keepRefused(frame),
      gap: (event) => recordGap(event),
      pending: () => {
        this.#regulate();
        this.commit.request();
      },
    });
    const recordGap = createGapRecorder(this.ingest, logger);
    this.commit = new GroupCommit<Capture>({
      intervalMs: 0,
      seal: () => this.#seal(),
      sync: async () => {
        await this.quarantine.sync();
        await this.#sync();
      },
      durable: (capture) => this.#durable(capture),
      failed: (capture, error) => {
        // The log cannot go on: the process ends, and producers send again what was not acknowledged.
        if (error instanceof WalClosedError) throw error;
        streams.giveBack(capture.streams);
        for (const rows of capture.sealed) this.#tally.add(rows);
      },
    });
  }

  /** Sets who is paused when the disk does not keep up, and who gets the acknowledgements. */
  attach(producers: Producers): void {
    this.#producers = producers;
    if (this.#paused) producers.pause();
  }

  /** Makes everything durable that was received; false where the disk did not take it within `deadlineMs`. */
  flush(deadlineMs: number): Promise<boolean> {
    return this.commit.flush(deadlineMs);
  }

  /** Bytes in the WAL that no sync has covered. */
  get unsyncedBytes(): number {
    return this.#appendedBytes - this.#durableBytes;
  }

  /** Whether stream producers are held back. */
  get isPaused(): boolean {
    return this.#paused;
  }

  /** For how long the sync that runs now has run, ms; 0 where none runs. */
  get syncingForMs(): number {
    return this.#syncStartedMs === null ? 0 : performance.now() - this.#syncStartedMs;
  }

  /** Says what is stopped for lack of room; what waits is tried again. */
  setStopped(stopped: Stopped): void {
    const isLess = isReleased(this.#stopped, stopped);
    this.#stopped = stopped;
    this.ingest.setDrops(this.#shed, stopped);
    if (isLess) this.#producers?.release();
    this.commit.request();
  }

  /** Closes quarantine and WAL. */
  async close(): Promise<void> {
    this.commit.stop();
    this.quarantine.close();
    await this.wal.close();
  }

  #seal(): Capture | null {
    this.quarantine.write();
    const sealed = this.ingest.seal();
    this.#regulate();
    if (!sealed || !this.#endGroup()) return null;
    return {
      streams: this.streams.capture(),
      appendedBytes: this.#appendedBytes,
      sealed: this.#tally.take(),
    };
  }

  #endGroup(): boolean {
    try {
      this.wal.endGroup();
      return true;
    } catch (error) {
      if (error instanceof WalFullError || error instanceof WalWriteError) return false;
      throw error;
    }
  }

  async #sync(): Promise<void> {
    const startedMs = performance.now();
    this.#syncStartedMs = startedMs;
    try {
      await this.wal.sync();
      this.#observer.synced((performance.now() - startedMs) / 1000);
    } finally {
      this.#syncStartedMs = null;
    }
  }

  #durable(capture: Capture): void {
    this.#durableBytes = capture.appendedBytes;
    for (const rows of capture.sealed) this.#observer.durable(rows);
    this.streams.markDurable(capture.streams);
    this.#producers?.sendAcks();
    this.#regulate();
  }

  #regulate(): void {
    const { memory, ingest } = this;
    const isFlushDue = memory.measure(ingest.buffered(), this.unsyncedBytes);
    if (memory.shedCount !== this.#shed.size) {
      this.#shed = new Set(this.#sheddingOrder.slice(0, memory.shedCount));
      ingest.setDrops(this.#shed, this.#stopped);
    }
    if (memory.paused !== this.#paused) {
      this.#paused = memory.paused;
      if (this.#paused) this.#producers?.pause();
      else this.#producers?.resume();
    }
    if (isFlushDue && this.wal.writable) ingest.sealFullest();
  }

  #keepRefused(frame: RefusedFrame): void {
    const stream = frame.streamId === NO_STREAM ? undefined : this.streams.get(frame.streamId);
    this.quarantine.keep({ ...frame, source: stream?.source ?? '', session: stream?.session ?? '' });
  }
}

function createGenericExtract(model: TopicModel): Extract {
  return createGeneric(model, generatedClassOf(model));
}
