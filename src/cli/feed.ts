// `recorder feed`: plays recorded market data, or a simulation, into a recorder.

import { Argument, type Command, InvalidArgumentError } from 'commander';
import { describeError, RecorderError } from '../errors.ts';
import { openBinance } from '../feed/binance.ts';
import type { EventSource, ImportOptions } from '../feed/event.ts';
import { FeedError } from '../feed/feed-error.ts';
import { createFeedReport, type FeedReport } from '../feed/feed-report.ts';
import type { FrameSender, SendResult } from '../feed/frame-sender.ts';
import { openLean } from '../feed/lean.ts';
import { openLobster } from '../feed/lobster.ts';
import { parseSpeed } from '../feed/pacer.ts';
import { type PlayProgress, play } from '../feed/play.ts';
import { openSim } from '../feed/sim/simulator.ts';
import { parseCivilDate } from '../feed/wall-clock.ts';
import { topics } from '../schema/registry.ts';
import { startFeedProgress } from './feed-progress.ts';
import { type FeedTarget, openSender, targetOf } from './feed-target.ts';
import { addSettingFlags, printLine, reportFailure, toJson } from './options.ts';

const FEEDS = ['lean', 'binance', 'lobster', 'sim'] as const;
type FeedName = (typeof FEEDS)[number];
const SIM_ROWS = 100_000;

/** Flags of the command as commander gives them. */
export interface FeedFlags {
  udp?: string;
  speed: string;
  rows?: number;
  seed: number;
  symbol?: string;
  date?: string;
  source?: string;
  session?: string;
  ack: boolean;
  connectTimeout: number;
  ackTimeout: number;
  dropRate?: number;
  dropEvery?: number;
  datagramsPerSecond?: number;
  interface?: string;
  json?: boolean;
}

/** Adds `recorder feed`. */
export function registerFeed(program: Command): void {
  const command = program
    .command('feed')
    .description('play recorded market data, or a simulated engine, into a recorder')
    .addArgument(new Argument('<feed>', 'what the files hold; sim needs none').choices(FEEDS))
    .argument('[files...]', 'files (plain, gz, zip) or directories');
  addSettingFlags(command, ['socketPath'])
    .option('--udp <HOST:PORT>', 'send MoldUDP64 datagrams instead; HOST:PORT|HOST:PORT for lines A and B')
    .option(
      '--speed <SPEED>',
      'max, or a multiple of the recorded time: 1x, 10x; several files are merged',
      'max',
    )
    .option('--rows <N>', `most rows to send (sim: default ${SIM_ROWS}, files: all)`, wholeNumber(1))
    .option('--seed <N>', 'seed of sim, and of --drop-rate', wholeNumber(0), 1)
    .option('--symbol <SYMBOL>', 'symbol, where files do not say it')
    .option('--date <YYYY-MM-DD>', 'trading day, where files do not say it')
    .option('--source <NAME>', 'name of this producer (default feed-<feed>)')
    .option(
      '--session <ID>',
      'session id; the same id again sends only what is not durable (default: a new one)',
    )
    .option('--no-ack', 'only write, without session and acknowledgements')
    .option('--connect-timeout <MS>', 'how long to look for the recorder', wholeNumber(0), 30_000)
    .option('--ack-timeout <MS>', 'how long to wait for the last acknowledgement', wholeNumber(0), 60_000)
    .option('--drop-rate <SHARE>', 'UDP: drop this share of the datagrams on purpose, 0 to 1', share)
    .option('--drop-every <N>', 'UDP: drop each n-th datagram on purpose', wholeNumber(1))
    .option('--datagrams-per-second <N>', 'UDP: most datagrams a second (default 60,000)', wholeNumber(1))
    .option('--interface <IP>', 'UDP: address of the interface that multicast leaves through')
    .option('--json', 'print one JSON object as the last line')
    .action(async (feed: FeedName, files: string[], flags: FeedFlags) => {
      try {
        await runFeed(feed, files, flags, targetOf(feed, flags, command));
      } catch (error) {
        reportFailure(error, flags.json === true);
      }
    });
}

function wholeNumber(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text.replaceAll('_', ''));
    if (text.trim() === '' || !Number.isSafeInteger(value) || value < least)
      throw new InvalidArgumentError(`expected a whole number of at least ${least}`);
    return value;
  };
}

function share(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= 1))
    throw new InvalidArgumentError('expected a number from 0 to 1');
  return value;
}

async function runFeed(feed: FeedName, files: string[], flags: FeedFlags, target: FeedTarget): Promise<void> {
  const speed = parseSpeed(flags.speed);
  const report = createFeedReport((level, text) => process.stderr.write(`feed ${feed}: ${level}: ${text}\n`));
  const sources = await openSources(feed, files, flags, report);
  const rows = flags.rows ?? (feed === 'sim' ? SIM_ROWS : null);
  const abort = new AbortController();
  const stop = () => abort.abort();
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);

  const progress: PlayProgress = { rows: 0, rowsByTopic: {} };
  const sender = await openSender(target);
  const startedMs = performance.now();
  const totalBytes = sources.reduce((sum, source) => sum + source.sizeBytes, 0);
  const stopProgress = startFeedProgress(feed, () => {
    const read = sources.reduce((sum, source) => sum + source.readBytes(), 0);
    const byRows = rows === null ? 0 : progress.rows / rows;
    const byBytes = totalBytes === 0 ? 0 : read / totalBytes;
    return { rows: progress.rows, share: Math.min(1, Math.max(byRows, byBytes)) };
  });
  let failure: unknown = null;
  try {
    try {
      await play(sources, sender, { speed, rows, topics, signal: abort.signal }, progress);
    } finally {
      await sender.close();
    }
  } catch (error) {
    if (!(error instanceof RecorderError)) throw error;
    failure = error;
  } finally {
    stopProgress();
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
  const seconds = (performance.now() - startedMs) / 1000;
  finish(
    { feed, target, sender, report, progress, seconds, failure, interrupted: abort.signal.aborted },
    flags,
  );
}

async function openSources(
  feed: FeedName,
  files: string[],
  flags: FeedFlags,
  report: FeedReport,
): Promise<EventSource[]> {
  const options: ImportOptions = { symbol: flags.symbol };
  if (flags.date !== undefined) {
    const date = parseCivilDate(flags.date);
    if (date === null)
      throw new FeedError('feed_usage', `--date ${flags.date}: expected a day as 2013-10-07`);
    options.date = date;
  }
  switch (feed) {
    case 'lean':
      return openLean(files, options, report);
    case 'binance':
      return openBinance(files, options, report);
    case 'lobster':
      return openLobster(files, options, report);
    case 'sim':
      if (files.length > 0) throw new FeedError('feed_usage', `feed sim takes no files: ${files.join(' ')}`);
      return [openSim({ seed: flags.seed, rows: flags.rows ?? SIM_ROWS })];
  }
}

interface FeedOutcome {
  feed: FeedName;
  target: FeedTarget;
  sender: FrameSender;
  report: FeedReport;
  progress: PlayProgress;
  seconds: number;
  failure: unknown;
  interrupted: boolean;
}

/**
 * Says what was sent and sets the exit code: 0 only if all that there was to send was sent and
 * acknowledged.
 */
function finish(outcome: FeedOutcome, flags: FeedFlags): void {
  const { feed, target, report, progress, seconds, failure, interrupted } = outcome;
  const result: SendResult = outcome.sender.result();
  const complete = result.acked === null || result.acked >= result.sent;
  if (failure !== null || interrupted || report.problemCount > 0 || !complete) process.exitCode = 1;
  if (failure !== null) process.stderr.write(`feed ${feed}: error: ${describeError(failure)}\n`);
  if (interrupted) process.stderr.write(`feed ${feed}: stopped by a signal\n`);
  if (flags.json === true) {
    printLine(
      toJson({
        feed,
        sent: result.sent,
        acked: result.acked,
        topics: progress.rowsByTopic,
        alreadyDurable: result.skipped,
        dropped: result.dropped,
        skippedLines: Object.fromEntries(report.skipped),
        badLines: report.badLines,
        problems: report.problems,
        notes: report.notes,
        source: target.source,
        session: target.session,
        bytes: result.bytes,
        seconds: Number(seconds.toFixed(3)),
        rowsPerSecond: Math.round(progress.rows / seconds),
        interrupted,
        ...(failure instanceof RecorderError
          ? { error: { code: failure.code, message: describeError(failure) } }
          : {}),
      }),
    );
    return;
  }
  const topicTexts = Object.entries(progress.rowsByTopic).map(([topic, count]) => `${topic} ${count}`);
  printLine(`sent ${result.sent} (${topicTexts.join(', ')}) in ${seconds.toFixed(1)} s`);
  printLine(
    result.acked === null ? 'no acknowledgements on this way' : `acknowledged as durable: ${result.acked}`,
  );
  for (const [kind, lines] of report.skipped) printLine(`skipped ${lines} lines: ${kind}`);
  for (const { first, last } of result.dropped) printLine(`dropped on purpose: ${first} to ${last}`);
  if (report.problemCount > 0)
    printLine(`problems: ${report.problemCount}, of them bad lines: ${report.badLines}`);
}
