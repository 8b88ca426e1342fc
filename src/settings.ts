// The settings table: every HFT_ variable with its flag, default, meaning and validation. Nothing else
// reads the environment for configuration.

import { hostname } from 'node:os';
import { accessSettings } from './access-settings.ts';
import { guardSettings } from './guard-settings.ts';
import { limits } from './limits.ts';
import { reloadable, setting } from './setting.ts';
import {
  boolean,
  bytes,
  databaseName,
  hostList,
  httpPort,
  integer,
  milliseconds,
  nonEmpty,
  oneOf,
  socketMode,
  text,
} from './setting-parsers.ts';

/** All settings by the name that the program uses; `Config` follows from it. */
export const settings = {
  mode: setting(
    'HFT_RECORDER_MODE',
    'MODE',
    'direct',
    oneOf('direct', 'wal_first'),
    'direct: deliver to ClickHouse; wal_first: only record, `recorder load` delivers later',
  ),
  recorderId: setting(
    'HFT_RECORDER_ID',
    'ID',
    hostname(),
    nonEmpty,
    "name of this recorder in every row's column recorder",
  ),
  socketPath: setting(
    'HFT_RECORDER_SOCKET',
    'PATH',
    'recorder.sock',
    text,
    'Unix socket for producers; empty: none',
  ),
  socketMode: setting(
    'HFT_RECORDER_SOCKET_MODE',
    'MODE',
    '0600',
    socketMode,
    'file mode of the Unix socket, octal',
  ),
  udp: setting(
    'HFT_RECORDER_UDP',
    'FEEDS',
    '',
    text,
    'UDP feeds, [name=]host:port[|host:port][?interface=IP&source=IP], separated by commas',
  ),
  udpReceiveBufferBytes: setting(
    'HFT_UDP_RECEIVE_BUFFER_BYTES',
    'SIZE',
    '32MiB',
    bytes(4096, 2 ** 31 - 1),
    'receive buffer asked of the kernel for each UDP socket',
  ),
  udpGapTimeoutMs: setting(
    'HFT_UDP_GAP_TIMEOUT_MS',
    'MS',
    '200',
    milliseconds(0, 600_000),
    'how long a missing datagram may be late before it is a row in the table gaps',
  ),
  maxFrameBytes: setting(
    'HFT_MAX_FRAME_BYTES',
    'SIZE',
    String(limits.maxFrameBytes),
    bytes(64, limits.batchBytes),
    'longest frame that is recorded; longer ones are quarantined',
  ),
  schemaExtract: setting(
    'HFT_BATCHER_SCHEMA_EXTRACT',
    '0|1',
    '1',
    boolean,
    '1: generated extractors; 0: the generic path through row objects',
  ),
  batchRows: setting(
    'HFT_BATCH_ROWS',
    'N',
    String(limits.batchRows),
    integer(1, 1_000_000, 'rows'),
    'rows of a topic that make a WAL block',
  ),
  walDir: setting('HFT_WAL_DIR', 'DIR', '.wal', nonEmpty, 'directory of the write-ahead log'),
  walSegmentBytes: setting(
    'HFT_WAL_SEGMENT_BYTES',
    'SIZE',
    String(limits.segmentBytes),
    bytes(65_536, 2 ** 31),
    'size of a WAL segment, allocated ahead',
  ),
  walSync: setting(
    'HFT_WAL_SYNC',
    'POLICY',
    'group',
    oneOf('group', 'interval', 'none'),
    'when rows are synced to the disk: group (before each ack), interval, or none',
  ),
  walSyncIntervalMs: setting(
    'HFT_WAL_SYNC_INTERVAL_MS',
    'MS',
    '100',
    milliseconds(1, 60_000),
    'time between syncs with HFT_WAL_SYNC=interval',
  ),
  walRetainMs: reloadable(
    setting(
      'HFT_WAL_RETAIN_MS',
      'MS',
      String(limits.retainMs),
      milliseconds(0, 10 * 366 * 86_400_000),
      'how long segments are kept after all their rows are delivered; never removed before',
    ),
  ),
  walRetainBytes: reloadable(
    setting(
      'HFT_WAL_RETAIN_BYTES',
      'SIZE',
      '8GiB',
      bytes(0, 2 ** 50),
      'delivered segments go sooner, oldest first, while the WAL is larger than this',
    ),
  ),
  walArchiveDir: setting(
    'HFT_WAL_ARCHIVE_DIR',
    'DIR',
    '',
    text,
    'where delivered segments are copied, and the copies checked, before they go; empty: nowhere',
  ),
  walRetainCheckMs: reloadable(
    setting(
      'HFT_WAL_RETAIN_CHECK_MS',
      'MS',
      '10000',
      milliseconds(10, 3_600_000),
      'how often is looked for segments that may go',
    ),
  ),
  quarantineMaxBytes: setting(
    'HFT_QUARANTINE_MAX_BYTES',
    'SIZE',
    String(limits.quarantineBytes),
    bytes(0, 2 ** 40),
    'most that is kept of malformed frames; counted beyond it',
  ),
  clickhouseEnabled: setting(
    'HFT_CLICKHOUSE_ENABLED',
    '0|1',
    '',
    boolean,
    'turns ClickHouse on; a given HFT_CLICKHOUSE_HOST or --embedded does so too',
  ),
  clickhouseDisabled: setting(
    'HFT_DISABLE_CLICKHOUSE',
    '0|1',
    '',
    boolean,
    'ClickHouse off, over everything else',
  ),
  clickhouseHosts: setting(
    'HFT_CLICKHOUSE_HOST',
    'HOSTS',
    'localhost',
    hostList,
    'host, or https:// address, or a comma-separated list of them',
  ),
  clickhousePort: setting(
    'HFT_CLICKHOUSE_PORT',
    'PORT',
    '8123',
    httpPort,
    'HTTP port of ClickHouse; with --embedded its own, 0: any free one',
  ),
  clickhouseUser: setting('HFT_CLICKHOUSE_USER', 'USER', 'default', nonEmpty, 'user at ClickHouse'),
  clickhousePassword: {
    ...setting('HFT_CLICKHOUSE_PASSWORD', 'PASSWORD', '', text, 'password at ClickHouse'),
    secret: true,
  },
  clickhouseDatabase: setting(
    'HFT_CLICKHOUSE_DATABASE',
    'NAME',
    'hft',
    databaseName,
    'database of the tables',
  ),
  clickhouseFormat: setting(
    'HFT_CLICKHOUSE_FORMAT',
    'FORMAT',
    'RowBinary',
    oneOf('RowBinary', 'Native'),
    'format of inserts',
  ),
  clickhouseTimeoutMs: setting(
    'HFT_CLICKHOUSE_TIMEOUT_MS',
    'MS',
    '30000',
    milliseconds(100, 3_600_000),
    'time for one request to ClickHouse',
  ),
  embeddedPath: setting(
    'HFT_EMBEDDED_PATH',
    'DIR',
    '.clickhouse',
    nonEmpty,
    'data directory of the embedded ClickHouse',
  ),
  flushRows: setting(
    'HFT_FLUSH_ROWS',
    'N',
    String(limits.flushRows),
    integer(1, 1_000_000, 'rows'),
    'rows that close an insert group',
  ),
  flushBytes: setting(
    'HFT_FLUSH_BYTES',
    'SIZE',
    String(limits.flushBytes),
    bytes(1024, 2 ** 30),
    'bytes that close an insert group',
  ),
  flushIntervalMs: setting(
    'HFT_FLUSH_INTERVAL_MS',
    'MS',
    '500',
    milliseconds(1, 3_600_000),
    'age that closes an insert group',
  ),
  flushMaxRetries: setting(
    'HFT_FLUSH_MAX_RETRIES',
    'N',
    '8',
    integer(0, 1000, 'retries'),
    'retries of a group that the server refuses, before it becomes a dead letter',
  ),
  flushRetryBaseMs: setting(
    'HFT_FLUSH_RETRY_BASE_MS',
    'MS',
    '100',
    milliseconds(1, 60_000),
    'first pause between retries; doubles, with jitter',
  ),
  flushRetryMaxMs: setting(
    'HFT_FLUSH_RETRY_MAX_MS',
    'MS',
    '10000',
    milliseconds(1, 600_000),
    'longest pause between retries',
  ),
  drainTimeoutMs: reloadable(
    setting(
      'HFT_DRAIN_TIMEOUT_MS',
      'MS',
      '30000',
      milliseconds(0, 3_600_000),
      'time for a stop to deliver what is in the WAL',
    ),
  ),
  configFile: setting(
    'HFT_CONFIG_FILE',
    'FILE',
    '',
    text,
    'file of HFT_NAME=value lines; wins over the environment, and is read again on SIGHUP',
  ),
  ...accessSettings,
  ...guardSettings,
  logLevel: reloadable(
    setting(
      'HFT_LOG_LEVEL',
      'LEVEL',
      'info',
      oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
      'least level that is logged',
    ),
  ),
} as const;

export type SettingName = keyof typeof settings;

/** `HFT_WAL_DIR` → `--wal-dir`. */
export function flagOf(env: string): string {
  return `--${env.slice('HFT_'.length).toLowerCase().replaceAll('_', '-')}`;
}
