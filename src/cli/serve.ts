// `recorder serve`: the recorder itself, until it is asked to stop.

import type { Command } from 'commander';
import { type EmbeddedServer, startEmbedded } from '../clickhouse/child.ts';
import { type Config, isClickhouseOn } from '../config.ts';
import { createLogger, type Logger } from '../log.ts';
import { type Recorder, type StopResult, startRecorder } from '../supervisor/recorder.ts';
import { openServiceNotifier } from '../supervisor/service-notify.ts';
import {
  addSettingFlags,
  configOf,
  printLine,
  reportFailure,
  toJson,
  warnUnknownVariables,
} from './options.ts';
import { reloadOnSignal } from './reload-signal.ts';
import { stopSignal } from './stop-signal.ts';

/** What a stop may take beyond the time for delivery: the last sync, the embedded server. */
const STOP_MARGIN_MS = 30_000;

interface ServeOptions {
  embedded?: boolean;
  allowMissingSegments?: boolean;
  json?: boolean;
}

/** Starts the embedded server where it is asked for; the returned configuration points to it. */
async function withEmbedded(
  config: Config,
  logger: Logger,
): Promise<{ config: Config; server: EmbeddedServer }> {
  const server = await startEmbedded({
    path: config.embeddedPath,
    port: config.clickhousePort,
    onEvent: ({ kind, message }) => (kind === 'restarted' ? logger.warn(message) : logger.error(message)),
  });
  logger.info(`embedded ClickHouse ${server.version} on ${server.url}, data in ${config.embeddedPath}`);
  const atServer = { clickhouseHosts: [server.url], clickhousePort: server.port };
  return { config: { ...config, ...atServer }, server };
}

function describeMode(config: Config, clickhouse: boolean): string {
  if (config.mode === 'wal_first')
    return 'mode wal_first: rows go to the WAL only, `recorder load` delivers them';
  if (clickhouse) {
    const { clickhouseDatabase: database, clickhouseFormat: format } = config;
    return `mode direct: rows go to ClickHouse database ${database} as ${format}`;
  }
  return 'ClickHouse is off: rows go to the WAL only (--embedded or HFT_CLICKHOUSE_HOST turns it on)';
}

function describeStop({ durable, undelivered }: StopResult, walDir: string): string[] {
  const lines: string[] = [];
  if (!durable)
    lines.push(
      'the disk did not take all rows: what was not acknowledged is lost unless its producer sends it again',
    );
  if (undelivered?.failure !== undefined) lines.push(`delivery had stopped: ${undelivered.failure}`);
  for (const { topic, rows } of undelivered?.left ?? []) {
    lines.push(`${rows} rows of ${topic} are left in the WAL in ${walDir}; the next start delivers them`);
  }
  return lines;
}

/** A bug, or a WAL that cannot go on: said, and the process ends; a service manager starts it again. */
function endOnFault(logger: Logger): void {
  const onFault = (error: unknown) => {
    logger.fatal(error, 'stopping: what was not acknowledged must be sent again');
    process.exit(70);
  };
  process.on('uncaughtException', onFault);
  process.on('unhandledRejection', onFault);
}

/** Runs until a signal. `load` reads the settings again. */
async function serve(
  config: Config,
  load: () => Config,
  embedded: boolean,
  logger: Logger,
): Promise<StopResult> {
  const asked = stopSignal(logger);
  const manager = openServiceNotifier(process.env, (text) => logger.warn(text));
  const clickhouse = isClickhouseOn(config, embedded);
  logger.info(describeMode(config, clickhouse));
  let server: EmbeddedServer | null = null;
  let recorder: Recorder;
  let effective = config;
  if (embedded && clickhouse) ({ config: effective, server } = await withEmbedded(config, logger));
  try {
    recorder = await startRecorder(effective, clickhouse && config.mode === 'direct', logger);
  } catch (error) {
    await server?.stop();
    throw error;
  }
  let drainTimeoutMs = config.drainTimeoutMs;
  const apply = (next: Config) => {
    recorder.reload(next);
    drainTimeoutMs = next.drainTimeoutMs;
  };
  reloadOnSignal({ loaded: config, running: effective, load, apply, logger });
  logger.info('ready');
  manager.ready(describeMode(config, clickhouse));
  const signal = await asked;
  manager.stopping(drainTimeoutMs + STOP_MARGIN_MS);
  logger.info(`${signal}: draining, at most ${drainTimeoutMs} ms`);
  const result = await recorder.stop(drainTimeoutMs);
  await server?.stop();
  manager.close();
  const lines = describeStop(result, config.walDir);
  for (const line of lines) logger.warn(line);
  logger.info(lines.length === 0 ? 'stopped, nothing left to deliver' : 'stopped');
  return result;
}

/** Adds `recorder serve`. */
export function registerServe(program: Command): void {
  const command = program
    .command('serve')
    .description('record what producers send, and deliver it to ClickHouse')
    .option('--embedded', 'start, supervise and stop an embedded ClickHouse server and deliver to it')
    .option('--allow-missing-segments', 'start although segments of the WAL are missing; their rows are lost')
    .option('--json', 'print one JSON object as the last line');
  addSettingFlags(command).action(async (options: ServeOptions) => {
    try {
      const allowMissingSegments = options.allowMissingSegments === true;
      const config = { ...configOf(command), allowMissingSegments };
      const logger = await createLogger('recorder', config.logLevel);
      endOnFault(logger);
      warnUnknownVariables(logger, config);
      const load = () => ({ ...configOf(command), allowMissingSegments });
      const result = await serve(config, load, options.embedded === true, logger);
      if (options.json === true) printLine(toJson(result));
      // What waits for ClickHouse is safe, and the next start's. A disk or a flusher that failed is not.
      const isDone = result.durable && result.undelivered?.failure === undefined;
      // The engine's and the client's sockets must not keep a drained process alive.
      process.exit(isDone ? 0 : 1);
    } catch (error) {
      reportFailure(error, options.json === true);
      process.exit(1);
    }
  });
}
