// How this program starts itself again, as a process or a Worker, from its sources or as a compiled binary.

import { join } from 'node:path';

const isCompiled = import.meta.url.includes('/$bunfs/');

/**
 * Command line that starts this program again: the compiled binary, or Bun with the entry file. Append the
 * command and its flags.
 */
export function ownCommand(): string[] {
  return isCompiled ? [process.execPath] : [process.execPath, join(import.meta.dir, 'main.ts')];
}

/**
 * What a Worker is made of. `path` is the entry file under src/, which the build names beside main.ts: a
 * compiled program is one file at the root, its workers' entries lie beside it by that path.
 */
export function workerEntry(path: string): string {
  return isCompiled ? `./${path}` : new URL(path, import.meta.url).href;
}
