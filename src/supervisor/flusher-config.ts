import type { Config } from '../config.ts';
import type { FlusherConfig } from '../sink/flusher-types.ts';
import { clickhouseAddress } from './clickhouse-address.ts';

/** On a machine with ten times the load that it takes, pauses of up to 50 ms were too short. */
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
