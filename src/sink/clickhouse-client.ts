// The project's one door to ClickHouse: @clickhouse/client with the settings that a recorder needs, and for
// inserts post-insert.ts.
//
// - Idle connections are dropped before the server does it (ClickHouse 18 closes after 3 s): a request on a
//   connection that the server is closing has an unknown outcome.
// - Every response is read to its end, so that its connection can be used again.
// - The database is never in the URL: it may not exist yet. All names in queries are qualified.
// - Errors are told apart by what they say about the data (ServerError), not by HTTP status: 18.16 answers
//   nearly everything with 500.

import { ClickHouseLogLevel, createClient } from '@clickhouse/client';
import { RecorderError } from '../errors.ts';
import { type PingAnswer, pingServer } from './ping.ts';
import { postInsert } from './post-insert.ts';
import { classifyFailure, ServerError } from './server-error.ts';

const IDLE_SOCKET_TTL_MS = 2_000;

export interface ClickHouseAddress {
  /** `http://host:8123` or `https://…`, at least one; all must be replicas of the same data. */
  urls: readonly string[];
  user: string;
  password: string;
  /** Time without any traffic after which a request is given up. */
  timeoutMs: number;
  /** For https; absent or null: the certificates that the runtime trusts. */
  tls?: ClickHouseTls | null;
}

/** Certificates as PEM texts. */
export interface ClickHouseTls {
  /** Whom the server's certificate must come from. */
  caCert: string;
  /** Who this recorder is; null where the server does not ask. */
  client: { cert: string; key: string } | null;
}

/** What most of the program needs of ClickHouse. All methods throw ServerError. */
export interface SqlClient {
  /** Rows of a SELECT as objects; 64-bit integers come as strings. */
  query<T>(sql: string, queryId?: string): Promise<T[]>;
  /** A statement without a result. */
  command(sql: string): Promise<void>;
}

export interface InsertRequest {
  /** `INSERT INTO … FORMAT …` */
  sql: string;
  /**
   * Whole, or in pieces, each valid until the next one is asked for. What their maker throws cuts the request
   * off, and `insert` throws it as it is.
   */
  body: Uint8Array | Generator<Uint8Array, void>;
  queryId: string;
  settings: Readonly<Record<string, string>>;
  /** Gives the request up; its outcome is unknown then. */
  signal?: AbortSignal;
}

export interface SinkClient extends SqlClient {
  insert(request: InsertRequest): Promise<void>;
  /** The server that requests go to now. */
  readonly url: string;
  /** Goes on with the next of the given servers. */
  nextServer(): void;
  /** Asks the server whether it is there, not longer than so many ms; never throws. */
  ping(timeoutMs: number): Promise<PingAnswer>;
  close(): Promise<void>;
}

/** Connects lazily: nothing is sent before the first request. */
export function connectClickHouse(address: ClickHouseAddress): SinkClient {
  const clients = address.urls.map((url) => openClient(url, address));
  let current = 0;
  const active = () => clients[current % clients.length]!;
  const url = () => address.urls[current % clients.length]!;
  return {
    get url() {
      return url();
    },
    nextServer() {
      current += 1;
    },
    async query<T>(sql: string, queryId?: string): Promise<T[]> {
      const id = queryId === undefined ? {} : { query_id: queryId };
      return await guarded(async () => {
        const result = await active().query({ query: sql, format: 'JSONEachRow', ...id });
        return await result.json<T>();
      });
    },
    async command(sql) {
      await guarded(() => execute(sql));
    },
    async insert(request) {
      await guarded(() => postInsert(url(), address, request));
    },
    ping: (timeoutMs) => pingServer(url(), address, timeoutMs),
    async close() {
      await Promise.all(clients.map((client) => client.close()));
    },
  };

  async function execute(sql: string): Promise<void> {
    const response = await active().exec({ query: sql });
    for await (const _ of response.stream) {
      // Nothing is expected; the response is read so that the connection is free again.
    }
  }
}

function openClient(url: string, address: ClickHouseAddress) {
  return createClient({
    url,
    username: address.user,
    password: address.password,
    request_timeout: address.timeoutMs,
    max_open_connections: 16,
    application: 'recorder',
    compression: { request: false, response: false },
    keep_alive: { enabled: true, idle_socket_ttl: IDLE_SOCKET_TTL_MS, eagerly_destroy_stale_sockets: true },
    ...tlsOptions(address.tls ?? null),
    // Failures are thrown and reported once, by the caller that knows what they mean.
    log: { level: ClickHouseLogLevel.OFF },
    clickhouse_settings: { output_format_json_quote_64bit_integers: 1 },
  });
}

function tlsOptions(tls: ClickHouseTls | null) {
  if (tls === null) return {};
  const caCert = Buffer.from(tls.caCert);
  if (tls.client === null) return { tls: { ca_cert: caCert } };
  const { cert, key } = tls.client;
  return { tls: { ca_cert: caCert, cert: Buffer.from(cert), key: Buffer.from(key) } };
}

async function guarded<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw isOperating(error) ? error : (classifyFailure(error) satisfies ServerError);
  }
}

/** Made by this program for what is not the server's doing: a body that could not be made to its end. */
function isOperating(error: unknown): boolean {
  return error instanceof RecorderError && !(error instanceof ServerError);
}
