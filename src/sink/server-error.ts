// What a failed request says about the data that it carried.

import { RecorderError } from '../errors.ts';

/**
 * - `refused`: the server looked at the data or the statement and said no; the same again will get the same
 *   answer.
 * - `unavailable`: the server cannot take it now; the data is not there.
 * - `unknown`: the answer is missing; the data may be there, or may be on its way.
 */
export type Outcome = 'refused' | 'unavailable' | 'unknown';

/**
 * A failed request to ClickHouse. `clickhouseCode` is the server's error code, null when it did not answer.
 */
export class ServerError extends RecorderError {
  readonly outcome: Outcome;
  readonly clickhouseCode: number | null;

  constructor(outcome: Outcome, clickhouseCode: number | null, message: string) {
    super(`clickhouse_${outcome}`, message);
    this.outcome = outcome;
    this.clickhouseCode = clickhouseCode;
  }
}

/**
 * Server codes that pass by themselves or by an operator's hand, without the data being at fault: a wrong
 * password or a full disk must not turn a backlog into dead letters.
 */
const UNAVAILABLE_CODES: Readonly<Record<number, string>> = {
  74: 'CANNOT_READ_FROM_FILE_DESCRIPTOR',
  75: 'CANNOT_WRITE_TO_FILE_DESCRIPTOR',
  76: 'CANNOT_OPEN_FILE',
  164: 'READONLY',
  173: 'CANNOT_ALLOCATE_MEMORY',
  192: 'UNKNOWN_USER',
  193: 'WRONG_PASSWORD',
  194: 'REQUIRED_PASSWORD',
  201: 'QUOTA_EXCEEDED',
  202: 'TOO_MANY_SIMULTANEOUS_QUERIES',
  203: 'NO_FREE_CONNECTION',
  216: 'QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING',
  225: 'NO_ZOOKEEPER',
  236: 'ABORTED',
  241: 'MEMORY_LIMIT_EXCEEDED',
  242: 'TABLE_IS_READ_ONLY',
  243: 'NOT_ENOUGH_SPACE',
  252: 'TOO_MANY_PARTS',
  285: 'TOO_FEW_LIVE_REPLICAS',
  286: 'UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE',
  289: 'REPLICA_IS_NOT_IN_QUORUM',
  439: 'CANNOT_SCHEDULE_TASK',
  473: 'DEADLOCK_AVOIDED',
  497: 'ACCESS_DENIED',
  516: 'AUTHENTICATION_FAILED',
  668: 'INVALID_STATE',
};

const UNKNOWN_CODES: Readonly<Record<number, string>> = {
  159: 'TIMEOUT_EXCEEDED',
  209: 'SOCKET_TIMEOUT',
  210: 'NETWORK_ERROR',
  319: 'UNKNOWN_STATUS_OF_INSERT',
  394: 'QUERY_WAS_CANCELLED',
  999: 'KEEPER_EXCEPTION',
};

/** Errors of a connection that was never made. */
const NOT_SENT = [
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ConnectionRefused',
];

const MESSAGE_LIMIT = 2_000;

/** Tells what an error of the client means. */
export function classifyFailure(error: unknown): ServerError {
  if (error instanceof ServerError) return error;
  const message = (error instanceof Error ? error.message : String(error)).slice(0, MESSAGE_LIMIT).trim();
  const clickhouseCode = codeOf(error, message);
  if (clickhouseCode !== null) {
    const named = codeOf(null, message) === null ? `Code: ${clickhouseCode}. ${message}` : message;
    return new ServerError(outcomeOf(clickhouseCode), clickhouseCode, named);
  }
  const connection = (error as { code?: unknown } | null)?.code;
  const outcome = typeof connection === 'string' && NOT_SENT.includes(connection) ? 'unavailable' : 'unknown';
  const shown =
    typeof connection === 'string' && !message.includes(connection) ? `${connection}: ${message}` : message;
  return new ServerError(outcome, null, shown === '' ? 'no answer from ClickHouse' : shown);
}

function outcomeOf(code: number): Outcome {
  if (code in UNKNOWN_CODES) return 'unknown';
  return code in UNAVAILABLE_CODES ? 'unavailable' : 'refused';
}

function codeOf(error: unknown, message: string): number | null {
  const property = (error as { code?: unknown } | null)?.code;
  if (typeof property === 'string' && /^\d+$/.test(property)) return Number(property);
  const match = /\bCode: (\d+)\b/.exec(message);
  return match === null ? null : Number(match[1]);
}
