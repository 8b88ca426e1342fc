// Names of users and groups as numbers, from the files of this host: Bun has no getpwnam.

import { readFileSync } from 'node:fs';
import { RecorderError } from '../../errors.ts';
import type { SocketOwnership } from '../../net/unix-socket.ts';
import type { SocketOwner } from '../../setting-parsers.ts';

/** Number of a user or group; -1 for null. @throws RecorderError where this host has no such name */
function numberOf(name: string | null, file: string, what: string): number {
  if (name === null) return -1;
  if (/^\d+$/.test(name)) return Number(name);
  const line = readFileSync(file, 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${name}:`));
  const id = line?.split(':')[2] ?? '';
  if (/^\d+$/.test(id)) return Number(id);
  throw new RecorderError('unknown_owner', `HFT_RECORDER_SOCKET_OWNER: ${file} has no ${what} ${name}`, {
    hint: `names of other directories are given as numbers: id ${name}`,
  });
}

/** The owner of the socket by number. */
export function socketOwnership(owner: SocketOwner | null): SocketOwnership {
  return {
    uid: numberOf(owner?.user ?? null, '/etc/passwd', 'user'),
    gid: numberOf(owner?.group ?? null, '/etc/group', 'group'),
  };
}
