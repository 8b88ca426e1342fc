// What Bun's own fetch needs to speak to ClickHouse as @clickhouse/client does.

import type { ClickHouseAddress } from './clickhouse-client.ts';

/**
 * Certificates; a connection for each request, because one that the server is about to close makes an outcome
 * unknown; and no proxy even where the environment names one (false is missing in the types).
 */
export function fetchOptions({ tls }: ClickHouseAddress): BunFetchRequestInit {
  return {
    keepalive: false,
    ...({ proxy: false } as object),
    ...(tls == null ? {} : { tls: { ca: tls.caCert, ...(tls.client ?? {}) } }),
  };
}
