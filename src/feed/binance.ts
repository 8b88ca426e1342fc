// Recorded Binance streams (spot and USD-M futures) → market_data.
//
// A line is JSON, with the receive time (ns, µs or ms since 1970) and a blank before it or without. The
// JSON is a message of a combined stream ({"stream":…,"data":…}), a raw message, or an answer of the REST
// depth endpoint. Lines of other kinds are counted and skipped, the first of each kind is said aloud.

import {
  type ChannelState,
  createChannelState,
  noteSymbol,
  snapshotSymbol,
  toRow,
} from './binance-messages.ts';
import { chooseFiles } from './choose-files.ts';
import type { LineBlock } from './content/line-blocks.ts';
import type { TextFile } from './content/text-file.ts';
import type { EventSource, FeedEvent, ImportOptions } from './event.ts';
import type { FeedReport } from './feed-report.ts';
import { BadLineError, createLineJudge, createLineSource } from './line-source.ts';
import { epochNs } from './wall-clock.ts';

/** Lines that wait for a symbol to be known, at most: a REST snapshot names none. */
const WAITING_LIMIT = 10_000;

/**
 * Opens recorded Binance streams.
 * @throws FeedError for files of another format
 */
export async function openBinance(
  paths: readonly string[],
  options: ImportOptions,
  report: FeedReport,
): Promise<EventSource[]> {
  const chosen = await chooseFiles(paths, 'binance', ['binance'], 'recorded Binance streams', report);
  return chosen.map(({ file }) => openOne(file, options, report));
}

interface ParsedLine {
  line: number;
  receivedNs: bigint | null;
  stream: string;
  message: Record<string, unknown>;
}

function openOne(file: TextFile, options: ImportOptions, report: FeedReport): EventSource {
  const judge = createLineJudge(file.label, report);
  const state = createChannelState(options.symbol ?? null);
  /** Rows from the first snapshot on, until a line names the symbol. Their order stays. */
  let waiting: ParsedLine[] = [];

  const emit = (parsed: ParsedLine, events: FeedEvent[]) => {
    const event = judge.read(parsed.line, () => eventOf(parsed, state));
    if (event === 'skipped') report.skip(file.label, parsed.line, kindOf(parsed));
    else if (event !== null) events.push(event);
  };
  const release = (events: FeedEvent[]) => {
    const lines = waiting;
    waiting = [];
    for (const parsed of lines) emit(parsed, events);
  };

  return createLineSource(file, report, {
    judge,
    toEvents(block: LineBlock) {
      const events: FeedEvent[] = [];
      let line = block.firstLine - 1;
      for (const text of block.text.split('\n')) {
        line++;
        const trimmed = text.trim();
        if (trimmed === '' || trimmed === '\ufeff') continue;
        const parsed = judge.read(line, () => parseLine(trimmed, line));
        if (judge.givenUp) break;
        if (parsed === null) continue;
        noteSymbol(state, parsed.stream, parsed.message);
        if (snapshotSymbol(state, parsed.stream, parsed.message) === null || waiting.length > 0) {
          waiting.push(parsed);
          if (state.symbols.size > 0 || waiting.length > WAITING_LIMIT) release(events);
        } else emit(parsed, events);
      }
      return events;
    },
    finish() {
      const events: FeedEvent[] = [];
      release(events);
      return events;
    },
  });
}

function parseLine(text: string, line: number): ParsedLine {
  const brace = text.indexOf('{');
  const head = brace <= 0 ? '' : text.slice(0, brace).replace('\ufeff', '').trim();
  if (brace < 0 || (head !== '' && !/^\d{10,19}$/.test(head)))
    throw new BadLineError('expected a JSON object, or a receive time, a blank and a JSON object');
  let message: Record<string, unknown>;
  try {
    message = JSON.parse(text.slice(brace)) as Record<string, unknown>;
  } catch (error) {
    throw new BadLineError(`no JSON: ${(error as Error).message}`);
  }
  const receivedNs = head === '' ? null : epochNs(BigInt(head));
  const { stream, data } = message;
  if (typeof stream === 'string' && typeof data === 'object' && data !== null)
    return { line, receivedNs, stream, message: data as Record<string, unknown> };
  return { line, receivedNs, stream: '', message };
}

function eventOf(parsed: ParsedLine, state: ChannelState): FeedEvent | 'skipped' {
  const row = toRow(parsed.stream, parsed.message, parsed.receivedNs, state);
  if (row === null) return 'skipped';
  return {
    topic: 'market_data',
    row,
    eventTimeNs: parsed.receivedNs ?? (row['exch_ts'] as bigint),
  };
}

function kindOf({ stream, message }: ParsedLine): string {
  const type = message['e'];
  if (typeof type === 'string') return `event "${type}"`;
  if (stream !== '') return `stream "${stream.replace(/^[^@]*/, '*')}"`;
  if ('result' in message || 'id' in message) return 'answer to a request';
  return 'message of an unknown kind';
}
