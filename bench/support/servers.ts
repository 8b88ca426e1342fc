// The ClickHouse servers that are measured: the embedded one always, Debian's 18.16 where it is installed.

import { hasClickHouse18, startClickHouse18 } from '../../test/support/clickhouse-server.ts';
import { startTestServer } from '../../test/support/embedded.ts';

export const SERVERS = ['embedded', '18.16'] as const;
export type ServerName = (typeof SERVERS)[number];

export interface BenchServer {
  name: ServerName;
  url: string;
  pid: number;
  stop(): Promise<void>;
}

/** Starts a server on a port of its own; null, said aloud, where it is not installed. */
export async function startServer(name: ServerName): Promise<BenchServer | null> {
  if (name === 'embedded') {
    const server = await startTestServer();
    return { name, url: server.url, pid: server.pid, stop: server.close };
  }
  if (!hasClickHouse18()) return null;
  const server = await startClickHouse18();
  return { name, url: server.url, pid: server.pid, stop: server.stop };
}
