// How ClickHouse is reached, as the settings say.

import { readFileSync } from 'node:fs';
import { type Config, clickhouseUrls } from '../config.ts';
import { RecorderError } from '../errors.ts';
import type { ClickHouseAddress, ClickHouseTls } from '../sink/clickhouse-client.ts';

function pemOf(path: string, env: string): string {
  try {
    const text = readFileSync(path, 'utf8');
    if (text.includes('-----BEGIN ')) return text;
  } catch (cause) {
    throw new RecorderError('tls_file_unreadable', `${env}=${path} cannot be read`, { cause });
  }
  throw new RecorderError('tls_file_unreadable', `${env}=${path} is no PEM file`);
}

/**
 * Certificates for https; null: those that the runtime trusts.
 * @throws RecorderError for files that cannot be read, or are given without their counterparts
 */
function clickhouseTls(config: Config): ClickHouseTls | null {
  const { clickhouseCaFile: ca, clickhouseCertFile: cert, clickhouseKeyFile: key } = config;
  if (ca === '' && cert === '' && key === '') return null;
  if (ca === '' || (cert === '') !== (key === '')) {
    throw new RecorderError('tls_incomplete', 'https to ClickHouse: a CA alone, or CA, certificate and key', {
      hint: 'HFT_CLICKHOUSE_CA_FILE, HFT_CLICKHOUSE_CERT_FILE, HFT_CLICKHOUSE_KEY_FILE',
    });
  }
  const caCert = pemOf(ca, 'HFT_CLICKHOUSE_CA_FILE');
  if (cert === '') return { caCert, client: null };
  const client = {
    cert: pemOf(cert, 'HFT_CLICKHOUSE_CERT_FILE'),
    key: pemOf(key, 'HFT_CLICKHOUSE_KEY_FILE'),
  };
  return { caCert, client };
}

/** The configured servers, or `urls` of the same kind. @throws RecorderError as clickhouseTls */
export function clickhouseAddress(
  config: Config,
  urls: readonly string[] = clickhouseUrls(config),
): ClickHouseAddress {
  return {
    urls,
    user: config.clickhouseUser,
    password: config.clickhousePassword,
    timeoutMs: config.clickhouseTimeoutMs,
    tls: clickhouseTls(config),
  };
}
