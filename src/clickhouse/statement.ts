// Reads just enough of a statement to serve it as ClickHouse's HTTP interface does: where the data of an
// insert begins and in which format it is, which output format a query names, whether a second statement
// follows. Pure; works on the text decoded as Latin-1, so that positions in the text are positions in the
// bytes.

/** How a statement is to be run. */
export type StatementPlan =
  | { kind: 'query'; format: string | null; readsProcesses: boolean }
  /** `head` ends before FORMAT or VALUES; the data begins at `dataOffset`. */
  | { kind: 'insert'; headLength: number; format: string; dataOffset: number }
  /** `INSERT … SELECT … FROM input(…)`: the engine's interface has no way to give it data. */
  | { kind: 'insert_input' }
  | { kind: 'insert_without_data' }
  /** `SELECT … INTO OUTFILE`: would write a file on the server. */
  | { kind: 'outfile' }
  | { kind: 'multiple' }
  | { kind: 'empty' };

interface Token {
  kind: 'word' | 'text' | 'symbol';
  start: number;
  end: number;
}

const SPACE = /[\s]/;
const WORD_START = /[A-Za-z_]/;
const WORD = /[A-Za-z0-9_]/;

/** End of a quoted text that starts at `start`: a doubled quote and a backslash do not end it. */
function quotedEnd(text: string, start: number): number {
  const quote = text[start];
  let at = start + 1;
  while (at < text.length) {
    const char = text[at];
    if (char === '\\') at += 2;
    else if (char !== quote) at++;
    else if (text[at + 1] === quote) at += 2;
    else return at + 1;
  }
  return text.length;
}

/** Position after blanks and comments. */
function skipBlanks(text: string, start: number): number {
  let at = start;
  for (;;) {
    while (at < text.length && SPACE.test(text[at]!)) at++;
    const line = text.startsWith('--', at) || text.startsWith('#!', at) || text.startsWith('# ', at);
    if (!line && !text.startsWith('/*', at)) return at;
    const close = line ? text.indexOf('\n', at) : text.indexOf('*/', at + 2);
    if (close < 0) return text.length;
    at = close + (line ? 1 : 2);
  }
}

function nextToken(text: string, from: number): Token | null {
  const start = skipBlanks(text, from);
  if (start >= text.length) return null;
  const char = text[start]!;
  if (char === "'" || char === '"' || char === '`')
    return { kind: 'text', start, end: quotedEnd(text, start) };
  if (char === '$') {
    const tag = /^\$[A-Za-z0-9_]*\$/.exec(text.slice(start, start + 64))?.[0];
    const close = tag === undefined ? -1 : text.indexOf(tag, start + tag.length);
    if (tag !== undefined && close >= 0) return { kind: 'text', start, end: close + tag.length };
  }
  if (!WORD_START.test(char)) {
    // A number takes its letters along, so that 1e5 or 0xFORMAT never begins a word.
    let end = start + 1;
    if (/[0-9]/.test(char)) while (end < text.length && WORD.test(text[end]!)) end++;
    return { kind: 'symbol', start, end };
  }
  let end = start + 1;
  while (end < text.length && WORD.test(text[end]!)) end++;
  return { kind: 'word', start, end };
}

/**
 * Where an insert's data begins after the name of its format: blanks and one line end, or a semicolon, are
 * skipped.
 */
function dataStart(text: string, formatEnd: number): number {
  let at = formatEnd;
  while (text[at] === ' ' || text[at] === '\t' || text[at] === '\f') at++;
  if (text[at] === ';') {
    at++;
    while (text[at] === ' ' || text[at] === '\t' || text[at] === '\f') at++;
  }
  if (text[at] === '\r' && text[at + 1] === '\n') return at + 2;
  return text[at] === '\n' ? at + 1 : at;
}

/**
 * Plans the statement whose text is `text`: for an insert the data may follow, complete or cut off anywhere.
 */
export function planStatement(text: string): StatementPlan {
  const first = nextToken(text, 0);
  if (first === null) return { kind: 'empty' };
  const word = text.slice(first.start, first.end).toUpperCase();
  return word === 'INSERT' ? planInsert(text, first) : planQuery(text, first);
}

function planInsert(text: string, first: Token): StatementPlan {
  let depth = 0;
  let select = false;
  let input = false;
  for (let token = nextToken(text, first.end); token !== null; token = nextToken(text, token.end)) {
    const word = text.slice(token.start, token.end).toUpperCase();
    if (word === '(') depth++;
    if (word === ')') depth--;
    if (token.kind !== 'word') continue;
    if (word === 'INPUT' && select) input ||= text[skipBlanks(text, token.end)] === '(';
    if (depth > 0) continue;
    if (word === 'SELECT' || word === 'WITH' || word === 'WATCH') select = true;
    if (word === 'INFILE') return { kind: 'query', format: null, readsProcesses: false };
    if (select) continue;
    if (word === 'VALUES') {
      return { kind: 'insert', headLength: token.start, format: 'Values', dataOffset: token.end };
    }
    const name = word === 'FORMAT' ? nextToken(text, token.end) : null;
    if (name?.kind === 'word') {
      const format = text.slice(name.start, name.end);
      return { kind: 'insert', headLength: token.start, format, dataOffset: dataStart(text, name.end) };
    }
  }
  if (input) return { kind: 'insert_input' };
  return select ? { kind: 'query', format: null, readsProcesses: false } : { kind: 'insert_without_data' };
}

function planQuery(text: string, first: Token): StatementPlan {
  let format: string | null = null;
  let readsProcesses = false;
  let before = '';
  for (let token: Token | null = first; token !== null; token = nextToken(text, token.end)) {
    const piece = text.slice(token.start, token.end);
    if (piece === ';')
      return nextToken(text, token.end) === null
        ? { kind: 'query', format, readsProcesses }
        : { kind: 'multiple' };
    if (token.kind === 'word') {
      if (before === 'FORMAT') format = piece;
      if (before === 'INTO' && piece.toUpperCase() === 'OUTFILE') return { kind: 'outfile' };
      if (piece === 'processes') readsProcesses = true;
    }
    before = token.kind === 'word' ? piece.toUpperCase() : piece;
  }
  return { kind: 'query', format, readsProcesses };
}

// The engine names its own query ids; the id that the client gave travels as log_comment, which
// system.processes shows.
const CLIENT_ID = "if(Settings['log_comment'] != '', Settings['log_comment'], query_id)";
const PROCESSES = `(SELECT * REPLACE (${CLIENT_ID} AS query_id) FROM system.processes)`;

/** Rewrites `FROM system.processes` so that query_id is the id that the client gave. */
export function showClientQueryIds(text: string): string {
  let result = '';
  let copied = 0;
  let before = '';
  for (let token = nextToken(text, 0); token !== null; token = nextToken(text, token.end)) {
    const piece = text.slice(token.start, token.end);
    const match = /^system\s*\.\s*processes\b/.exec(text.slice(token.start, token.start + 64))?.[0];
    if (token.kind === 'word' && match !== undefined && /^(FROM|JOIN|,)$/.test(before)) {
      result += text.slice(copied, token.start) + PROCESSES;
      copied = token.start + match.length;
      token = { kind: 'word', start: token.start, end: copied };
    }
    before = piece.toUpperCase();
  }
  return result + text.slice(copied);
}
