// From an HTTP request to a statement for the engine: URL parameters, headers, compressed bodies.

import { promisify } from 'node:util';
import { brotliDecompress, gunzip, inflate, zstdDecompress } from 'node:zlib';
import { type EngineStatement, exception } from './engine.ts';
import { planStatement, showClientQueryIds } from './statement.ts';

/** A request understood. */
export interface QueryRequest {
  statement: EngineStatement;
  queryId: string;
  /** Name of the output format, for the response's headers. */
  format: string;
  /** The client asked for, and can read, a gzip response. */
  gzipResponse: boolean;
}

// Parameters that are not settings. The first group is acted on; user and password, in the URL or in headers,
// are accepted and not checked: the server listens on the loopback address only, unless told otherwise.
const PARAMETERS = new Set([
  'query',
  'database',
  'default_format',
  'query_id',
  'user',
  'password',
  'quota_key',
]);
const REFUSED_PARAMETERS = new Set(['session_id', 'compress', 'decompress']);
// Settings of the HTTP layer itself, without meaning for the engine (results are always complete before the
// response).
const HTTP_SETTINGS = new Set([
  'enable_http_compression',
  'http_zlib_compression_level',
  'http_response_buffer_size',
  'http_headers_progress_interval_ms',
  'http_native_compression_disable_checksumming_on_decompress',
  'buffer_size',
  'wait_end_of_query',
  'send_progress_in_http_headers',
  'role',
  'client_protocol_version',
  'session_timeout',
  'session_check',
  'stacktrace',
  'close_session',
]);

// How much of a body is read as text in search of the place where an insert's data begins.
const HEAD_SIZE_BYTES = 1 << 20;

const DECODERS: Readonly<Record<string, (bytes: Uint8Array) => Promise<Uint8Array>>> = {
  gzip: promisify(gunzip),
  deflate: promisify(inflate),
  br: promisify(brotliDecompress),
  zstd: promisify(zstdDecompress),
};

const quote = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
const quoteName = (text: string) => `\`${text.replaceAll('\\', '\\\\').replaceAll('`', '\\`')}\``;

/**
 * Reads a request's body, whole and uncompressed. Whole on purpose: a client that goes away in the middle of
 * an insert must not leave the rows it had sent so far. Throws EngineError for a short or unreadable body.
 */
export async function readBody(request: Request): Promise<Uint8Array> {
  if (request.body === null) return new Uint8Array(0);
  const bytes = new Uint8Array(await request.arrayBuffer());
  const promised = request.headers.get('content-length');
  if (promised !== null && Number(promised) !== bytes.length) {
    throw exception(33, 'CANNOT_READ_ALL_DATA', `${bytes.length} of ${promised} body bytes were received`);
  }
  const encoding = request.headers.get('content-encoding') ?? 'identity';
  if (encoding === 'identity' || bytes.length === 0) return bytes;
  const decode = DECODERS[encoding];
  if (decode === undefined) {
    throw exception(
      48,
      'NOT_IMPLEMENTED',
      `Content-Encoding ${encoding} is not one of ${Object.keys(DECODERS).join(', ')}`,
    );
  }
  try {
    return await decode(bytes);
  } catch (error) {
    throw exception(354, 'ZLIB_INFLATE_FAILED', `cannot decode the ${encoding} body: ${error}`);
  }
}

/** SET and USE statements for what the URL asks, in the order in which they must run. */
function setupStatements(url: URL, request: Request, queryId: string): string[] {
  const setup: string[] = [];
  const database = url.searchParams.get('database') ?? request.headers.get('x-clickhouse-database');
  if (database !== null && database !== '') setup.push(`USE ${quoteName(database)}`);
  let comment = queryId;
  let readonly: string | null = null;
  for (const [name, value] of url.searchParams) {
    if (PARAMETERS.has(name) || HTTP_SETTINGS.has(name)) continue;
    if (REFUSED_PARAMETERS.has(name)) {
      if (value === '0') continue;
      throw exception(48, 'NOT_IMPLEMENTED', `URL parameter ${name} is not supported here`);
    }
    if (!/^\w+$/.test(name)) {
      throw exception(115, 'UNKNOWN_SETTING', `Unknown setting ${quote(name)}`);
    }
    if (name === 'log_comment') comment = value;
    else if (name === 'readonly') readonly = value;
    else setup.push(`SET ${name} = ${quote(value)}`);
  }
  // The engine takes no query id from outside: it travels as the comment, see showClientQueryIds.
  setup.push(`SET log_comment = ${quote(comment)}`);
  // As in ClickHouse: GET must not change anything.
  if ((request.method === 'GET' || request.method === 'HEAD') && readonly !== '1') readonly = '2';
  // The last one, as it forbids to set anything: ClickHouse takes the settings of a URL as one change.
  if (readonly !== null) setup.push(`SET readonly = ${quote(readonly)}`);
  return setup;
}

/** Joins the query of the URL and the body as ClickHouse does: with a line end between them. */
function joinText(urlQuery: Uint8Array, body: Uint8Array): Uint8Array {
  if (urlQuery.length === 0) return body;
  return Buffer.concat([urlQuery, Buffer.from('\n'), body]);
}

/**
 * Understands a request with its `body` (from readBody). Throws EngineError with ClickHouse's code and
 * wording for what cannot be served.
 */
export function parseQueryRequest(request: Request, url: URL, body: Uint8Array): QueryRequest {
  const queryId =
    url.searchParams.get('query_id') || request.headers.get('x-clickhouse-query-id') || crypto.randomUUID();
  const setup = setupStatements(url, request, queryId);
  const defaultFormat =
    url.searchParams.get('default_format') ?? request.headers.get('x-clickhouse-format') ?? 'TabSeparated';
  const gzipResponse =
    url.searchParams.get('enable_http_compression') === '1' &&
    /\bgzip\b/.test(request.headers.get('accept-encoding') ?? '');
  const common = { queryId, gzipResponse };

  const urlQuery = Buffer.from(url.searchParams.get('query') ?? '');
  const head = Buffer.from(joinText(urlQuery, body.subarray(0, HEAD_SIZE_BYTES)));
  let plan = planStatement(head.toString('latin1'));
  if (plan.kind === 'insert') {
    // Behind the URL's query and its line end the data is the body itself: no copy.
    const bodyStart = urlQuery.length === 0 ? 0 : urlQuery.length + 1;
    const data =
      plan.dataOffset >= bodyStart
        ? body.subarray(plan.dataOffset - bodyStart)
        : joinText(urlQuery, body).subarray(plan.dataOffset);
    const sql = head.subarray(0, plan.headLength);
    return {
      ...common,
      statement: { sql: Uint8Array.from(sql), format: plan.format, setup, data },
      format: plan.format,
    };
  }
  const whole = Buffer.from(joinText(urlQuery, body));
  if (whole.length > head.length) plan = planStatement(whole.toString('latin1'));
  switch (plan.kind) {
    case 'empty':
      throw exception(62, 'SYNTAX_ERROR', 'Empty query');
    case 'multiple':
      throw exception(62, 'SYNTAX_ERROR', 'Syntax error (Multi-statements are not allowed)');
    case 'outfile':
      throw exception(358, 'INTO_OUTFILE_NOT_ALLOWED', 'INTO OUTFILE is not allowed');
    case 'insert_input':
      throw exception(48, 'NOT_IMPLEMENTED', 'INSERT … SELECT … FROM input(…) is not supported here');
    case 'insert_without_data':
      throw exception(108, 'NO_DATA_TO_INSERT', 'No data to insert');
    case 'insert':
      throw exception(
        229,
        'QUERY_IS_TOO_LARGE',
        'the text before the data of an INSERT is longer than 1 MiB',
      );
    case 'query': {
      const sql = plan.readsProcesses
        ? Buffer.from(showClientQueryIds(whole.toString('latin1')), 'latin1')
        : whole;
      return {
        ...common,
        statement: { sql: Uint8Array.from(sql), format: defaultFormat, setup, data: null },
        format: plan.format ?? defaultFormat,
      };
    }
  }
}
