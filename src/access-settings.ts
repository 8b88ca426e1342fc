// Settings of who may reach the recorder, and of secrets that come from files. Part of the table in
// settings.ts.

import { setting } from './setting.ts';
import { socketOwner, text, userIds } from './setting-parsers.ts';

export const accessSettings = {
  socketOwner: setting(
    'HFT_RECORDER_SOCKET_OWNER',
    'USER[:GROUP]',
    '',
    socketOwner,
    'user and group of the Unix socket, numbers or names of this host; empty: who runs the recorder',
  ),
  socketUids: setting(
    'HFT_RECORDER_SOCKET_UIDS',
    'UIDS',
    '',
    userIds,
    'numbers of the users that may send, as the kernel names them; empty: whom the file mode admits',
  ),
  clickhousePasswordFile: setting(
    'HFT_CLICKHOUSE_PASSWORD_FILE',
    'FILE',
    '',
    text,
    'file with the password at ClickHouse',
  ),
  clickhouseCaFile: setting(
    'HFT_CLICKHOUSE_CA_FILE',
    'FILE',
    '',
    text,
    'PEM file of the CA that https servers must have a certificate of; empty: those of the system',
  ),
  clickhouseCertFile: setting(
    'HFT_CLICKHOUSE_CERT_FILE',
    'FILE',
    '',
    text,
    'PEM file of the certificate that the recorder shows ClickHouse',
  ),
  clickhouseKeyFile: setting(
    'HFT_CLICKHOUSE_KEY_FILE',
    'FILE',
    '',
    text,
    'PEM file of the key of that certificate',
  ),
} as const;
