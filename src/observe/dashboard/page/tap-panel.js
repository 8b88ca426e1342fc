// The newest rows of a topic, asked for every two seconds while they can be seen.

import { byId, fillTable, make, setChildren, setText } from './dom.js';
import { counted } from './format.js';

/** @typedef {import('../live.ts').TapRows} TapRows */

const INTERVAL_MS = 2000;
const ROWS = 12;
const PROVENANCE = ['wal_lsn', 'ingest_ts'];
const ORIGIN = ['source', 'session', 'seq'];
const MAX_CELL_CHARS = 60;

let isPaused = false;
let isVisible = false;
let isAsking = false;

/**
 * Offers the topics; those with rows first.
 * @param {readonly string[]} topics
 */
export function showTapTopics(topics) {
  const select = /** @type {HTMLSelectElement} */ (byId('tap-topic'));
  setChildren(select, topics.join(), () => topics.map((topic) => make('option', { value: topic }, topic)));
  if (select.dataset['chosen'] === undefined && topics.includes('market_data')) {
    select.value = 'market_data';
    select.dataset['chosen'] = 'default';
  }
}

/** Begins to ask. */
export function startTap() {
  const pause = byId('tap-pause');
  pause.addEventListener('click', () => {
    isPaused = !isPaused;
    pause.setAttribute('aria-pressed', String(isPaused));
    setText(pause, isPaused ? 'Go on' : 'Pause');
    void ask();
  });
  byId('tap-topic').addEventListener('change', () => void ask(true));
  byId('tap-all').addEventListener('change', () => void ask(true));
  new IntersectionObserver((entries) => {
    isVisible = entries.some(({ isIntersecting }) => isIntersecting);
    void ask();
  }).observe(/** @type {Element} */ (byId('tap').closest('section')));
  setInterval(() => void ask(), INTERVAL_MS);
}

/** @param {boolean} [isWanted] even while paused */
async function ask(isWanted = false) {
  const topic = /** @type {HTMLSelectElement} */ (byId('tap-topic')).value;
  if (topic === '' || isAsking || (!isWanted && (isPaused || !isVisible || document.hidden))) return;
  isAsking = true;
  try {
    const response = await fetch(`/api/tap?topic=${encodeURIComponent(topic)}&limit=${ROWS}`);
    if (!response.ok) throw new Error(`answer ${response.status}`);
    show(topic, /** @type {TapRows} */ (await response.json()));
  } catch {
    setText(byId('tap-note'), 'no answer');
  } finally {
    isAsking = false;
  }
}

/**
 * @param {string} topic
 * @param {TapRows} answer
 */
function show(topic, { rows, columns }) {
  const isAll = /** @type {HTMLInputElement} */ (byId('tap-all')).checked;
  // A column that is empty in every row says nothing.
  const own = columns.filter((name) => isAll || rows.some((row) => !isEmpty(row[name])));
  const names = [...PROVENANCE, ...own, ...ORIGIN];
  const isNumber = (/** @type {string} */ name) => /^-?[\d.]+$/.test(String(rows[0]?.[name] ?? ''));
  const head = names.map((name) => ({ text: name, isNumber: isNumber(name) }));
  fillTable(
    byId('tap'),
    rows.length === 0 ? [] : head,
    rows.map((row) => names.map((name) => cell(row[name]))),
  );
  const note =
    rows.length === 0 ? `No row of ${topic} is durable since the start` : counted(rows.length, 'row');
  setText(byId('tap-note'), isPaused ? `${note}, paused` : note);
}

/** @param {unknown} value */
function isEmpty(value) {
  return (
    value === null ||
    value === '' ||
    (Array.isArray(value) && value.length === 0) ||
    value === 'unknown' ||
    value === '0.000000000'
  );
}

/**
 * What it shows; the whole value is its title where that is longer.
 * @param {unknown} value
 */
function cell(value) {
  if (value === null || value === undefined) return '∅';
  const whole = Array.isArray(value) ? value.join(' ') : String(value);
  const text = Array.isArray(value) ? value.map(tidy).join(' ') : tidy(value);
  const isLong = text.length > MAX_CELL_CHARS;
  if (text === whole && !isLong) return text;
  const shown = isLong ? `${text.slice(0, MAX_CELL_CHARS)}…` : text;
  return make('span', { title: whole.slice(0, 2000) }, shown);
}

/**
 * Decimals without the zeros behind them, times to the microsecond and without the date of today.
 * @param {unknown} value
 */
function tidy(value) {
  const text = String(value);
  if (/^-?\d+\.\d{9}$/.test(text)) return text.replace(/\.?0+$/, '');
  const time = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d\.\d{6})\d{3}Z$/.exec(text);
  if (time === null) return text;
  return time[1] === new Date().toISOString().slice(0, 10) ? `${time[2]}` : `${time[1]} ${time[2]}`;
}
