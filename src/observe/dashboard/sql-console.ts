// SQL from the page: sent on to ClickHouse, which itself refuses every change (readonly=1 forbids writes,
// DDL, table functions and settings within the statement) and bounds the time and the memory it takes.

import type { Question, SqlAnswer } from './live.ts';

/** Where questions go. */
export interface SqlConsole {
  /** Sends a statement with these settings in the URL; credentials are the callee's. */
  send(sql: string, parameters: URLSearchParams, signal: AbortSignal): Promise<Response>;
  questions: readonly Question[];
}

const MAX_SQL_CHARS = 20_000;
const MAX_ROWS = 1000;
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;
const MAX_SECONDS = 10;
const MAX_MEMORY_BYTES = 2_000_000_000;
/** For the way there and back on top of the statement's own time. */
const GRACE_MS = 3000;
const MAX_RUNNING = 2;

let running = 0;

/** URL parameters of every statement; `readonly` is the last one, since no setting may follow it. */
export function sqlParameters(): URLSearchParams {
  return new URLSearchParams({
    default_format: 'JSONCompact',
    output_format_json_quote_64bit_integers: '1',
    output_format_json_quote_denormals: '1',
    max_execution_time: String(MAX_SECONDS),
    max_memory_usage: String(MAX_MEMORY_BYTES),
    max_result_rows: String(MAX_ROWS),
    result_overflow_mode: 'break',
    readonly: '1',
  });
}

/**
 * Runs one statement. The status is 200 also where that fails: `error` says why, in ClickHouse's words where
 * it has refused it. A browser would put any other status into its console as an error of the page.
 */
export async function answerSql(sqlConsole: SqlConsole | null, sql: string): Promise<Response> {
  if (sqlConsole === null) return failure('ClickHouse is not configured here');
  if (sql.trim() === '') return failure('no statement');
  if (sql.length > MAX_SQL_CHARS) return failure(`longer than ${MAX_SQL_CHARS} characters`);
  if (running >= MAX_RUNNING) return failure('other statements are running; try again');
  running++;
  const startedMs = performance.now();
  try {
    const signal = AbortSignal.timeout(MAX_SECONDS * 1000 + GRACE_MS);
    const response = await sqlConsole.send(sql, sqlParameters(), signal);
    const { text, truncated } = await boundedText(response);
    if (!response.ok) return Response.json({ error: text.trim().slice(0, 4000) } satisfies SqlAnswer);
    return Response.json(understood(text, truncated, (performance.now() - startedMs) / 1000));
  } catch (error) {
    const isSlow = error instanceof DOMException && error.name === 'TimeoutError';
    return failure(isSlow ? 'ClickHouse did not answer in time' : 'ClickHouse cannot be reached');
  } finally {
    running--;
  }
}

/** The answer's text as far as it may be long. */
async function boundedText(response: Response): Promise<{ text: string; truncated: boolean }> {
  const decoder = new TextDecoder();
  let text = '';
  let sizeBytes = 0;
  for await (const chunk of response.body ?? []) {
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_ANSWER_BYTES) return { text, truncated: true };
    text += decoder.decode(chunk, { stream: true });
  }
  return { text: text + decoder.decode(), truncated: false };
}

interface JsonCompact {
  meta?: { name: string; type: string }[];
  data?: unknown[][];
  statistics?: { rows_read?: number };
}

function understood(text: string, truncated: boolean, seconds: number): SqlAnswer {
  if (truncated && text.startsWith('{')) return { error: 'the answer is too long: add a LIMIT' };
  try {
    const { meta, data, statistics } = JSON.parse(text) as JsonCompact;
    if (meta !== undefined && data !== undefined) {
      const answer = { columns: meta, rows: data.slice(0, MAX_ROWS), seconds };
      const readRows = statistics?.rows_read;
      // Blocks are taken whole: the server may send more rows than it was told.
      const isCut = data.length >= MAX_ROWS;
      return { ...answer, truncated: isCut, ...(readRows === undefined ? {} : { readRows }) };
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return { text, truncated, seconds };
}

function failure(error: string): Response {
  return Response.json({ error } satisfies SqlAnswer);
}
