// `recorder wal replay`: sends rows of a WAL that their tables lack, or dead letters.

import type { Command } from 'commander';
import { type EmbeddedServer, startEmbedded } from '../clickhouse/child.ts';
import type { Config } from '../config.ts';
import { RecorderError } from '../errors.ts';
import { realFileSystem } from '../io/real-file-system.ts';
import type { SettingName } from '../settings.ts';
import { probeCapabilities } from '../sink/capabilities.ts';
import { connectClickHouse } from '../sink/clickhouse-client.ts';
import { clickhouseAddress } from '../supervisor/clickhouse-address.ts';
import { type ReplayCounts, type ReplayOptions, replayTopic, topicsOf } from '../supervisor/replay/replay.ts';
import { type ReplayedLetter, replayDeadLetters } from '../supervisor/replay/replay-dead-letters.ts';
import { acquireLock } from '../wal/lock.ts';
import { addSettingFlags, CLICKHOUSE_SERVER, configOf, printLine, toJson } from './options.ts';
import { parseReplayFilter, type ReplayFlags } from './replay-flags.ts';
import { directoryOf, guarded, JSON_FLAG } from './wal-command.ts';

const SETTINGS: readonly SettingName[] = [
  'walDir',
  ...CLICKHOUSE_SERVER,
  'clickhouseFormat',
  'embeddedPath',
  'flushRows',
  'flushBytes',
  'flushMaxRetries',
  'flushRetryBaseMs',
  'flushRetryMaxMs',
];

const LOCK_DIRECTORY = 'replay';

/** Runs `action` with a server, as the only replay of this directory. */
async function withServer(
  config: Config,
  dir: string,
  flags: ReplayFlags,
  action: (options: Omit<ReplayOptions, 'onDamage'>) => Promise<void>,
): Promise<void> {
  const abort = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => abort.abort());
  realFileSystem.mkdir(`${dir}/${LOCK_DIRECTORY}`);
  const lock = acquireLock(realFileSystem, `${dir}/${LOCK_DIRECTORY}`);
  let embedded: EmbeddedServer | null = null;
  try {
    if (flags.embedded === true) embedded = await startEmbedded({ path: config.embeddedPath });
    const client = connectClickHouse(
      embedded === null ? clickhouseAddress(config) : clickhouseAddress(config, [embedded.url]),
    );
    try {
      await action({
        fileSystem: realFileSystem,
        dir,
        client,
        database: config.clickhouseDatabase,
        capabilities: await probeCapabilities(client),
        format: config.clickhouseFormat,
        limits: { rows: config.flushRows, bytes: config.flushBytes },
        maxRetries: config.flushMaxRetries,
        retryBaseMs: config.flushRetryBaseMs,
        retryMaxMs: config.flushRetryMaxMs,
        id: `recorder-replay-${crypto.randomUUID()}`,
        signal: abort.signal,
        dryRun: flags.dryRun === true,
      });
    } finally {
      await client.close();
    }
    if (abort.signal.aborted) throw new RecorderError('interrupted', 'the replay was interrupted');
  } finally {
    await embedded?.stop();
    lock.release();
  }
}

const NOTHING: ReplayCounts = { selected: 0, present: 0, sent: 0, pending: 0 };

function sum(all: readonly ReplayCounts[]): ReplayCounts {
  const total = { ...NOTHING };
  for (const counts of all)
    for (const key of Object.keys(NOTHING) as (keyof ReplayCounts)[]) total[key] += counts[key];
  return total;
}

async function replayRows(options: Omit<ReplayOptions, 'onDamage'>, flags: ReplayFlags): Promise<void> {
  const filter = parseReplayFilter(flags);
  const models = topicsOf(options.fileSystem, options.dir);
  if (filter.topic !== null && !models.some(({ topic }) => topic === filter.topic)) {
    const known = models.map(({ topic }) => topic).join(', ');
    throw new RecorderError('bad_option', `--topic ${filter.topic}: the WAL has ${known || 'no topic'}`);
  }
  const damaged: { firstLsn: bigint; lastLsn: bigint; reason: string }[] = [];
  const topics: Record<string, ReplayCounts> = {};
  const verb = options.dryRun ? 'to be sent' : 'sent';
  for (const [index, model] of models.entries()) {
    if (filter.topic !== null && filter.topic !== model.topic) continue;
    const counts = await replayTopic(
      {
        ...options,
        onDamage: ({ firstLsn, lastLsn, reason, topic }) => {
          // Damage without a topic shows to every topic's cursor: it is told once.
          if (topic === null && filter.topic === null && index > 0) return;
          damaged.push({ firstLsn, lastLsn, reason });
          process.stderr.write(`recorder: rows ${firstLsn} to ${lastLsn} cannot be read: ${reason}\n`);
        },
      },
      model,
      filter,
    );
    topics[model.topic] = counts;
    if (flags.json === true || counts.selected === 0) continue;
    const { selected, present, sent, pending } = counts;
    const left = pending === 0 ? '' : `, ${pending} not delivered yet: left to the flusher`;
    printLine(`${model.topic}: ${selected} rows selected, ${present} there already, ${sent} ${verb}${left}`);
  }
  const total = sum(Object.values(topics));
  if (damaged.length > 0) process.exitCode = 1;
  if (flags.json === true) printLine(toJson({ dryRun: options.dryRun, ...total, topics, damaged }));
  else printLine(`${total.selected} rows selected, ${total.present} there already, ${total.sent} ${verb}`);
}

function letterText({ topic, firstLsn, lastLsn, rowCount, outcome, sent, message }: ReplayedLetter): string {
  const what = `${topic} LSN ${firstLsn} to ${lastLsn}, ${rowCount} rows`;
  switch (outcome) {
    case 'replayed':
      return `${what}: ${sent} sent`;
    case 'present':
      return `${what}: all there already`;
    case 'unfinished':
      return `${what}: the flusher has not finished it`;
    case 'failed':
      return `${what}: stays: ${message}`;
  }
}

async function replayLetters(options: Omit<ReplayOptions, 'onDamage'>, flags: ReplayFlags): Promise<void> {
  const withDamage = { ...options, onDamage: () => {} };
  const say = (letter: ReplayedLetter) => {
    if (flags.json !== true) printLine(`${options.dryRun ? 'would be: ' : ''}${letterText(letter)}`);
  };
  const letters = await replayDeadLetters(withDamage, flags.topic ?? null, say);
  const isDone = ({ outcome }: ReplayedLetter) => outcome === 'replayed' || outcome === 'present';
  const left = letters.filter((letter) => !isDone(letter)).length;
  if (left > 0) process.exitCode = 1;
  const sent = letters.reduce((total, letter) => total + letter.sent, 0);
  if (flags.json === true) printLine(toJson({ dryRun: options.dryRun, sent, left, letters }));
  else
    printLine(
      `${letters.length} dead letters, ${sent} rows ${options.dryRun ? 'to be sent' : 'sent'}, ${left} stay`,
    );
}

/** Adds `recorder wal replay` to `wal`. */
export function addReplay(wal: Command): void {
  const command = wal
    .command('replay [dir]')
    .description(
      'send rows of a WAL, or of its archive, that their tables lack; rows that are there are not sent again',
    )
    .option('--topic <name>', 'only rows of this topic')
    .option('--from-lsn <lsn>', 'first LSN')
    .option('--to-lsn <lsn>', 'last LSN, included')
    .option('--source <name>', 'only rows of this source')
    .option('--session <id>', 'only rows of this session')
    .option('--from-seq <n>', 'first sequence number; with --source and --session')
    .option('--to-seq <n>', 'last sequence number, included')
    .option('--from-time <time>', 'first ingest_ts: 2026-01-31T09:30:00.000000000Z, or ns since 1970')
    .option('--to-time <time>', 'end of ingest_ts, not included')
    .option('--dead-letters', 'replay groups that the server refused; done ones go to dead-letter/replayed')
    .option('--dry-run', 'only say what would be sent')
    .option('--embedded', 'start and stop the embedded ClickHouse server of a recorder that has stopped')
    .option(...JSON_FLAG);
  addSettingFlags(command, SETTINGS).action((argument: string | undefined, flags: ReplayFlags) =>
    guarded(flags.json, async () => {
      const dir = directoryOf(command, argument, realFileSystem);
      parseReplayFilter(flags);
      await withServer(configOf(command), dir, flags, (options) =>
        flags.deadLetters === true ? replayLetters(options, flags) : replayRows(options, flags),
      );
    }),
  );
}
