import { type Config, clickhouseUrls } from '../config.ts';
import type { FlusherConfig } from '../sink/flusher-types.ts';

/** What the flusher needs of the configuration. */
export function flusherConfig(config: Config): FlusherConfig {
  return {
    walDir: config.walDir,
    clickhouse: {
      urls: clickhouseUrls(config),
      user: config.clickhouseUser,
      password: config.clickhousePassword,
      timeoutMs: config.clickhouseTimeoutMs,
    },
    database: config.clickhouseDatabase,
    format: config.clickhouseFormat,
    flushRows: config.flushRows,
    flushBytes: config.flushBytes,
    flushIntervalMs: config.flushIntervalMs,
    maxRetries: config.flushMaxRetries,
    retryBaseMs: config.flushRetryBaseMs,
    retryMaxMs: config.flushRetryMaxMs,
  };
}
