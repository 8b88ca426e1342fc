// What the names of LEAN files say: date, symbol, and the contract of an option.

import { directoriesAbove, type TextFile } from './content/text-file.ts';
import { parseDecimal } from './decimal.ts';
import type { CivilDate, ImportOptions } from './event.ts';
import { FeedError } from './feed-error.ts';
import { daysSinceEpoch, parseCivilDate } from './wall-clock.ts';

const EQUITY = 1;
const OPTION = 3;
const RIGHTS: Record<string, number> = { call: 1, put: 2 };

/** What all rows of a file share. */
export interface Instrument {
  date: CivilDate;
  columns: Record<string, unknown>;
}

/** Words of LEAN's names that are not a symbol. */
const WORDS = new Set(
  'trade quote tick openinterest american european call put equity option usa second minute hour daily'.split(
    ' ',
  ),
);

/** 20140606_aapl_tick_trade_american_call_4500000_20140621: underlying, right, strike x 10,000, expiry. */
const OPTION_NAME = /^(\d{8})_(.+)_tick_(?:trade|quote)_(?:american|european)_(call|put)_(\d+)_(\d{8})$/i;

/**
 * Finds date and symbol: from the options, else from the names of entry, file and folders, in this order.
 * @throws FeedError where one of them is not found
 */
export function instrumentOf(file: TextFile, options: ImportOptions): Instrument {
  const entryName = stem(file.name);
  const fileName = stem(file.path.split('/').at(-1)!);
  const option = OPTION_NAME.exec(entryName);
  const date = options.date ?? dateIn(entryName) ?? dateIn(fileName);
  if (date === null || date === undefined)
    throw new FeedError('feed_unknown_date', `${file.label}: no name says the trading day`, {
      hint: 'LEAN ticks hold only the time of day; pass --date YYYY-MM-DD',
    });
  if (option !== null) return { date, columns: optionColumns(option, options.symbol) };
  const symbol = options.symbol ?? symbolIn(entryName) ?? symbolIn(fileName) ?? symbolOfFolder(file.path);
  if (symbol === null)
    throw new FeedError('feed_unknown_symbol', `${file.label}: no name says the symbol`, {
      hint: 'pass --symbol',
    });
  return { date, columns: { symbol: symbol.toUpperCase(), instrument_type: EQUITY } };
}

function optionColumns(match: RegExpExecArray, symbol: string | undefined): Record<string, unknown> {
  const [, , underlying = '', right = '', strike = '', expiryText = ''] = match;
  const expiry = parseCivilDate(expiryText);
  const name = `${underlying.toUpperCase()}_${expiryText}_${right.toUpperCase()}_${strike}`;
  return {
    symbol: symbol ?? name,
    instrument_type: OPTION,
    underlying: underlying.toUpperCase(),
    strike: parseDecimal(strike, 5),
    option_right: RIGHTS[right.toLowerCase()],
    expiry: expiry === null ? null : daysSinceEpoch(expiry),
  };
}

function stem(name: string): string {
  return name
    .split('/')
    .at(-1)!
    .replace(/(\.(csv|txt|zip|gz))+$/i, '');
}

function dateIn(name: string): CivilDate | null {
  for (const [text] of name.matchAll(/(?<!\d)\d{4}(-?)\d{2}\1\d{2}(?!\d)/g)) {
    const date = parseCivilDate(text);
    if (date !== null) return date;
  }
  return null;
}

/** Only a name with a date in it is one of LEAN's: the "data" of data.csv is not a symbol. */
function symbolIn(name: string): string | null {
  if (dateIn(name) === null) return null;
  const withoutDate = name.replace(/(?<!\d)\d{4}(-?)\d{2}\1\d{2}(?!\d)/g, '');
  for (const part of withoutDate.split('_')) {
    if (/^[A-Za-z][A-Za-z0-9.-]*$/.test(part) && !WORDS.has(part.toLowerCase())) return part;
  }
  return null;
}

/** LEAN's own layout is equity/usa/tick/ibm/20131007_trade.zip; any other folder's name is not a symbol. */
function symbolOfFolder(path: string): string | null {
  const [symbol, resolution] = directoriesAbove(path);
  return resolution?.toLowerCase() === 'tick' && symbol !== undefined ? symbol : null;
}
