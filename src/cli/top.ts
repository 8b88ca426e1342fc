// `recorder top`: a running recorder at a glance, again and again.

import type { Command } from 'commander';
import type { Config } from '../config.ts';
import { RecorderError } from '../errors.ts';
import { realFileSystem } from '../io/real-file-system.ts';
import { readStatus, recorderState } from '../supervisor/status-file.ts';
import { fetchFromRecorder } from './doctor-wal.ts';
import { addSettingFlags, configOf, printLine, reportFailure, toJson } from './options.ts';
import { ratesOf, type TopSample, type TopStatus, topLines } from './top-view.ts';

interface TopFlags {
  once?: boolean;
  interval: string;
  json?: boolean;
}

/** status.json is written each second: two looks at it must be further apart to differ. */
const FILE_PAUSE_MS = 1100;
const HTTP_PAUSE_MS = 500;
const PLAIN_WIDTH = 160;

const HOME = '\u001b[H';
const CLEAR_LINE = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';
const HIDE_CURSOR = '\u001b[?25l';
const SHOW_CURSOR = '\u001b[?25h';

/** A terminal that does not say its size says 0. */
const screenWidth = (): number => process.stdout.columns || PLAIN_WIDTH;

/** Asks the recorder of this WAL, else reads what it last wrote; null where none runs. */
async function look(config: Config): Promise<TopSample | null> {
  const status = await fetchFromRecorder<TopStatus>(config, '/status');
  const written = realFileSystem.exists(config.walDir) ? readStatus(realFileSystem, config.walDir) : null;
  // Another recorder may have the port.
  const isThisOne = written === null || written.walId === String(status?.walId);
  if (status?.topics !== undefined && isThisOne) return { status, source: 'http' };
  if (written === null || recorderState(realFileSystem, config.walDir) !== 'running') return null;
  return { status: written, source: 'file' };
}

function notRunning({ walDir, http }: Config): RecorderError {
  const where = http === '' ? walDir : `${walDir}, none answers on ${http}`;
  return new RecorderError('not_running', `no recorder runs on ${where}`, {
    hint: 'systemctl status recorder',
  });
}

async function once(config: Config, json: boolean): Promise<void> {
  const before = await look(config);
  if (before === null) throw notRunning(config);
  await Bun.sleep(before.source === 'http' ? HTTP_PAUSE_MS : FILE_PAUSE_MS);
  const now = (await look(config)) ?? before;
  if (json) {
    const { status, source } = now;
    const { recorder, pid, updatedAt, malformed, duplicates, gaps } = status;
    const { state, conditions } = status.health ?? { state: null, conditions: [] };
    const input = { malformed, duplicates, gaps };
    printLine(
      toJson({ recorder, pid, source, updatedAt, state, conditions, ...input, topics: ratesOf(before, now) }),
    );
    return;
  }
  for (const line of topLines(before, now, screenWidth())) printLine(line);
}

/** Screen after screen until somebody interrupts. Without a terminal they follow each other as plain text. */
async function live(config: Config, intervalMs: number): Promise<void> {
  const isTerminal = process.stdout.isTTY === true;
  const stop = Promise.withResolvers<void>();
  let isAsked = false;
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      isAsked = true;
      stop.resolve();
    });
  }
  let before: TopSample | null = null;
  if (isTerminal) process.stdout.write(HIDE_CURSOR + HOME + CLEAR_BELOW);
  try {
    while (!isAsked) {
      const now = await look(config);
      const width = screenWidth();
      const lines = now === null ? [`${notRunning(config).message}; waiting`] : topLines(before, now, width);
      if (isTerminal)
        process.stdout.write(
          `${HOME}${lines.map((line) => `${line}${CLEAR_LINE}\n`).join('')}${CLEAR_BELOW}`,
        );
      else process.stdout.write(`${lines.join('\n')}\n\n`);
      // A look at an unchanged file has no rate: the one before it is kept.
      if (now === null || before?.status.updatedAt !== now.status.updatedAt) before = now;
      await Promise.race([Bun.sleep(intervalMs), stop.promise]);
    }
  } finally {
    if (isTerminal) process.stdout.write(SHOW_CURSOR);
  }
}

/** Adds `recorder top`. */
export function registerTop(program: Command): void {
  const command = program
    .command('top')
    .description('show a running recorder: throughput, lag, WAL, ClickHouse, health; again each second')
    .option('--once', 'show it once, then end; exit code 1 where none runs')
    .option('--interval <ms>', 'time between two screens', '1000')
    .option('--json', 'with --once: print one JSON object as the last line');
  addSettingFlags(command, ['walDir', 'http', 'httpToken', 'httpTokenFile']);
  command.action(async (flags: TopFlags) => {
    try {
      const config = configOf(command);
      const intervalMs = /^\d{1,7}$/.test(flags.interval)
        ? Math.max(100, Number(flags.interval))
        : Number.NaN;
      if (Number.isNaN(intervalMs)) {
        throw new RecorderError(
          'bad_option',
          `--interval ${flags.interval}: a number of milliseconds is expected`,
        );
      }
      process.stdout.on('error', () => process.exit());
      if (flags.once === true || flags.json === true) await once(config, flags.json === true);
      else await live(config, intervalMs);
    } catch (error) {
      reportFailure(error, flags.json === true);
    }
    process.exit();
  });
}
