// The embedded ClickHouse server: the real engine behind ClickHouse's HTTP interface, so that
// @clickhouse/client, curl, Grafana and the tests speak to it as to any server.
//
// Invariants
// - One process has the engine open on one data directory; another process is refused by the engine's own
//   lock.
// - The engine never runs on the HTTP thread: /ping answers while queries run.
// - Results and insert data are exact bytes, of any format.
// - A response begins when its statement has ended, so its status is always the true outcome. Results are
//   held in memory for that.
// - A request body is read whole before the engine sees it: an insert cut off by its client inserts nothing.
// - Every statement has a connection of its own: settings of one request never reach another. No sessions.
// - absent: users and rights, TLS, the native protocol, ClickHouse's own block compression.
//
// Life cycle: startServer opens the engine (which loads the tables), then listens; stop() refuses new
// requests, lets the statements under way end, shuts the engine down. Data lies in the directory and outlives
// the process; as with any ClickHouse, written parts are in the kernel's page cache until it writes them
// back.

import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { RecorderError } from '../errors.ts';
import { EngineError, type EngineResult, exception } from './engine.ts';
import { EnginePool } from './engine-pool.ts';
import { parseQueryRequest, type QueryRequest, readBody } from './http-request.ts';
import { contentTypeOf, statusOfException } from './http-texts.ts';

/** What startServer needs. */
export interface ServerOptions {
  /** Data directory; made if absent. */
  path: string;
  /** Address to listen on, default 127.0.0.1. */
  host?: string;
  /** Port to listen on; 0 lets the system choose. */
  port: number;
  /** Most statements that run at the same time, default 16; more wait. */
  maxWorkers?: number;
}

/** A server that runs in this process. */
export interface ClickHouseServer {
  url: string;
  port: number;
  version: string;
  /** Ends the statements under way, shuts the engine down. Idempotent. */
  stop(): Promise<void>;
}

const MAX_BODY_SIZE_BYTES = 8 * 2 ** 30;
const NO_BODY_STATUS = 204;
const compress = promisify(gzip);
const text = (body: string, status = 200) =>
  new Response(body, { status, headers: { 'Content-Type': 'text/plain; charset=UTF-8' } });

/**
 * Opens the engine and listens. Throws RecorderError when the engine is absent, its directory or the port in
 * use.
 */
export async function startServer(options: ServerOptions): Promise<ClickHouseServer> {
  const pool = new EnginePool(options.path, options.maxWorkers ?? 16);
  const probe = await pool.run({
    sql: Buffer.from('SELECT version(), timezone()'),
    format: 'TabSeparated',
    setup: [],
    data: null,
  });
  const [version = '', timezone = 'UTC'] = Buffer.from(probe.bytes).toString().trim().split('\t');
  const host = options.host ?? '127.0.0.1';
  const http = listen(host, options.port, { pool, version, timezone, runningIds: new Set() });
  let stopping: Promise<void> | null = null;
  const stop = async () => {
    await http.stop(false);
    await pool.close();
    await http.stop(true);
  };
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${http.port}`,
    port: http.port!,
    version,
    stop: () => {
      stopping ??= stop();
      return stopping;
    },
  };
}

interface Context {
  pool: EnginePool;
  version: string;
  timezone: string;
  /** Ids of the statements under way: an id may run once at a time. */
  runningIds: Set<string>;
}

function listen(hostname: string, port: number, context: Context) {
  try {
    return Bun.serve({
      hostname,
      port,
      // A query may run for long before the first byte of its response.
      idleTimeout: 0,
      maxRequestBodySize: MAX_BODY_SIZE_BYTES,
      fetch: (request) => route(request, context),
      error: (error) => text(`Code: 1001. DB::Exception: ${error.message} (STD_EXCEPTION)\n`, 500),
    });
  } catch (cause) {
    throw new RecorderError('clickhouse_port', `cannot listen on ${hostname}:${port}`, {
      hint: 'choose another port, 0: any free one; `clickhouse --port`, elsewhere `--clickhouse-port`',
      cause,
    });
  }
}

function route(request: Request, context: Context): Response | Promise<Response> {
  const url = new URL(request.url);
  if (url.pathname === '/ping' || url.pathname === '/replicas_status') return text('Ok.\n');
  if (url.pathname !== '/') return text(`There is no handle ${url.pathname}\n`, 404);
  if (request.method !== 'GET' && request.method !== 'POST' && request.method !== 'HEAD') {
    return text(`Method ${request.method} is not supported\n`, 405);
  }
  if (request.method !== 'POST' && !url.searchParams.has('query')) return text('Ok.\n');
  return answerQuery(request, url, context);
}

async function answerQuery(request: Request, url: URL, context: Context): Promise<Response> {
  const headers: Record<string, string> = {
    'X-ClickHouse-Server-Display-Name': 'recorder-embedded',
    'X-ClickHouse-Timezone': context.timezone,
  };
  try {
    const query = parseQueryRequest(request, url, await readBody(request));
    headers['X-ClickHouse-Query-Id'] = query.queryId;
    const result = await runOnce(query, context);
    return await respond(request, query, result, headers);
  } catch (error) {
    const exceptionCode = error instanceof EngineError ? error.exceptionCode : 1001;
    const message = error instanceof EngineError ? error.message : `Code: 1001. DB::Exception: ${error}`;
    headers['X-ClickHouse-Exception-Code'] = String(exceptionCode);
    headers['Content-Type'] = 'text/plain; charset=UTF-8';
    const suffix = /\(version [^)]*\)\s*$/.test(message) ? '' : ` (version ${context.version})`;
    return new Response(`${message.trimEnd()}${suffix}\n`, {
      status: statusOfException(exceptionCode),
      headers,
    });
  }
}

async function runOnce(query: QueryRequest, { pool, runningIds }: Context): Promise<EngineResult> {
  if (runningIds.has(query.queryId)) {
    throw exception(
      216,
      'QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING',
      `Query with id = ${query.queryId} is already running`,
    );
  }
  runningIds.add(query.queryId);
  try {
    return await pool.run(query.statement);
  } finally {
    runningIds.delete(query.queryId);
  }
}

async function respond(
  request: Request,
  query: QueryRequest,
  result: EngineResult,
  headers: Record<string, string>,
): Promise<Response> {
  headers['X-ClickHouse-Summary'] = summaryOf(result);
  headers['X-ClickHouse-Format'] = query.format;
  headers['Content-Type'] = contentTypeOf(query.format);
  if (request.method === 'HEAD') return new Response(null, { status: NO_BODY_STATUS, headers });
  if (!query.gzipResponse || result.bytes.length === 0) return new Response(result.bytes, { headers });
  headers['Content-Encoding'] = 'gzip';
  return new Response(await compress(result.bytes), { headers });
}

/** ClickHouse's summary header: every number is a string. */
function summaryOf(result: EngineResult): string {
  return JSON.stringify({
    read_rows: String(result.writtenRows > 0 && result.readRows === 0 ? result.writtenRows : result.readRows),
    read_bytes: String(result.readBytes),
    written_rows: String(result.writtenRows),
    written_bytes: String(result.writtenBytes),
    total_rows_to_read: '0',
    result_rows: String(result.writtenRows > 0 ? result.writtenRows : result.resultRows),
    result_bytes: String(result.writtenRows > 0 ? result.writtenBytes : result.bytes.length),
    elapsed_ns: String(Math.round(result.elapsedSeconds * 1e9)),
  });
}
