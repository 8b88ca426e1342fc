// Rules broken on purpose, from outside: what the model test must catch, each of them. The program itself has
// no switch for any of this.

import type { FileHandle, FileSystem } from '../../src/io/file-system.ts';
import type { InsertRequest, SinkClient } from '../../src/sink/clickhouse-client.ts';
import { FLUSH_LOG_FILE } from '../../src/sink/flush-log.ts';
import { ServerError } from '../../src/sink/server-error.ts';
import type { Wal } from '../../src/wal/writer.ts';
import type { HistoryOptions } from './history.ts';
import { DIR, noSeams, type Seams } from './process.ts';

export interface Mutant {
  rule: string;
  /** Histories within which it is caught, with a wide margin. */
  within: number;
  /** What the histories are like. */
  options: Omit<HistoryOptions, 'seams' | 'trace'>;
  /** Fresh for each history. */
  seams(): Seams;
}

function fileSystemOver(base: FileSystem, changed: Partial<FileSystem>): FileSystem {
  return {
    backgroundBytes: base.backgroundBytes,
    pageSizeBytes: base.pageSizeBytes,
    open: (path, mode) => base.open(path, mode),
    exists: (path) => base.exists(path),
    list: (directory) => base.list(directory),
    mkdir: (directory) => base.mkdir(directory),
    readFile: (path) => base.readFile(path),
    rename: (from, to) => base.rename(from, to),
    link: (from, to) => base.link(from, to),
    unlink: (path) => base.unlink(path),
    syncDirectory: (directory) => base.syncDirectory(directory),
    syncDirectoryNow: (directory) => base.syncDirectoryNow(directory),
    uncache: (path, offset, sizeBytes) => base.uncache(path, offset, sizeBytes),
    map: (path, sizeBytes) => base.map(path, sizeBytes),
    freeBytes: (path) => base.freeBytes(path),
    ...changed,
  };
}

/** A file system on which `sync` of some files does something else. */
function withSync(
  base: FileSystem,
  isMeant: (path: string) => boolean,
  sync: (file: FileHandle) => Promise<void>,
): FileSystem {
  const over = (file: FileHandle): FileHandle => ({
    path: file.path,
    read: (target, offset) => file.read(target, offset),
    write: (source, offset) => file.write(source, offset),
    writeAsync: (source, offset) => file.writeAsync(source, offset),
    sync: () => sync(file),
    syncNow: () => file.syncNow(),
    truncate: (sizeBytes) => file.truncate(sizeBytes),
    truncateAsync: (sizeBytes) => file.truncateAsync(sizeBytes),
    allocate: (sizeBytes) => file.allocate(sizeBytes),
    sizeBytes: () => file.sizeBytes(),
    close: () => file.close(),
  });
  return fileSystemOver(base, {
    open: (path, mode) => (isMeant(path) ? over(base.open(path, mode)) : base.open(path, mode)),
  });
}

const isFlushLog = (path: string) => path === `${DIR}/${FLUSH_LOG_FILE}`;
const isSegment = (path: string) => path.endsWith('.wal') || path.includes('/next.');

function withInsert(client: SinkClient, insert: (request: InsertRequest) => Promise<void>): SinkClient {
  return { ...client, insert };
}

function withToken(request: InsertRequest, change: (token: string) => string): InsertRequest {
  const token = request.settings['insert_deduplication_token'];
  if (token === undefined) return request;
  return { ...request, settings: { ...request.settings, insert_deduplication_token: change(token) } };
}

/** Calls instead of the method of this one object. */
function replace(wal: Wal, method: 'sync' | 'append', value: unknown): void {
  Object.assign(wal, { [method]: value });
}

/** What the flusher takes for the durable horizon is the end of what was appended. */
function beyondHorizon(): Seams {
  const mapped: BigUint64Array[] = [];
  let nextLsn = 0n;
  const publish = () => {
    for (const words of mapped) words[2] = nextLsn;
  };
  return {
    ...noSeams,
    path: ({ wal }) => {
      const append = wal.append.bind(wal);
      nextLsn = wal.nextLsn;
      replace(wal, 'append', (block: Parameters<Wal['append']>[0]) => {
        const lsn = append(block);
        nextLsn = wal.nextLsn;
        publish();
        return lsn;
      });
    },
    fileSystem: (base, user) =>
      user !== 'flusher'
        ? base
        : fileSystemOver(base, {
            map: (path, sizeBytes) => {
              const words = new BigUint64Array(base.map(path, sizeBytes).slice().buffer);
              mapped.push(words);
              publish();
              return new Uint8Array(words.buffer);
            },
          }),
  };
}

export const mutants: readonly Mutant[] = [
  {
    rule: 'frames are acknowledged after the sync, not before it',
    within: 400,
    options: { walSync: 'group' },
    seams: () => ({
      ...noSeams,
      path: ({ wal }) => {
        const sync = wal.sync.bind(wal);
        replace(wal, 'sync', () => {
          sync().catch(() => undefined);
          return Promise.resolve({ durableLsn: wal.durableLsn });
        });
      },
    }),
  },
  {
    rule: 'a sync that failed is not tried again and believed',
    within: 2000,
    options: { walSync: 'group' },
    seams: () => ({
      ...noSeams,
      fileSystem: (base) => withSync(base, isSegment, (file) => file.sync().catch(() => file.sync())),
    }),
  },
  {
    rule: 'segments go when they are delivered, not when they are durable',
    within: 1000,
    options: { walSync: 'group' },
    seams: () => {
      let wal: Wal | null = null;
      return {
        ...noSeams,
        path: (path) => {
          wal = path.wal;
          setInterval(() => void wal!.trim(wal!.durableLsn).catch(() => undefined), 20);
        },
      };
    },
  },
  {
    rule: 'the flush log is durable before a segment goes',
    within: 4000,
    options: { walSync: 'group', retainsOften: true },
    seams: () => ({
      ...noSeams,
      fileSystem: (base, user) =>
        user === 'retention' ? withSync(base, isFlushLog, () => Promise.resolve()) : base,
    }),
  },
  {
    rule: 'a group has its boundaries in its token',
    within: 200,
    options: { walSync: 'group' },
    seams: () => ({
      ...noSeams,
      client: (client) =>
        withInsert(client, (request) =>
          client.insert(withToken(request, (token) => token.split(':').slice(0, 2).join(':'))),
        ),
    }),
  },
  {
    rule: 'every attempt at a group has the same token',
    within: 2000,
    options: { walSync: 'group' },
    seams: () => {
      let attempts = 0;
      return {
        ...noSeams,
        client: (client) =>
          withInsert(client, (request) =>
            client.insert(withToken(request, (token) => `${token}:${attempts++}`)),
          ),
      };
    },
  },
  {
    rule: 'an unknown outcome is no success',
    within: 400,
    options: { walSync: 'group' },
    seams: () => ({
      ...noSeams,
      client: (client) =>
        withInsert(client, async (request) => {
          try {
            await client.insert(request);
          } catch (error) {
            if (!(error instanceof ServerError) || error.outcome !== 'unknown') throw error;
          }
        }),
    }),
  },
  {
    rule: 'only durable rows are delivered',
    within: 2000,
    options: { walSync: 'group' },
    seams: beyondHorizon,
  },
  {
    rule: 'the boundaries of a group are durable before it is sent',
    within: 4000,
    options: { walSync: 'group' },
    seams: () => ({
      ...noSeams,
      fileSystem: (base, user) =>
        user === 'flusher' ? withSync(base, isFlushLog, () => Promise.resolve()) : base,
    }),
  },
  {
    rule: 'LSNs that may be at the server are not used again',
    within: 2000,
    options: { walSync: 'none' },
    seams: () => ({
      ...noSeams,
      fileSystem: (base, user) =>
        user === 'recorder'
          ? fileSystemOver(base, { exists: (path) => !isFlushLog(path) && base.exists(path) })
          : base,
    }),
  },
  {
    rule: 'numbers of datagrams that were missing at a crash are reported after it',
    within: 400,
    options: { walSync: 'group' },
    seams: () => ({
      ...noSeams,
      path: ({ streams }) => {
        const open = streams.open.bind(streams);
        Object.assign(streams, {
          unreportedSessions: () => [],
          open: (...args: Parameters<typeof open>) => Object.assign(open(...args), { unreported: [] }),
        });
      },
    }),
  },
  {
    rule: 'positions of sessions outlive the process',
    within: 200,
    options: { walSync: 'group' },
    seams: () => ({
      ...noSeams,
      path: ({ streams }) =>
        streams.restore(streams.snapshot('capture').map((position) => ({ ...position, lastSeq: 0 }))),
    }),
  },
];
