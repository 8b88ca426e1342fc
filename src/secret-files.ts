// Secrets from files: a secret setting HFT_X is read from the file that the setting HFT_X_FILE names. What
// the file holds goes into no message.

import { readFileSync } from 'node:fs';
import { RecorderError } from './errors.ts';

/** Longer is no secret but the wrong file. */
const MAX_SECRET_BYTES = 64 * 1024;

/**
 * The secret in a file, without the line end that editors add.
 * @throws RecorderError that names the file
 */
export function readSecretFile(path: string): string {
  let content: string;
  try {
    content = readFileSync(path, 'utf8');
  } catch (cause) {
    const { code } = cause as { code?: string };
    throw new RecorderError('secret_unreadable', `the file cannot be read (${code ?? 'unknown error'})`, {
      cause,
    });
  }
  const secret = content.replace(/\r?\n$/, '');
  if (secret === '') throw new RecorderError('secret_unreadable', 'the file is empty');
  if (Buffer.byteLength(secret) > MAX_SECRET_BYTES || /[\r\n\0]/.test(secret)) {
    throw new RecorderError('secret_unreadable', 'a file with one line is expected');
  }
  return secret;
}
