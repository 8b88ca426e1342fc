// A WAL full of rows that nobody has delivered, made by a recorder in mode wal_first.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { FrameFile } from './inputs.ts';
import { sendTogether } from './programs.ts';
import { checkWal, startServe, stopServe } from './recorder.ts';

/** Records `rows` rows under `home`, checks that all are there, and returns the WAL's directory. */
export async function prepareWal(home: string, input: FrameFile, rows: number): Promise<string> {
  const recorder = await startServe(home);
  const sender = { socket: recorder.socket, framesPath: input.path, frames: rows, session: 'prepared' };
  await sendTogether([sender]);
  await stopServe(recorder, rows);
  await checkWal(recorder.walDir, rows);
  return recorder.walDir;
}

/** Lets a WAL forget what was delivered: the next flusher begins at its first row. */
export function forgetDelivery(walDir: string): void {
  rmSync(join(walDir, 'flush.log'), { force: true });
}
