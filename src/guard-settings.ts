// Settings of what watches over a recorder: HTTP, memory, disk. Part of the table in settings.ts.

import { reloadable, setting } from './setting.ts';
import { bytes, integer, optional, text, topicPolicies } from './setting-parsers.ts';

export const guardSettings = {
  http: setting(
    'HFT_RECORDER_HTTP',
    'ADDRESS',
    '127.0.0.1:9464',
    text,
    'address for the page, /metrics and /health; empty: none. Not loopback: needs a token',
  ),
  loaderHttp: setting(
    'HFT_LOADER_HTTP',
    'ADDRESS',
    '127.0.0.1:9465',
    text,
    'address for /metrics and /health of `recorder load`; empty: none. Not loopback: needs a token',
  ),
  httpToken: {
    ...setting('HFT_RECORDER_HTTP_TOKEN', 'TOKEN', '', text, 'token that HTTP requests must carry'),
    secret: true,
    reloads: true,
  },
  httpTokenFile: reloadable(
    setting(
      'HFT_RECORDER_HTTP_TOKEN_FILE',
      'FILE',
      '',
      text,
      'file with the token that HTTP requests must carry',
    ),
  ),
  memoryMaxBytes: reloadable(
    setting(
      'HFT_MEMORY_MAX_BYTES',
      'SIZE',
      '256MiB',
      bytes(2 ** 20, 2 ** 40),
      'bound of rows in memory that are not in the WAL; streams are held back and UDP is shed before it',
    ),
  ),
  memoryMaxRows: reloadable(
    setting('HFT_MEMORY_MAX_ROWS', 'N', '4000000', integer(1000, 1e9, 'rows'), 'the same bound in rows'),
  ),
  memoryFlushBytes: reloadable(
    setting(
      'HFT_MEMORY_FLUSH_BYTES',
      'SIZE',
      '16MiB',
      bytes(65_536, 2 ** 40),
      'rows in open batches at which the fullest topic is sealed at once',
    ),
  ),
  diskWarnBytes: reloadable(
    setting(
      'HFT_DISK_WARN_BYTES',
      'SIZE',
      '',
      optional(bytes(0, 2 ** 50)),
      'free space below which the disk level is warn; empty: 5 % of the disk, at most 4 GiB',
    ),
  ),
  diskCriticalBytes: reloadable(
    setting(
      'HFT_DISK_CRITICAL_BYTES',
      'SIZE',
      '',
      optional(bytes(0, 2 ** 50)),
      'free space below which market data and spans stop; empty: 3 % of the disk, at most 2 GiB',
    ),
  ),
  diskHaltBytes: reloadable(
    setting(
      'HFT_DISK_HALT_BYTES',
      'SIZE',
      '',
      optional(bytes(0, 2 ** 50)),
      'free space below which all but orders and fills stop; empty: 1 % of the disk, at most 512 MiB',
    ),
  ),
  walMaxBytes: reloadable(
    setting(
      'HFT_WAL_MAX_BYTES',
      'SIZE',
      '0',
      bytes(0, 2 ** 50),
      'size of the WAL that counts as a full disk, warn at 80 %, critical at 90 %; 0: none',
    ),
  ),
  walReserveBytes: setting(
    'HFT_WAL_RESERVE_BYTES',
    'SIZE',
    '64MiB',
    bytes(0, 2 ** 40),
    'space kept for orders and fills at disk level halt, in whole segments; 0: none',
  ),
  walFullPolicy: reloadable(
    setting(
      'HFT_WAL_FULL_POLICY',
      'LIST',
      '',
      topicPolicies,
      'topic=drop,…: what to give up on a full disk; HFT_WAL_FULL_POLICY_<TOPIC> sets one; else block',
    ),
  ),
} as const;
