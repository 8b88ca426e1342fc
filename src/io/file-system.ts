// The one door to the disk for everything that must survive a crash: WAL, durable horizon, flush log.
//
// Narrow on purpose, so that a faulty in-memory twin can stand in for it in tests: every method is one system
// call (or one loop over it), nothing buffers, and a failed call throws the error of node:fs with its `code`
// (ENOSPC, EIO, …). Reads and writes are positional; a handle has no position of its own.

/** An open file. Its owner closes it. */
export interface FileHandle {
  readonly path: string;
  /** Fills `target` from `offset`; returns the bytes read, fewer only at the end of the file. */
  read(target: Uint8Array, offset: number): number;
  /** Writes all of `source` at `offset` into the page cache; throws when less could be written. */
  write(source: Uint8Array, offset: number): void;
  /**
   * As `write`, off the event loop; `source` must not change, and the file stays open, until it ends.
   * `isDirect`: past the page cache where system and memory allow it (aligned-buffers.ts), for what is synced
   * next.
   */
  writeAsync(source: Uint8Array, offset: number, isDirect?: boolean): Promise<void>;
  /**
   * fdatasync, off the event loop unless it takes less time than the way to another thread (sync-pace.ts). A
   * failure says that the file can no longer be trusted: never call it again.
   */
  sync(): Promise<void>;
  /** fdatasync on the calling thread, for start and stop. */
  syncNow(): void;
  truncate(sizeBytes: number): void;
  /** As `truncate`, off the event loop; the file stays open until it ends. */
  truncateAsync(sizeBytes: number): Promise<void>;
  /**
   * Makes the file `sizeBytes` long, reads zeros, and takes the space for it now: a later write within it
   * does not find the disk full. Throws ENOSPC.
   */
  allocate(sizeBytes: number): void;
  sizeBytes(): number;
  close(): void;
}

/** `read`: must exist. `write`: must exist, read and write. `create`: must not exist, read and write. */
export type OpenMode = 'read' | 'write' | 'create';

/** The file operations that the program uses. Paths are plain strings; directories are synced by name. */
export interface FileSystem {
  /** A write of so many bytes takes longer than the way to another thread. */
  readonly backgroundBytes: number;
  /** Past the page cache it writes whole pages of so many bytes. */
  readonly pageSizeBytes: number;
  open(path: string, mode: OpenMode): FileHandle;
  exists(path: string): boolean;
  /** Names in a directory, sorted; throws ENOENT when there is no such directory. */
  list(directory: string): string[];
  /** Makes a directory and its parents; no error when it is there. */
  mkdir(directory: string): void;
  readFile(path: string): Uint8Array;
  /** Replaces `to` atomically when it exists. */
  rename(from: string, to: string): void;
  /**
   * Makes a second name for a file; throws EEXIST when `to` exists: the atomic way to create with content.
   */
  link(from: string, to: string): void;
  unlink(path: string): void;
  /** fsync of a directory off the event loop, after create, rename and unlink. */
  syncDirectory(directory: string): Promise<void>;
  syncDirectoryNow(directory: string): void;
  /**
   * Maps the first `sizeBytes` of an existing file, shared and writable: stores are seen by every process
   * that maps it.
   */
  map(path: string, sizeBytes: number): Uint8Array;
  /**
   * Lets the page cache forget these bytes of a file where they are on disk already; nothing where there is
   * no such file, or no such call. A hint: what the file holds does not change.
   */
  uncache(path: string, offset: number, sizeBytes: number): void;
  /** Bytes that an unprivileged user may still write to the file system that holds `path`. */
  freeBytes(path: string): number;
}

/** The `code` of an error of a file operation (`'ENOSPC'` …), or undefined for other values. */
export function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' ? code : undefined;
}

/**
 * Writes a whole file so that after a crash it is there in full or not at all: temporary name, sync, rename,
 * sync.
 */
export function replaceFile(
  fileSystem: FileSystem,
  directory: string,
  name: string,
  content: Uint8Array,
): void {
  replaceFileBy(fileSystem, directory, name, (file) => file.write(content, 0));
}

/** As replaceFile, for a content that is written in parts. */
export function replaceFileBy(
  fileSystem: FileSystem,
  directory: string,
  name: string,
  write: (file: FileHandle) => void,
): void {
  const temporary = `${directory}/${name}.new`;
  if (fileSystem.exists(temporary)) fileSystem.unlink(temporary);
  const file = fileSystem.open(temporary, 'create');
  try {
    write(file);
    file.syncNow();
  } finally {
    file.close();
  }
  fileSystem.rename(temporary, `${directory}/${name}`);
  fileSystem.syncDirectoryNow(directory);
}
