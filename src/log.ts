import pino, { type Logger } from 'pino';
import pretty from 'pino-pretty';

export type { Logger };

/**
 * Logger on standard error: readable text on a terminal, JSON lines otherwise.
 * @param level least level that is written
 */
export function createLogger(name: string, level = 'info'): Logger {
  const options = { name, level, base: { pid: process.pid } };
  if (!process.stderr.isTTY) return pino(options, pino.destination({ dest: 2, sync: true }));
  return pino(options, pretty({ colorize: true, destination: 2, sync: true, ignore: 'pid,hostname' }));
}
