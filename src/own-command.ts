import { join } from 'node:path';

/**
 * Command line that starts this program again: the compiled binary, or Bun with the entry file. Append the
 * command and its flags.
 */
export function ownCommand(): string[] {
  const isCompiled = Bun.main.startsWith('/$bunfs/');
  return isCompiled ? [process.execPath] : [process.execPath, join(import.meta.dir, 'main.ts')];
}
