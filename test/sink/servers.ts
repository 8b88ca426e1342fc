// The servers that the sink's tests run against: the current engine, and Debian's 18.16 where it is
// installed.

import { connectClickHouse, type SinkClient } from '../../src/sink/clickhouse-client.ts';
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
