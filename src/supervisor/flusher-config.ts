import type { Config } from '../config.ts';
import type { FlusherConfig } from '../sink/flusher-types.ts';
import { clickhouseAddress } from './clickhouse-address.ts';

/** Seen on a machine with ten times the load that it takes: 0.1 s were too little. */
const SETTLE_MS = 2000;

/** What the flusher needs of the configuration. */
export function flusherConfig(config: Config): FlusherConfig {
  return {
    walDir: config.walDir,
    clickhouse: clickhouseAddress(config),
    database: config.clickhouseDatabase,
    format: config.clickhouseFormat,
    flushRows: config.flushRows,
    flushBytes: config.flushBytes,
    flushIntervalMs: config.flushIntervalMs,
    maxRetries: config.flushMaxRetries,
    retryBaseMs: config.flushRetryBaseMs,
    retryMaxMs: config.flushRetryMaxMs,
    settleMs: SETTLE_MS,
  };
}
