// Finding and binding libchdb, the ClickHouse engine as a shared library. The npm package's own addon cuts
// results at the first zero byte in its synchronous calls and knows only text formats for raw inserts, so the
// C interface is bound directly: results and inserts are exact bytes with explicit lengths.

import { dlopen, FFIType } from 'bun:ffi';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { RecorderError } from '../errors.ts';

const FUNCTIONS = {
  chdb_connect: { args: [FFIType.i32, FFIType.ptr], returns: FFIType.ptr },
  chdb_close_conn: { args: [FFIType.ptr], returns: FFIType.void },
  chdb_query_n: {
    args: [FFIType.ptr, FFIType.ptr, FFIType.u64, FFIType.ptr, FFIType.u64],
    returns: FFIType.ptr,
  },
  chdb_stream_insert_n: {
    args: [FFIType.ptr, FFIType.ptr, FFIType.u64, FFIType.ptr, FFIType.u64],
    returns: FFIType.ptr,
  },
  chdb_stream_append: { args: [FFIType.ptr, FFIType.ptr, FFIType.u64], returns: FFIType.i32 },
  chdb_stream_done: { args: [FFIType.ptr], returns: FFIType.ptr },
  chdb_stream_insert_error: { args: [FFIType.ptr], returns: FFIType.ptr },
  chdb_destroy_insert_stream: { args: [FFIType.ptr], returns: FFIType.void },
  chdb_result_buffer: { args: [FFIType.ptr], returns: FFIType.ptr },
  chdb_result_length: { args: [FFIType.ptr], returns: FFIType.u64 },
  chdb_result_error: { args: [FFIType.ptr], returns: FFIType.ptr },
  chdb_result_elapsed: { args: [FFIType.ptr], returns: FFIType.f64 },
  chdb_result_rows_read: { args: [FFIType.ptr], returns: FFIType.u64 },
  chdb_result_storage_rows_read: { args: [FFIType.ptr], returns: FFIType.u64 },
  chdb_result_storage_bytes_read: { args: [FFIType.ptr], returns: FFIType.u64 },
  chdb_result_rows_written: { args: [FFIType.ptr], returns: FFIType.u64 },
  chdb_result_bytes_written: { args: [FFIType.ptr], returns: FFIType.u64 },
  chdb_destroy_query_result: { args: [FFIType.ptr], returns: FFIType.void },
} as const;

const bindLibrary = (path: string) => dlopen(path, FUNCTIONS).symbols;

/** The bound C functions of libchdb. */
export type Chdb = ReturnType<typeof bindLibrary>;

const LIBRARY_FILE = 'libchdb.so';

/** Name of the npm package that carries the library for this machine. */
function platformPackage(): string {
  const suffix = process.platform === 'linux' ? '-gnu' : '';
  return `@chdb/lib-${process.platform}-${process.arch}${suffix}`;
}

/** Everywhere the library is looked for, most specific first. */
function candidatePaths(): string[] {
  const given = process.env['CHDB_LIBCHDB_PATH'];
  if (given !== undefined && given !== '') return [given];
  const name = platformPackage();
  const paths: string[] = [];
  try {
    paths.push(join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), LIBRARY_FILE));
  } catch {
    // Not installed beside this source: a compiled program looks in the places below.
  }
  paths.push(join(dirname(process.execPath), LIBRARY_FILE));
  paths.push(join(dirname(process.execPath), '..', 'node_modules', name, LIBRARY_FILE));
  paths.push(join(process.cwd(), 'node_modules', name, LIBRARY_FILE));
  return paths;
}

/**
 * Path of libchdb.so. `CHDB_LIBCHDB_PATH` overrides the search. Throws RecorderError `chdb_missing`, whose
 * hint says what to install.
 */
export function findLibrary(): string {
  const candidates = candidatePaths();
  const found = candidates.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new RecorderError(
    'chdb_missing',
    `the embedded ClickHouse engine is not installed: no ${LIBRARY_FILE} at ${candidates.join(', ')}`,
    {
      hint: [
        `install it with "bun add --optional chdb@3.4.0" (it brings ${platformPackage()})`,
        `or set CHDB_LIBCHDB_PATH to the path of ${LIBRARY_FILE}`,
      ].join(', '),
    },
  );
}

/** Loads the library at `path`. Throws RecorderError `chdb_unusable` when the loader refuses it. */
export function loadLibrary(path: string): Chdb {
  try {
    return bindLibrary(path);
  } catch (cause) {
    throw new RecorderError('chdb_unusable', `cannot load the ClickHouse engine from ${path}`, {
      hint: 'the library needs glibc and the version of the npm package chdb 3.4.0',
      cause,
    });
  }
}
