// `recorder load`: delivers a WAL to ClickHouse, beside a recorder in mode wal_first or after it.

import type { Command } from 'commander';
import { type EmbeddedServer, startEmbedded } from '../clickhouse/child.ts';
import { type Config, clickhouseUrls } from '../config.ts';
import { RecorderError } from '../errors.ts';
import { createLogger, type Logger } from '../log.ts';
import type { SettingName } from '../settings.ts';
import { type LoaderResult, startLoader } from '../supervisor/loader.ts';
import { startLoadProgress } from './load-progress.ts';
import {
  addSettingFlags,
  CLICKHOUSE_SERVER,
  configOf,
  printLine,
  reportFailure,
  toJson,
  warnUnknownVariables,
} from './options.ts';
import { reloadOnSignal } from './reload-signal.ts';
import { stopSignal } from './stop-signal.ts';

const SETTINGS: readonly SettingName[] = [
  'walDir',
  'clickhouseDisabled',
  ...CLICKHOUSE_SERVER,
  'clickhouseFormat',
  'embeddedPath',
  'flushRows',
  'flushBytes',
  'flushIntervalMs',
  'flushMaxRetries',
  'flushRetryBaseMs',
  'flushRetryMaxMs',
  'drainTimeoutMs',
  'loaderHttp',
  'httpToken',
  'httpTokenFile',
  'logLevel',
  'configFile',
];

/** The longest that a timer can wait: 24 days. */
const NO_DEADLINE_MS = 2 ** 31 - 1;

interface LoadFlags {
  once?: boolean;
  embedded?: boolean;
  allowMissingSegments?: boolean;
  json?: boolean;
}

/** Runs to the end. `loaded` is what was read, `read` reads it again. */
async function load(
  config: Config,
  loaded: Config,
  read: () => Config,
  flags: LoadFlags,
  logger: Logger,
): Promise<LoaderResult> {
  const asked = stopSignal(logger);
  const once = flags.once === true;
  const loader = await startLoader({
    config,
    logger,
    once,
    allowMissingSegments: flags.allowMissingSegments === true,
  });
  logger.info(`delivering ${config.walDir} to database ${config.clickhouseDatabase}`);
  let { drainTimeoutMs } = config;
  const apply = (next: Config) => {
    loader.reload(next);
    drainTimeoutMs = next.drainTimeoutMs;
  };
  reloadOnSignal({ loaded, running: config, load: read, apply, logger });
  const stopProgress = startLoadProgress(() => loader.progress());
  const say = (name: string) => logger.info(`${name}: draining, at most ${drainTimeoutMs} ms`);
  try {
    if (once) {
      void asked.then((name) => {
        say(name);
        loader.hurry(drainTimeoutMs);
      });
      return await loader.drain(NO_DEADLINE_MS);
    }
    const name = await Promise.race([asked, loader.failed]);
    if (name !== undefined) say(name);
    return await loader.drain(drainTimeoutMs);
  } finally {
    stopProgress();
  }
}

function showResult(result: LoaderResult, seconds: number, json: boolean): void {
  const { complete, inserted, deadLettered, left, topics, failure } = result;
  if (failure !== null) reportFailure(failure, false);
  if (json) {
    const rate = seconds > 0 ? Math.round(inserted / seconds) : 0;
    const leftByTopic = Object.fromEntries(left.map(({ topic, rows }) => [topic, rows]));
    const error = failure === null ? {} : { error: { code: failure.code, message: failure.message } };
    printLine(
      toJson({
        complete,
        rows: inserted,
        deadLettered,
        left: leftByTopic,
        topics,
        seconds: Number(seconds.toFixed(3)),
        rowsPerSecond: rate,
        ...error,
      }),
    );
    return;
  }
  const dead = deadLettered === 0 ? '' : `, ${deadLettered} in dead letters (recorder wal ls lists them)`;
  printLine(`${inserted} rows delivered in ${seconds.toFixed(1)} s${dead}`);
  for (const { topic, rows } of left) printLine(`${rows} rows of ${topic} are left in the WAL`);
}

async function run(command: Command, flags: LoadFlags): Promise<void> {
  let embedded: EmbeddedServer | null = null;
  try {
    const loaded = configOf(command);
    let config = loaded;
    const logger = await createLogger('loader', config.logLevel);
    warnUnknownVariables(logger, config);
    if (config.clickhouseDisabled) {
      throw new RecorderError('clickhouse_off', 'ClickHouse is off: there is nowhere to deliver to', {
        hint: 'unset HFT_DISABLE_CLICKHOUSE',
      });
    }
    if (flags.embedded === true) {
      embedded = await startEmbedded({ path: config.embeddedPath, port: config.clickhousePort });
      config = { ...config, clickhouseHosts: [embedded.url], clickhousePort: embedded.port };
    }
    logger.info(`ClickHouse at ${clickhouseUrls(config).join(', ')}`);
    const startedMs = performance.now();
    const result = await load(config, loaded, () => configOf(command), flags, logger);
    showResult(result, (performance.now() - startedMs) / 1000, flags.json === true);
    if (!result.complete) process.exitCode = 1;
  } catch (error) {
    reportFailure(error, flags.json === true);
  } finally {
    await embedded?.stop();
  }
  // Sockets of the client must not keep a drained process alive.
  process.exit();
}

/** Adds `recorder load`. */
export function registerLoad(program: Command): void {
  const command = program
    .command('load')
    .description('deliver a WAL to ClickHouse: beside a recorder in mode wal_first, or after it')
    .option('--once', 'deliver what is there, then end; without it the WAL is tailed until SIGTERM')
    .option('--embedded', 'start and stop an embedded ClickHouse server and deliver to it')
    .option('--allow-missing-segments', 'with --once: go on although segments of the WAL are missing')
    .option('--json', 'print one JSON object as the last line');
  addSettingFlags(command, SETTINGS).action((flags: LoadFlags) => run(command, flags));
}
