// How long a recorder takes until it listens.

import { join } from 'node:path';
import { cleanEnvironment } from '../../test/support/recorder-process.ts';
import { closeDescriptor, connectUnix } from './posix.ts';

function accepts(socket: string): boolean {
  try {
    closeDescriptor(connectUnix(socket));
    return true;
  } catch {
    return false;
  }
}

/** Starts `serve` on the log `home`/wal: milliseconds until its socket takes a connection; kills it then. */
export async function timeToListen(command: readonly string[], home: string): Promise<number> {
  const socket = join(home, 's');
  const startNs = Bun.nanoseconds();
  const child = Bun.spawn([...command, 'serve', '--socket', socket, '--wal-dir', join(home, 'wal')], {
    env: cleanEnvironment({ HFT_RECORDER_HTTP: '127.0.0.1:0' }),
    stdout: 'ignore',
    stderr: 'ignore',
  });
  while (!accepts(socket)) {
    if (child.exitCode !== null) throw new Error(`serve ended with code ${child.exitCode}`);
    await Bun.sleep(1);
  }
  const ms = (Bun.nanoseconds() - startNs) / 1e6;
  child.kill('SIGKILL');
  await child.exited;
  return ms;
}
