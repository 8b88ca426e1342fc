// What a text holds, told by its lines. The formats that are not imported are known too, so that a message
// can name them.

import { csvFields } from './csv-rows.ts';

/** Formats that a feed can play. */
export type KnownFormat = 'lean-trade' | 'lean-quote' | 'binance' | 'lobster-message' | 'lobster-orderbook';

export interface Detected {
  /** null: not a format that is played. */
  format: KnownFormat | null;
  /** For messages. */
  description: string;
}

const INTEGER = /^-?\d+$/;
const DECIMAL = /^-?\d+(\.\d+)?$/;
const HEX = /^(0x)?[0-9a-fA-F]*$/;
const VENUE = /^[A-Za-z][A-Za-z0-9_ ]*$|^$/;

interface CsvPattern extends Detected {
  matches: (fields: string[]) => boolean;
}

const isMilliseconds = (text: string | undefined) => DECIMAL.test(text ?? '') && Number(text) < 86_400_000;
const all = (fields: string[], pattern: RegExp) => fields.every((field) => pattern.test(field));

/** First match wins. */
const CSV_PATTERNS: readonly CsvPattern[] = [
  {
    format: 'lean-trade',
    description: 'LEAN tick trades',
    matches: (f) =>
      f.length === 6 &&
      isMilliseconds(f[0]) &&
      all(f.slice(1, 3), DECIMAL) &&
      VENUE.test(f[3]!) &&
      HEX.test(f[4]!) &&
      /^[01]$/.test(f[5]!),
  },
  {
    format: 'lean-quote',
    description: 'LEAN tick quotes',
    matches: (f) =>
      (f.length === 8 || f.length === 7) &&
      isMilliseconds(f[0]) &&
      all(f.slice(1, 5), DECIMAL) &&
      VENUE.test(f[5]!) &&
      /^[01]$/.test(f.at(-1)!),
  },
  {
    format: 'lobster-message',
    description: 'LOBSTER messages',
    matches: (f) =>
      (f.length === 6 || f.length === 7) &&
      DECIMAL.test(f[0]!) &&
      Number(f[0]) <= 86_400 &&
      /^[1-7]$/.test(f[1]!) &&
      all(f.slice(2, 5), INTEGER) &&
      /^(-?1|0)$/.test(f[5]!),
  },
  {
    format: null,
    description: 'LEAN hour or daily bars',
    matches: (f) => /^\d{8} \d{2}:\d{2}/.test(f[0] ?? '') && f.length >= 6,
  },
  {
    format: null,
    description: 'LEAN second or minute trade bars',
    matches: (f) => f.length === 6 && isMilliseconds(f[0]) && all(f, DECIMAL),
  },
  {
    format: null,
    description: 'LEAN second or minute quote bars',
    matches: (f) =>
      f.length === 11 && isMilliseconds(f[0]) && f.every((field) => field === '' || DECIMAL.test(field)),
  },
  {
    format: null,
    description: 'LEAN tick quotes of a crypto pair (no venue)',
    matches: (f) => f.length === 5 && isMilliseconds(f[0]) && all(f, DECIMAL),
  },
  {
    format: null,
    description: 'LEAN ticks of a crypto or forex pair (no venue)',
    matches: (f) => f.length === 3 && isMilliseconds(f[0]) && all(f, DECIMAL),
  },
  {
    format: null,
    description: 'LEAN open interest',
    matches: (f) => f.length === 2 && isMilliseconds(f[0]) && all(f, DECIMAL),
  },
  {
    format: 'lobster-orderbook',
    description: 'a LOBSTER order book',
    matches: (f) => f.length >= 4 && f.length % 4 === 0 && all(f, INTEGER),
  },
];

/** Tells the format from the first lines of a text (without line ends, none blank). */
export function detectFormat(lines: readonly string[]): Detected {
  const first = lines[0];
  if (first === undefined) return { format: null, description: 'empty' };
  if (/^(\d{10,19}\s+)?\{/.test(first)) return detectJson(lines);
  if (first.startsWith('[')) return { format: null, description: 'a JSON array' };
  const votes = new Map<CsvPattern, number>();
  for (const line of lines) {
    const fields = csvFields(line);
    const pattern = CSV_PATTERNS.find(({ matches }) => matches(fields));
    if (pattern !== undefined) votes.set(pattern, (votes.get(pattern) ?? 0) + 1);
  }
  // A bad line at the top does not hide what the others say.
  const [best] = [...votes].sort((a, b) => b[1] - a[1]);
  if (best !== undefined && best[1] * 2 > lines.length) return best[0];
  return { format: null, description: `text of an unknown format (first line "${shortened(first)}")` };
}

function detectJson(lines: readonly string[]): Detected {
  const binance = lines.some((line) =>
    /"(stream|e|lastUpdateId|bookTicker)"\s*:|"u"\s*:\s*\d+\s*,\s*"s"/.test(line),
  );
  if (binance) return { format: 'binance', description: 'Binance market streams' };
  return {
    format: null,
    description: `JSON lines of an unknown kind (first line "${shortened(lines[0]!)}")`,
  };
}

function shortened(line: string): string {
  return line.length > 60 ? `${line.slice(0, 60)}…` : line;
}
