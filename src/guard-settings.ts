// Settings of what watches over a recorder: HTTP, memory, disk. Part of the table in settings.ts.

import { setting } from './setting.ts';
import { bytes, integer, text } from './setting-parsers.ts';

export const guardSettings = {
  http: setting(
    'HFT_RECORDER_HTTP',
    'ADDRESS',
    '127.0.0.1:9464',
    text,
    'address for the page, /metrics and /health; empty: none. Not loopback: needs a token',
  ),
  httpToken: {
    ...setting('HFT_RECORDER_HTTP_TOKEN', 'TOKEN', '', text, 'token that HTTP requests must carry'),
    secret: true,
  },
  httpTokenFile: setting(
    'HFT_RECORDER_HTTP_TOKEN_FILE',
    'FILE',
    '',
    text,
    'file with the token that HTTP requests must carry',
  ),
  memoryMaxBytes: setting(
    'HFT_MEMORY_MAX_BYTES',
    'SIZE',
    '256MiB',
    bytes(2 ** 20, 2 ** 40),
    'bound of rows in memory that are not in the WAL; streams are held back and UDP is shed before it',
  ),
  memoryMaxRows: setting(
    'HFT_MEMORY_MAX_ROWS',
    'N',
    '4000000',
    integer(1000, 1e9, 'rows'),
    'the same bound in rows',
  ),
  memoryFlushBytes: setting(
    'HFT_MEMORY_FLUSH_BYTES',
    'SIZE',
    '16MiB',
    bytes(65_536, 2 ** 40),
    'rows in open batches at which the fullest topic is sealed at once',
  ),
} as const;
