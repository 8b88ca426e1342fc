// What the sub-commands of `recorder wal` share.

import type { Command } from 'commander';
import { RecorderError } from '../errors.ts';
import type { FileSystem } from '../io/file-system.ts';
import { configOf, reportFailure } from './options.ts';

/** The directory given as an argument, else the configured one; throws when it is not there. */
export function directoryOf(command: Command, argument: string | undefined, fileSystem: FileSystem): string {
  const dir = argument ?? configOf(command).walDir;
  if (fileSystem.exists(dir)) return dir;
  throw new RecorderError('no_wal', `there is no directory ${dir}`, {
    hint: 'name the WAL directory, or set HFT_WAL_DIR',
  });
}

/** Runs an action; what it throws becomes a message and exit code 1. */
export async function guarded(json: boolean | undefined, action: () => void | Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    reportFailure(error, json === true);
  }
}

export const JSON_FLAG = ['--json', 'print one JSON object as the last line'] as const;
