// `recorder clickhouse`: the embedded ClickHouse server as a process of its own.

import { type Command, InvalidArgumentError } from 'commander';
import { type ClickHouseServer, startServer } from '../clickhouse/server.ts';
import { printLine, reportFailure, toJson } from './options.ts';

interface ClickhouseOptions {
  path: string;
  port: number;
  host: string;
  json?: boolean;
  supervised?: boolean;
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new InvalidArgumentError('expected a port, 0 to 65535');
  return port;
}

/** Resolves when the process is asked to stop: by a signal, or, supervised, by the end of its input. */
function stopRequested(supervised: boolean): Promise<string> {
  return new Promise((resolve) => {
    if (supervised) {
      // A terminal's Ctrl-C and a service manager's SIGTERM reach the whole group; this server must outlive
      // the recorder that still drains into it, and must end with a recorder that was killed. Both follow
      // from its pipe.
      process.on('SIGINT', () => undefined);
      process.on('SIGTERM', () => undefined);
      process.stdin.on('end', () => resolve('the supervisor is gone'));
      process.stdin.on('error', () => resolve('the supervisor is gone'));
      process.stdin.resume();
      return;
    }
    process.on('SIGINT', () => resolve('SIGINT'));
    process.on('SIGTERM', () => resolve('SIGTERM'));
  });
}

async function run(options: ClickhouseOptions): Promise<void> {
  const stop = stopRequested(options.supervised === true);
  let server: ClickHouseServer;
  try {
    server = await startServer({ path: options.path, host: options.host, port: options.port });
  } catch (error) {
    reportFailure(error, options.json === true);
    process.exit(1);
  }
  const { url, port, version } = server;
  printLine(
    options.json === true
      ? toJson({ url, port, version, path: options.path, pid: process.pid })
      : `ClickHouse ${version} on ${url}, data in ${options.path}; Ctrl-C stops it`,
  );
  await stop;
  await server.stop();
  // The engine's own threads would keep the process alive.
  process.exit(0);
}

/** Adds `recorder clickhouse`. */
export function registerClickhouse(program: Command): void {
  program
    .command('clickhouse')
    .description('run the embedded ClickHouse server: the real engine behind its HTTP interface')
    .requiredOption('--path <dir>', 'data directory, made if absent; data outlives the process')
    .option('--port <number>', 'HTTP port, 0 lets the system choose', parsePort, 8123)
    .option(
      '--host <address>',
      'address to listen on; the server knows no users, so think before widening it',
      '127.0.0.1',
    )
    .option('--json', 'print one JSON object when ready')
    .option(
      '--supervised',
      'end when standard input ends, instead of on a signal (used by `serve --embedded`)',
    )
    .action(run);
}
