// The page: asks the recorder once a second and shows the answer. What it shows it has from there alone.

import { redrawCharts, resizeCharts, showCharts } from './charts.js';
import { byId, make, setChildren, setText } from './dom.js';
import { showEvents } from './events-panel.js';
import { ago, timeOfDay } from './format.js';
import { showHealth, showSilence } from './health-panel.js';
import { showSql, startSql } from './sql-panel.js';
import { showStages } from './stages-panel.js';
import { showTapTopics, startTap } from './tap-panel.js';
import { showTopics } from './topics-panel.js';

/** @typedef {import('../live.ts').Live} Live */
/** @typedef {import('../live.ts').Point} Point */

const INTERVAL_MS = 1000;
const TIMEOUT_MS = 4000;
/** Failed questions in a row before the page says so: one may be a restart. */
const SILENT_AFTER = 2;
const MAX_POINTS = 600;
const THEMES = /** @type {const} */ (['auto', 'light', 'dark']);
const THEME_LABELS = { auto: 'as the system has them', light: 'light', dark: 'dark' };

/** @type {Point[]} */
let points = [];
/** @type {Live | null} */
let live = null;
let number = 0;
let startedMs = 0;
let lastMs = 0;
let failures = 0;

async function ask() {
  try {
    const response = await fetch(`/api/live?after=${number}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    take(/** @type {Live} */ (await response.json()));
    failures = 0;
  } catch (error) {
    failures++;
    const reason =
      error instanceof Error && error.message.startsWith('HTTP') ? error.message : 'no connection';
    if (failures >= SILENT_AFTER) showSilence(lastMs, live?.identity?.walDir ?? '', reason);
  }
  setTimeout(ask, INTERVAL_MS);
}

/** @param {Live} answer */
function take(answer) {
  // Another process has another history.
  const isSame = Math.abs(answer.startedMs - startedMs) < 500;
  points = isSame && number > 0 ? [...points, ...answer.points].slice(-MAX_POINTS) : answer.points;
  ({ number, startedMs } = answer);
  live = answer;
  lastMs = Date.now();
  show(answer);
}

/** @param {Live} answer */
function show(answer) {
  const last = points.at(-1);
  const { identity } = answer;
  setText(byId('name'), identity?.name ?? '');
  setText(byId('facts'), factsOf(answer));
  setChildren(byId('clock'), timeOfDay(answer.atMs), () => [
    make('i', { class: 'beat', 'aria-hidden': 'true' }),
    `${timeOfDay(answer.atMs)} UTC`,
  ]);
  setText(byId('wal'), identity === null ? '' : `WAL ${identity.walId} in ${identity.walDir}`);
  showHealth(answer, points);
  showStages(answer, last);
  showTopics(answer, last);
  showEvents(answer);
  showTapTopics(identity?.topics ?? []);
  showSql(answer);
  if (!document.hidden) showCharts(points, identity?.topics ?? [], answer.delivery === 'on');
}

/** @param {Live} answer */
function factsOf({ identity, atMs, startedMs: started }) {
  if (identity === null) return 'starting';
  return `${identity.version} · mode ${identity.mode} · up ${ago((atMs - started) / 1000)}`;
}

async function acknowledge() {
  const button = /** @type {HTMLButtonElement} */ (byId('acknowledge'));
  button.disabled = true;
  try {
    await fetch('/health/acknowledge', { method: 'POST', headers: { 'x-recorder-action': 'acknowledge' } });
  } finally {
    button.disabled = false;
  }
}

/** @param {typeof THEMES[number]} theme */
function setTheme(theme) {
  if (theme === 'auto') delete document.documentElement.dataset['theme'];
  else document.documentElement.dataset['theme'] = theme;
  const button = byId('theme');
  setText(button, theme.charAt(0).toUpperCase() + theme.slice(1));
  button.setAttribute('aria-label', `Colours: ${THEME_LABELS[theme]}`);
  redraw();
}

function redraw() {
  redrawCharts();
  if (live !== null) showCharts(points, live.identity?.topics ?? [], live.delivery === 'on');
}

function start() {
  let theme = THEMES.find((name) => name === localStorage.getItem('theme')) ?? 'auto';
  setTheme(theme);
  byId('theme').addEventListener('click', () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? 'auto';
    localStorage.setItem('theme', theme);
    setTheme(theme);
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  byId('acknowledge').addEventListener('click', acknowledge);
  new ResizeObserver(resizeCharts).observe(byId('charts'));
  startTap();
  startSql();
  void ask();
}

start();
