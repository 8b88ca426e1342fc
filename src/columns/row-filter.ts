// Conditions on rows as people type them: `price >= 100.5 and symbol = 'SPY' or qty < 10`. Pure; nothing is
// evaluated but what the grammar allows.
//
//   expression  = conjunction { "or" conjunction }
//   conjunction = term { "and" term }
//   term        = "(" expression ")" | column operator value | column "is" [ "not" ] "null"
//   operator    = "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=" | "~" (contains)
//   value       = number | true | false | word | 'text' ('' is one quote within it)
//
// Values are compared as rowAt shows them: numbers and decimals exactly, everything else as text (times in
// ISO 8601 sort as texts). A condition on an array holds where it holds for an element. NULL, and a column
// that the row's topic does not have, meet no condition but `is null`, of a column that it has.

import { RecorderError } from '../errors.ts';

/** The text is not an expression; `position` is the character where it shows. */
export class FilterError extends RecorderError {
  readonly position: number;

  constructor(text: string, position: number, expected: string) {
    super('bad_filter', `condition "${text}", character ${position + 1}: ${expected}`, {
      hint: "for example: price >= 100.5 and symbol = 'SPY'",
    });
    this.position = position;
  }
}

/** A parsed condition. */
export interface RowFilter {
  /** Names of the columns it speaks of. */
  columns: readonly string[];
  matches(row: Readonly<Record<string, unknown>>): boolean;
}

type Predicate = (row: Readonly<Record<string, unknown>>) => boolean;
type Compare = (order: number) => boolean;

const ORDERS: Record<string, Compare> = {
  '=': (order) => order === 0,
  '==': (order) => order === 0,
  '!=': (order) => order !== 0,
  '<>': (order) => order !== 0,
  '<': (order) => order < 0,
  '<=': (order) => order <= 0,
  '>': (order) => order > 0,
  '>=': (order) => order >= 0,
};

interface Token {
  kind: 'word' | 'text' | 'operator' | 'bracket' | 'end';
  value: string;
  position: number;
}

const KINDS = {
  text: "'(?:[^']|'')*'",
  operator: '<=|>=|<>|!=|==|[=<>~]',
  bracket: '[()]',
  word: "[^\\s'()=<>!~]+",
};
const ALTERNATIVES = Object.entries(KINDS).map(([kind, pattern]) => `(?<${kind}>${pattern})`);
const TOKEN = `\\s*(?:${ALTERNATIVES.join('|')})`;
const MAX_DEPTH = 100;

function tokensOf(source: string): Token[] {
  const tokens: Token[] = [];
  const pattern = new RegExp(TOKEN, 'y');
  const end = source.trimEnd().length;
  while (pattern.lastIndex < end) {
    const start = pattern.lastIndex;
    const match = pattern.exec(source);
    if (match === null) {
      const position = start + source.slice(start).search(/\S/);
      throw new FilterError(source, position, 'a column, an operator or a value is expected');
    }
    const [kind, raw] = Object.entries(match.groups!).find(([, value]) => value !== undefined) as [
      Exclude<Token['kind'], 'end'>,
      string,
    ];
    const value = kind === 'text' ? raw.slice(1, -1).replaceAll("''", "'") : raw;
    tokens.push({ kind, value, position: pattern.lastIndex - raw.length });
  }
  tokens.push({ kind: 'end', value: '', position: end });
  return tokens;
}

class FilterParser {
  readonly columns = new Set<string>();
  readonly #source: string;
  readonly #tokens: Token[];
  #index = 0;
  #depth = 0;

  constructor(source: string) {
    this.#source = source;
    this.#tokens = tokensOf(source);
  }

  whole(): Predicate {
    const predicate = this.#expression();
    if (!this.#nextIs('end')) this.#fail('"and" or "or" is expected');
    return predicate;
  }

  get #next(): Token {
    return this.#tokens[this.#index]!;
  }

  #expression(): Predicate {
    const parts = [this.#conjunction()];
    while (this.#takeWord('or')) parts.push(this.#conjunction());
    return parts.length === 1 ? parts[0]! : (row) => parts.some((part) => part(row));
  }

  #conjunction(): Predicate {
    const parts = [this.#term()];
    while (this.#takeWord('and')) parts.push(this.#term());
    return parts.length === 1 ? parts[0]! : (row) => parts.every((part) => part(row));
  }

  #term(): Predicate {
    if (this.#takeBracket('(')) {
      if (++this.#depth > MAX_DEPTH) this.#fail(`at most ${MAX_DEPTH} brackets within each other`);
      const inner = this.#expression();
      if (!this.#takeBracket(')')) this.#fail('")" is expected');
      this.#depth--;
      return inner;
    }
    if (!this.#nextIs('word')) this.#fail('a column is expected');
    const column = this.#take().value;
    this.columns.add(column);
    if (this.#takeWord('is')) {
      const isNegated = this.#takeWord('not');
      if (!this.#takeWord('null')) this.#fail('"null" is expected');
      return (row) => row[column] !== undefined && (row[column] === null) !== isNegated;
    }
    return this.#comparison(column);
  }

  #comparison(column: string): Predicate {
    if (!this.#nextIs('operator')) this.#fail('an operator (= != < <= > >= ~) or "is null" is expected');
    const operator = this.#take().value;
    if (!this.#nextIs('word', 'text')) this.#fail('a value is expected');
    const { value, kind } = this.#take();
    const cell = operator === '~' ? contains(value) : compares(value, kind === 'word', ORDERS[operator]!);
    return (row) => {
      const found = row[column];
      if (found === undefined || found === null) return false;
      return Array.isArray(found) ? found.some(cell) : cell(found);
    };
  }

  #nextIs(...kinds: Token['kind'][]): boolean {
    return kinds.includes(this.#next.kind);
  }

  #take(): Token {
    return this.#tokens[this.#index++]!;
  }

  #takeWord(word: string): boolean {
    const { kind, value } = this.#next;
    const isIt = kind === 'word' && value.toLowerCase() === word;
    if (isIt) this.#index++;
    return isIt;
  }

  #takeBracket(bracket: string): boolean {
    const isIt = this.#next.kind === 'bracket' && this.#next.value === bracket;
    if (isIt) this.#index++;
    return isIt;
  }

  #fail(expected: string): never {
    throw new FilterError(this.#source, this.#next.position, expected);
  }
}

const contains = (part: string) => (cell: unknown) => String(cell).includes(part);

/** A quoted value is a text; a number without quotes is compared as a number where the cell is one. */
function compares(value: string, isBare: boolean, compare: Compare): (cell: unknown) => boolean {
  const number = isBare ? decimalOf(value) : null;
  if (number === null) return (cell) => compare(compareTexts(String(cell), value));
  const float = Number(value);
  return (cell) => {
    const exact = decimalOf(String(cell));
    if (exact !== null) return compare(compareDecimals(exact, number));
    // NaN is neither less nor greater, and equal to nothing.
    if (cell === 'NaN') return compare(Number.NaN);
    // 1e-7, and Infinity: floats that no decimal text holds.
    const asNumber = typeof cell === 'boolean' || cell === '' ? Number.NaN : Number(cell);
    if (!Number.isNaN(asNumber)) return compare(asNumber < float ? -1 : asNumber > float ? 1 : 0);
    return compare(compareTexts(String(cell), value));
  };
}

const compareTexts = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

interface Decimal {
  digits: bigint;
  scale: number;
}

function decimalOf(text: string): Decimal | null {
  const match = /^([+-]?\d{1,60})(?:\.(\d{1,60}))?$/.exec(text);
  if (match === null) return null;
  const fraction = match[2] ?? '';
  return { digits: BigInt(match[1]!.replace('+', '') + fraction), scale: fraction.length };
}

function compareDecimals(a: Decimal, b: Decimal): number {
  const scale = Math.max(a.scale, b.scale);
  const left = a.digits * 10n ** BigInt(scale - a.scale);
  const right = b.digits * 10n ** BigInt(scale - b.scale);
  return left < right ? -1 : left > right ? 1 : 0;
}

/** Parses a condition. @throws FilterError */
export function parseRowFilter(source: string): RowFilter {
  const parser = new FilterParser(source);
  const matches = parser.whole();
  return { columns: [...parser.columns], matches };
}
