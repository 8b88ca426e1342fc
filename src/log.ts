import pino, { type Logger, type LoggerOptions } from 'pino';
import { LogRepeats } from './log-repeats.ts';

export type { Logger };

/** From this level on every line is written, however often. */
const FATAL = 60;

/**
 * Logger on standard error: readable text on a terminal, JSON lines otherwise; repeats are summed up.
 * @param level least level that is written
 */
export async function createLogger(name: string, level = 'info'): Promise<Logger> {
  const options: LoggerOptions = {
    name,
    level,
    base: { pid: process.pid },
    hooks: { logMethod: limitRepeats(new LogRepeats()) },
  };
  if (!process.stderr.isTTY) return pino(options, pino.destination({ dest: 2, sync: true }));
  // Loaded where it is needed: a service's start does not wait for it.
  const { default: pretty } = await import('pino-pretty');
  return pino(options, pretty({ colorize: true, destination: 2, sync: true, ignore: 'pid,hostname' }));
}

type LogMethod = NonNullable<NonNullable<LoggerOptions['hooks']>['logMethod']>;

function limitRepeats(repeats: LogRepeats): LogMethod {
  process.once('exit', () => repeats.flush());
  return function (this: Logger, args, method, level) {
    const message = args.find((arg) => typeof arg === 'string') ?? '';
    const tell = (summary: string) => method.call(this, summary);
    if (level >= FATAL || repeats.admit(level, message, tell)) method.apply(this, args);
  };
}
