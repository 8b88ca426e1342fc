// An embedded ClickHouse server for a test file: real engine, own process, own temporary directory.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type EmbeddedOptions, type EmbeddedServer, startEmbedded } from '../../src/clickhouse/child.ts';

/** A server for tests; `close` stops it and removes its directory. */
export interface TestServer extends EmbeddedServer {
  path: string;
  close(): Promise<void>;
}

/** Starts an embedded server on a free port in a temporary directory. Call `close` in afterAll. */
export async function startTestServer(options: Partial<EmbeddedOptions> = {}): Promise<TestServer> {
  const path = options.path ?? mkdtempSync(join(tmpdir(), 'recorder-clickhouse-'));
  const server = await startEmbedded({
    command: [process.execPath, join(import.meta.dir, 'clickhouse-main.ts')],
    ...options,
    path,
  });
  const close = async () => {
    await server.stop();
    rmSync(path, { recursive: true, force: true });
  };
  return Object.defineProperties({ path, close } as TestServer, Object.getOwnPropertyDescriptors(server));
}
