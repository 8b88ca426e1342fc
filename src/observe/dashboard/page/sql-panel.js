// Questions to ClickHouse, through the recorder.

import { byId, fillTable, make, setChildren, setText } from './dom.js';
import { counted, seconds, whole } from './format.js';

/** @typedef {import('../live.ts').Live} Live */
/** @typedef {import('../live.ts').SqlAnswer} SqlAnswer */

const SHOWN_CHARS = 200;

/** Connects the form. */
export function startSql() {
  const text = field('sql-text');
  byId('sql-question').addEventListener('change', () => {
    const chosen = /** @type {HTMLSelectElement} */ (byId('sql-question')).selectedOptions[0];
    text.value = chosen?.dataset['sql'] ?? '';
    fit(text);
  });
  text.addEventListener('input', () => fit(text));
  text.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    void run();
  });
  byId('sql-form').addEventListener('submit', (event) => {
    event.preventDefault();
    void run();
  });
}

/**
 * Offers the questions; says why there are none.
 * @param {Live} live
 */
export function showSql({ sql, health }) {
  const { enabled, questions } = sql;
  const button = /** @type {HTMLButtonElement} */ (byId('sql-run'));
  field('sql-text').disabled = !enabled;
  const select = /** @type {HTMLSelectElement} */ (byId('sql-question'));
  select.disabled = !enabled;
  if (button.dataset['running'] !== 'yes') button.disabled = !enabled;
  setChildren(byId('sql-question'), JSON.stringify(questions), () => {
    const [first] = questions;
    const text = field('sql-text');
    if (text.value === '' && first !== undefined) text.value = first.sql;
    fit(text);
    return questions.map(({ title, sql: statement }) => make('option', { 'data-sql': statement }, title));
  });
  const isDown = health.conditions.some(({ tag }) => tag === 'clickhouse_unreachable');
  const note = byId('sql-note');
  if (!enabled) setText(note, 'ClickHouse is off: HFT_CLICKHOUSE_HOST or --embedded turns it on.');
  else if (isDown) setText(note, 'ClickHouse is not reachable now.');
  else if (/^ClickHouse is/.test(note.textContent ?? '')) setText(note, '');
}

async function run() {
  const button = /** @type {HTMLButtonElement} */ (byId('sql-run'));
  if (button.disabled) return;
  button.disabled = true;
  button.dataset['running'] = 'yes';
  setText(byId('sql-note'), 'Asking …');
  try {
    const response = await fetch('/api/sql', {
      method: 'POST',
      headers: { 'x-recorder-action': 'sql', 'content-type': 'text/plain; charset=utf-8' },
      body: field('sql-text').value,
    });
    show(/** @type {SqlAnswer} */ (await response.json()));
  } catch {
    show({ error: 'The recorder did not answer.' });
  } finally {
    button.disabled = false;
    button.dataset['running'] = 'no';
  }
}

/** @param {SqlAnswer} answer */
function show({ error, columns, rows, text, truncated, seconds: time, readRows }) {
  const failed = byId('sql-error');
  failed.hidden = error === undefined;
  setText(failed, error ?? '');
  byId('sql-scroll').hidden = error !== undefined;
  if (error !== undefined) {
    setText(byId('sql-note'), 'Refused');
    return;
  }
  if (columns === undefined || rows === undefined) {
    byId('sql-result').replaceChildren(
      make('tbody', {}, make('tr', {}, make('td', {}, make('pre', {}, text ?? '')))),
    );
    setText(byId('sql-note'), `${seconds(time ?? null)}${truncated ? ', cut short' : ''}`);
    return;
  }
  const head = columns.map(({ name, type }) => ({
    text: name,
    title: type,
    isNumber: /^(Nullable\()?(U?Int|Float|Decimal)/.test(type),
  }));
  fillTable(
    byId('sql-result'),
    head,
    rows.map((row) => row.map(cell)),
  );
  const read = readRows === undefined ? '' : `, ${whole(readRows)} read`;
  setText(
    byId('sql-note'),
    `${counted(rows.length, 'row')}${truncated ? ' (the first ones)' : ''} in ${seconds(time ?? null)}${read}`,
  );
}

/** @param {unknown} value */
function cell(value) {
  if (value === null || value === undefined) return '∅';
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
  return text.length <= SHOWN_CHARS
    ? text
    : make('span', { title: text.slice(0, 4000) }, `${text.slice(0, SHOWN_CHARS)}…`);
}

/** @param {string} id */
function field(id) {
  return /** @type {HTMLTextAreaElement} */ (byId(id));
}

/**
 * As many lines as the text has, within reason.
 * @param {HTMLTextAreaElement} text
 */
function fit(text) {
  text.rows = Math.min(14, Math.max(3, text.value.split('\n').length + 1));
}
