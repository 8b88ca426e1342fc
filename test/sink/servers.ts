// The servers that the sink's tests run against: the current engine, and Debian's 18.16 where it is
// installed.

import { connectClickHouse, type SinkClient } from '../../src/sink/clickhouse-client.ts';
import type { FlusherConfig } from '../../src/sink/flusher-types.ts';
import { hasClickHouse18, startClickHouse18 } from '../support/clickhouse-server.ts';
import { startTestServer } from '../support/embedded.ts';

export interface RunningServer {
  url: string;
  client: SinkClient;
  close(): Promise<void>;
}

export interface ServerKind {
  name: 'embedded' | '18.16';
  available: boolean;
  start(): Promise<RunningServer>;
}

export const TIMEOUT_MS = 10_000;

export function clientOf(url: string): SinkClient {
  return connectClickHouse({ urls: [url], user: 'default', password: '', timeoutMs: TIMEOUT_MS });
}

/** What a flusher of a test has, short pauses above all, where the test says nothing else. */
export function flusherConfigFor(
  url: string,
  given: Pick<FlusherConfig, 'walDir' | 'database'> & Partial<FlusherConfig>,
): FlusherConfig {
  return {
    clickhouse: { urls: [url], user: 'default', password: '', timeoutMs: TIMEOUT_MS },
    format: 'RowBinary',
    flushRows: 1000,
    flushBytes: 1 << 20,
    flushIntervalMs: 10,
    maxRetries: 1,
    retryBaseMs: 5,
    retryMaxMs: 50,
    settleMs: 200,
    ...given,
  };
}

export const serverKinds: ServerKind[] = [
  {
    name: 'embedded',
    available: true,
    start: async () => {
      const server = await startTestServer();
      const client = clientOf(server.url);
      return { url: server.url, client, close: () => client.close().then(server.close) };
    },
  },
  {
    name: '18.16',
    available: hasClickHouse18(),
    start: async () => {
      const server = await startClickHouse18();
      const client = clientOf(server.url);
      return { url: server.url, client, close: () => client.close().then(server.stop) };
    },
  },
];

/** The exact bytes that a server answers with. */
export async function answerBytes(url: string, sql: string): Promise<Uint8Array> {
  const response = await fetch(url, { method: 'POST', body: sql, keepalive: false });
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (!response.ok) throw new Error(new TextDecoder().decode(bytes));
  return bytes;
}
