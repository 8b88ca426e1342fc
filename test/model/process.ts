// The two processes of the model: a recorder without sockets, and what delivers its WAL, in the same
// process as the recorder or in one of its own. Real code throughout; disk, server, producers and time
// are the model's.

import { type Config, loadConfig } from '../../src/config.ts';
import type { FileSystem } from '../../src/io/file-system.ts';
import type { Logger } from '../../src/log.ts';
import type { FeedSequencer } from '../../src/net/feed-sequencer.ts';
import type { StreamShared } from '../../src/net/stream-shared.ts';
import type { SinkClient } from '../../src/sink/clickhouse-client.ts';
import { createFlusher, type Flusher } from '../../src/sink/flusher.ts';
import type { FlusherConfig, FlusherEvent } from '../../src/sink/flusher-types.ts';
import type { InsertFormat } from '../../src/sink/group-encoder.ts';
import { Retention, type RetentionOptions } from '../../src/supervisor/guards/retention.ts';
import type { IngestObserver } from '../../src/supervisor/ingest/ingest-observer.ts';
import { type IngestPath, openIngestPath } from '../../src/supervisor/ingest/ingest-path.ts';
import { WalClosedError, WalFullError, WalWriteError } from '../../src/wal/errors.ts';
import type { BlockAppend, SyncPolicy } from '../../src/wal/settings.ts';
import type { SeededRandom } from '../support/random.ts';
import type { ModelFeed } from './model-feed.ts';
import { type ModelProducer, sharedOf } from './model-producer.ts';
import { extractorOf, modelTopics } from './topics.ts';

export const DIR = '/wal';

/** Where a rule can be broken on purpose. */
export interface Seams {
  fileSystem(fileSystem: FileSystem, user: 'recorder' | 'flusher' | 'retention'): FileSystem;
  path(path: IngestPath): void;
  client(client: SinkClient): SinkClient;
  retention(options: RetentionOptions): RetentionOptions;
}

export const noSeams: Seams = {
  fileSystem: (fileSystem) => fileSystem,
  path: () => {},
  client: (client) => client,
  retention: (options) => options,
};

const silent = { info: () => {}, warn: () => {}, error: () => {} } as unknown as Logger;
const observer: IngestObserver = {
  appended: () => {},
  synced: () => {},
  durable: () => {},
  syncFailed: () => {},
  walChanged: () => {},
  spareSegment: () => null,
};
const defaults = loadConfig({}, {});

/** What differs from history to history. */
export interface ModelSettings {
  walSync: SyncPolicy;
  segmentSizeBytes: number;
  quarantineMaxBytes: number;
  format: InsertFormat;
  mode: Config['mode'];
}

export const usualSettings: ModelSettings = {
  walSync: 'group',
  segmentSizeBytes: 8192,
  quarantineMaxBytes: defaults.quarantineMaxBytes,
  format: 'RowBinary',
  mode: defaults.mode,
};

export interface RunningRecorder {
  path: IngestPath;
  shared: StreamShared;
  retention: Retention;
  /** Takes datagrams. */
  sequencer: FeedSequencer | null;
}

/** Opens a recorder's ingest half; throws what openWal throws. `ended`: the process ends itself. */
export async function openRecorder(
  disk: FileSystem,
  settings: ModelSettings,
  producers: readonly ModelProducer[],
  seams: Seams,
  ended: () => void,
  feed: ModelFeed | null = null,
): Promise<RunningRecorder> {
  const config: Config = {
    ...defaults,
    mode: settings.mode,
    walDir: DIR,
    recorderId: 'model',
    walSync: settings.walSync,
    walSyncIntervalMs: 20,
    walSegmentBytes: settings.segmentSizeBytes,
    quarantineMaxBytes: settings.quarantineMaxBytes,
    batchRows: 4,
  };
  const fileSystem = seams.fileSystem(disk, 'recorder');
  const parts = { fileSystem, topics: modelTopics, createExtract: extractorOf };
  const path = await openIngestPath(config, feed === null ? [] : [feed.source], observer, silent, parts);
  endOnClosedWal(path, ended);
  seams.path(path);
  const shared = sharedOf(path.streams, path.ingest);
  path.attach({
    pause: () => {},
    resume: () => {},
    release: () => {},
    sendAcks: () => {
      for (const { connection } of producers) connection?.sendAck();
    },
  });
  const retention = new Retention(
    seams.retention({
      fileSystem: seams.fileSystem(disk, 'retention'),
      dir: DIR,
      walId: path.wal.walId,
      retainMs: 0,
      retainBytes: 0,
      archiveDir: null,
      trim: (beforeLsn) => path.wal.trim(beforeLsn),
      now: Date.now,
    }),
  );
  const sequencer = feed?.open(path.streams, path.ingest) ?? null;
  return { path, shared, retention, sequencer };
}

/**
 * A WAL that cannot go on ends the process with an error that nobody handles; here nothing more happens in
 * it. What is thrown instead lets its caller wait for a time that never comes.
 */
function endOnClosedWal({ wal }: IngestPath, ended: () => void): void {
  const end = (error: unknown): void => {
    if (!(error instanceof WalClosedError)) throw error;
    ended();
  };
  const [append, endGroup, sync] = [wal.append.bind(wal), wal.endGroup.bind(wal), wal.sync.bind(wal)];
  Object.assign(wal, {
    append: (block: BlockAppend) => {
      try {
        return append(block);
      } catch (error) {
        end(error);
        throw new WalFullError('the process has ended', error);
      }
    },
    endGroup: () => {
      try {
        endGroup();
      } catch (error) {
        end(error);
        throw new WalWriteError('the process has ended', error);
      }
    },
    sync: async () => {
      try {
        return await sync();
      } catch (error) {
        end(error);
        return await new Promise<never>(() => {});
      }
    },
  });
}

/** Starts what delivers. `failed` is told of everything that ends it, or a topic of it, for good. */
export function startFlusher(
  disk: FileSystem,
  connect: () => SinkClient,
  format: InsertFormat,
  random: SeededRandom,
  seams: Seams,
  report: (event: FlusherEvent) => void,
): Flusher {
  const config: FlusherConfig = {
    walDir: DIR,
    clickhouse: { urls: ['http://model:8123'], user: '', password: '', timeoutMs: 1000 },
    database: 'hft',
    format,
    flushRows: random.int(2, 9),
    flushBytes: random.pick([600, 1 << 20]),
    flushIntervalMs: random.pick([0, 30]),
    maxRetries: random.int(0, 3),
    retryBaseMs: 4,
    retryMaxMs: 20,
    settleMs: 0,
  };
  const flusher = createFlusher({
    config,
    topics: modelTopics,
    report,
    whenLocked: 'fail',
    fileSystem: seams.fileSystem(disk, 'flusher'),
    connect: () => seams.client(connect()),
    random: random.next,
  });
  flusher.start();
  return flusher;
}
