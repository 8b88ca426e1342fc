// The recorder as a benchmark runs it: a process of its own with the settings that a user gets, except for
// ports and places.

import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { limits } from '../../src/limits.ts';
import { type RecorderProcess, run, startRecorderProcess } from '../../test/support/recorder-process.ts';

export { temporaryHome } from '../../test/support/recorder-process.ts';

/** Starts `recorder serve` under `home`: wal_first without further settings. */
export async function startServe(home: string, env: Record<string, string> = {}): Promise<RecorderProcess> {
  mkdirSync(home, { recursive: true });
  return await startRecorderProcess(home, {
    flags: ['--log-level', 'info'],
    env: {
      HFT_RECORDER_MODE: 'wal_first',
      HFT_WAL_SEGMENT_BYTES: String(limits.segmentBytes),
      ...env,
    },
  });
}

/** Rows that a stopped recorder says it has logged of a topic. */
function loggedRows(walDir: string): number {
  const status = JSON.parse(readFileSync(join(walDir, 'status.json'), 'utf8')) as {
    topics: Record<string, { logged: number; own: number }>;
  };
  return Object.values(status.topics).reduce((sum, { logged, own }) => sum + logged - own, 0);
}

/** Stops a recorder; throws unless exactly `rows` of its producers' rows are in the WAL, by its own count. */
export async function stopServe(recorder: RecorderProcess, rows: number): Promise<void> {
  const { code } = await recorder.end('SIGTERM');
  if (code !== 0) throw new Error(`the recorder ended with code ${code}:\n${recorder.log()}`);
  const logged = loggedRows(recorder.walDir);
  if (logged !== rows) throw new Error(`${rows} rows were sent, ${logged} are in the WAL`);
}

/** Throws unless the WAL verifies and holds exactly `rows` rows. */
export async function checkWal(walDir: string, rows: number): Promise<void> {
  const { json, errors } = await run<{ rows: number; damaged: unknown[] }>([
    'wal',
    'verify',
    walDir,
    '--json',
  ]);
  if (json.damaged?.length !== 0 || json.rows !== rows) {
    throw new Error(`wal verify: ${rows} rows were sent, found ${JSON.stringify(json)} ${errors}`);
  }
}

/** Address of its page and metrics. */
export function httpUrlOf(recorder: RecorderProcess): string {
  const found = /http:\/\/127\.0\.0\.1:\d+/.exec(recorder.log().replace(/embedded ClickHouse.*/g, ''));
  if (found === null) throw new Error(`the recorder does not say where its metrics are:\n${recorder.log()}`);
  return found[0];
}
