// Synchronous calls into the engine. One connection serves one statement at a time and keeps what SET told
// it, so every statement gets a connection of its own: measured 0.15 ms to open and close one beside an open
// anchor, and no growth of the process after 4,000 of them. The anchor keeps the engine alive between
// statements: closing the last connection of a process shuts the engine down.

import { CString, ptr, read, toArrayBuffer } from 'bun:ffi';
import { RecorderError } from '../errors.ts';
import type { Chdb } from './library.ts';

/** One statement for the engine. */
export interface EngineStatement {
  /**
   * SQL text as bytes: string literals may hold any byte. For an insert with data: the part before FORMAT or
   * VALUES.
   */
  sql: Uint8Array;
  /** Output format where the statement names none; for an insert with data, the format of `data`. */
  format: string;
  /** SET statements to run first on the same connection, in order. */
  setup: readonly string[];
  /** Data of an insert, exactly as received; null for every other statement. */
  data: Uint8Array | null;
}

/** What a statement gave. Counts are the engine's own. */
export interface EngineResult {
  bytes: Uint8Array<ArrayBuffer>;
  elapsedSeconds: number;
  resultRows: number;
  readRows: number;
  readBytes: number;
  writtenRows: number;
  writtenBytes: number;
}

/** The engine refused a statement: `message` is ClickHouse's own text, "Code: N. DB::Exception: …". */
export class EngineError extends Error {
  /** ClickHouse's exception code; 1001 (STD_EXCEPTION) where the text has none. */
  readonly exceptionCode: number;

  constructor(message: string) {
    super(message);
    this.name = 'EngineError';
    this.exceptionCode = Number(/^Code: (\d+)/.exec(message)?.[1] ?? 1001);
  }
}

/** An error in ClickHouse's own wording, for what is refused before it reaches the engine. */
export function exception(code: number, name: string, text: string): EngineError {
  return new EngineError(`Code: ${code}. DB::Exception: ${text}. (${name})`);
}

/** An address in this process, as Bun's foreign function interface gives it. */
type Address = NonNullable<ReturnType<Chdb['chdb_connect']>>;

/** An open connection: the handle to close it, and the connection that statements take. */
export interface Connection {
  handle: Address;
  connection: Address;
}

// The native side needs an address even for nothing.
const ONE_BYTE = new Uint8Array(1);
const addressOf = (bytes: Uint8Array): Address => ptr(bytes.length === 0 ? ONE_BYTE : bytes);

/**
 * Opens a connection to the data directory `path`. Throws RecorderError `clickhouse_path` when the engine
 * refuses it.
 */
export function openConnection(chdb: Chdb, path: string): Connection {
  const texts = ['clickhouse', `--path=${path}`].map((text) => Buffer.from(`${text}\0`));
  const argv = new BigUint64Array(texts.map((text) => BigInt(ptr(text))));
  const handle = chdb.chdb_connect(texts.length, ptr(argv));
  const connection = handle === null ? 0 : read.ptr(handle, 0);
  if (handle === null || connection === 0) {
    throw new RecorderError('clickhouse_path', `the ClickHouse engine cannot open ${path}`, {
      hint: 'the lines above say why; most often another server is already running on this directory',
    });
  }
  return { handle, connection: connection as Address };
}

/** Closes a connection; closing the last one of the process shuts the engine down. */
export function closeConnection(chdb: Chdb, connection: Connection): void {
  chdb.chdb_close_conn(connection.handle);
}

/** Runs one statement on a connection of its own. Throws EngineError with the engine's text. */
export function runStatement(chdb: Chdb, path: string, statement: EngineStatement): EngineResult {
  const connection = openConnection(chdb, path);
  try {
    for (const text of statement.setup) query(chdb, connection, Buffer.from(text), 'TabSeparated');
    if (statement.data === null) return query(chdb, connection, statement.sql, statement.format);
    return insert(chdb, connection, statement.sql, statement.format, statement.data);
  } finally {
    closeConnection(chdb, connection);
  }
}

function query(chdb: Chdb, { connection }: Connection, sql: Uint8Array, format: string): EngineResult {
  const formatBytes = Buffer.from(format);
  const result = chdb.chdb_query_n(
    connection,
    addressOf(sql),
    sql.length,
    addressOf(formatBytes),
    formatBytes.length,
  );
  return takeResult(chdb, result);
}

function insert(
  chdb: Chdb,
  { connection }: Connection,
  sql: Uint8Array,
  format: string,
  data: Uint8Array,
): EngineResult {
  const formatBytes = Buffer.from(format);
  const stream = chdb.chdb_stream_insert_n(
    connection,
    addressOf(sql),
    sql.length,
    addressOf(formatBytes),
    formatBytes.length,
  );
  if (stream === null) throw exception(1001, 'STD_EXCEPTION', 'the engine gave no insert stream');
  try {
    throwStreamError(chdb, stream);
    // A failed append keeps its reason: chdb_stream_done reports it.
    if (data.length > 0) chdb.chdb_stream_append(stream, ptr(data), data.length);
    return takeResult(chdb, chdb.chdb_stream_done(stream));
  } finally {
    chdb.chdb_destroy_insert_stream(stream);
  }
}

function throwStreamError(chdb: Chdb, stream: Address): void {
  const error = chdb.chdb_stream_insert_error(stream);
  if (error !== null) throw new EngineError(new CString(error).toString());
}

/** Copies a result out of the engine's memory and frees it: nothing returned points into the engine. */
function takeResult(chdb: Chdb, result: Address | null): EngineResult {
  if (result === null) throw exception(1001, 'STD_EXCEPTION', 'the engine gave no result');
  try {
    const error = chdb.chdb_result_error(result);
    if (error !== null) throw new EngineError(new CString(error).toString());
    const sizeBytes = Number(chdb.chdb_result_length(result));
    const address = chdb.chdb_result_buffer(result);
    const bytes =
      address === null || sizeBytes === 0
        ? new Uint8Array(0)
        : new Uint8Array(toArrayBuffer(address, 0, sizeBytes) as ArrayBuffer).slice();
    return {
      bytes,
      elapsedSeconds: chdb.chdb_result_elapsed(result),
      resultRows: Number(chdb.chdb_result_rows_read(result)),
      readRows: Number(chdb.chdb_result_storage_rows_read(result)),
      readBytes: Number(chdb.chdb_result_storage_bytes_read(result)),
      writtenRows: Number(chdb.chdb_result_rows_written(result)),
      writtenBytes: Number(chdb.chdb_result_bytes_written(result)),
    };
  } finally {
    chdb.chdb_destroy_query_result(result);
  }
}
