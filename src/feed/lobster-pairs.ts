// Which order book file belongs to which message file. The kinds are told by content, the pairs by name
// where the names say it, and by being the only two where they do not.

import { stat } from 'node:fs/promises';
import { type ChosenFile, chooseFiles } from './choose-files.ts';
import type { TextFile } from './content/text-file.ts';
import type { CivilDate, ImportOptions } from './event.ts';
import { FeedError } from './feed-error.ts';
import type { FeedReport } from './feed-report.ts';
import type { LobsterInstrument } from './lobster-rows.ts';
import { createDayClock, formatCivilDate, parseCivilDate } from './wall-clock.ts';

/** A message file with its order book, where there is one. */
export interface BookPair {
  messages: TextFile;
  book: TextFile | null;
}

/**
 * Finds the pairs among the paths. Of a file that is named alone, the other half is looked for beside it.
 * @throws FeedError where files cannot be paired
 */
export async function pairFiles(paths: readonly string[], report: FeedReport): Promise<BookPair[]> {
  const expected = 'LOBSTER messages or order books';
  const formats = ['lobster-message', 'lobster-orderbook'] as const;
  const all = await chooseFiles(await withPartners(paths), 'lobster', formats, expected, report);
  const messages = all.filter(({ format }) => format === 'lobster-message').map(({ file }) => file);
  const books = all.filter(({ format }) => format === 'lobster-orderbook').map(({ file }) => file);
  if (messages.length === 1 && books.length === 1) return [{ messages: messages[0]!, book: books[0]! }];
  const left = new Map(books.map((file) => [pairKey(file), file]));
  if (left.size < books.length || new Set(messages.map(pairKey)).size < messages.length) throw ambiguous(all);
  const pairs = messages.map((file) => {
    const book = left.get(pairKey(file)) ?? null;
    left.delete(pairKey(file));
    if (book === null) report.note(`${file.label}: no order book file; orders and fills only`);
    return { messages: file, book };
  });
  const [orphan] = left.values();
  if (orphan !== undefined)
    throw new FeedError('feed_unpaired', `${orphan.label}: an order book without its message file`, {
      hint: 'the message file has the times; name it too',
    });
  return pairs;
}

/** Directory and name without the word that tells the two apart. */
function pairKey(file: TextFile): string {
  const name = file.name.replace(/message|orderbook/i, '*');
  return name === file.name ? file.label : name;
}

function ambiguous(files: ChosenFile[]): FeedError {
  const labels = files.map(({ file }) => file.label).join(', ');
  return new FeedError('feed_unpaired', `which order book belongs to which messages? ${labels}`, {
    hint: 'name one pair at a time',
  });
}

/** Adds the other half of files that are named alone, where it lies beside them under LOBSTER's name. */
async function withPartners(paths: readonly string[]): Promise<string[]> {
  const complete = [...paths];
  for (const path of paths) {
    const cut = path.lastIndexOf('/') + 1;
    const name = path.slice(cut);
    const partner = /message/i.test(name)
      ? name.replace(/message/i, 'orderbook')
      : name.replace(/orderbook/i, 'message');
    const candidate = path.slice(0, cut) + partner;
    if (candidate === path || complete.includes(candidate)) continue;
    const found = await stat(candidate).then(
      (status) => status.isFile(),
      () => false,
    );
    if (found) complete.push(candidate);
  }
  return complete;
}

/**
 * Symbol and clock of a pair: from the options, else from names like
 * AAPL_2012-06-21_34200000_57600000_message_10.csv.
 * @throws FeedError where neither says them
 */
export function instrumentOfPair(pair: BookPair, options: ImportOptions): LobsterInstrument {
  const names = [pair.messages, pair.book].flatMap((file) => (file === null ? [] : namesOf(file)));
  const date = options.date ?? firstOf(names, ({ date }) => date);
  if (date === null)
    throw new FeedError('feed_unknown_date', `${pair.messages.label}: no name says the trading day`, {
      hint: 'LOBSTER messages hold only the time of day; pass --date YYYY-MM-DD',
    });
  const symbol = options.symbol ?? firstOf(names, ({ symbol }) => symbol);
  if (symbol === null)
    throw new FeedError('feed_unknown_symbol', `${pair.messages.label}: no name says the symbol`, {
      hint: 'pass --symbol',
    });
  return {
    symbol,
    fillPrefix: `${symbol}-${formatCivilDate(date)}`,
    clock: createDayClock(date, 'America/New_York'),
  };
}

/** Entry name first, then the name of the archive around it. */
function namesOf(file: TextFile): { symbol: string | null; date: CivilDate | null }[] {
  return [file.name, file.path].map((path) => {
    const name = path.slice(path.lastIndexOf('/') + 1);
    const match = /^(?:(.*?)_)?(\d{4}-\d{2}-\d{2})(?:_|\.|$)/.exec(name);
    const [, symbol, day] = match ?? [];
    return {
      symbol: symbol === undefined || symbol === '' ? null : symbol,
      date: day === undefined ? null : parseCivilDate(day),
    };
  });
}

function firstOf<T, U>(list: readonly T[], take: (item: T) => U | null): U | null {
  for (const item of list) {
    const value = take(item);
    if (value !== null) return value;
  }
  return null;
}
