// The verdict: is all well, what is wrong, what to type.

import { byId, commandLine, make, setChildren, setText } from './dom.js';
import { ago, counted, rate, seconds, whole } from './format.js';

/** @typedef {import('../live.ts').Live} Live */
/** @typedef {import('../live.ts').Condition} Condition */
/** @typedef {import('../live.ts').Point} Point */

const TITLES = {
  healthy: 'All is well',
  degraded: 'Degraded',
  critical: 'Critical',
  data_loss: 'Data was lost',
  silent: 'The recorder does not answer',
};
const MARKS = { healthy: '✓', degraded: '!', critical: '✕', data_loss: '✕', silent: '?' };
const ICON_COLORS = {
  healthy: '2e9e5b',
  degraded: 'd99100',
  critical: 'd6336c',
  data_loss: 'd6336c',
  silent: '888888',
};

/** How long nothing must have come before the verdict says so. */
const QUIET_SECONDS = 10;

/**
 * Shows the state of the whole, its conditions and what to type.
 * @param {Live} live
 * @param {Point[]} points
 */
export function showHealth(live, points) {
  const { state, conditions, since } = live.health;
  setState(state);
  setText(byId('verdict-title'), titleOf(state, conditions.length));
  setText(
    byId('verdict-line'),
    `${sentence(live, points)} · ${state.replace('_', ' ')} for ${ago((live.atMs - Date.parse(since)) / 1000)}`,
  );
  setChildren(byId('conditions'), JSON.stringify(conditions.map(keyOf)), () => conditions.map(conditionItem));
  for (const [i, { sinceMs }] of conditions.entries()) {
    const time = byId('conditions').children[i]?.querySelector('time');
    if (time) setText(time, `for ${ago((live.atMs - sinceMs) / 1000)}`);
  }
  const back = byId('back');
  back.hidden = live.answers !== true;
  byId('acknowledge-box').hidden = !conditions.some((condition) => condition.state === 'data_loss');
}

/**
 * Shows that the recorder does not answer.
 * @param {number} lastMs time of its last answer, 0: never
 * @param {string} walDir
 * @param {string} reason
 */
export function showSilence(lastMs, walDir, reason) {
  setState('silent');
  setText(byId('verdict-title'), TITLES.silent);
  const last = lastMs === 0 ? 'no answer yet' : `last answer ${ago((Date.now() - lastMs) / 1000)} ago`;
  setText(byId('verdict-line'), `${last} · ${reason} · figures below are old`);
  setChildren(byId('conditions'), 'silent', () => [
    make(
      'li',
      { 'data-state': 'critical' },
      make('p', { class: 'what' }, 'Look whether it runs, and what it said last.'),
      commandLine('systemctl status recorder'),
      commandLine('journalctl -u recorder -n 50'),
      ...(walDir === '' ? [] : [commandLine(`recorder wal verify ${walDir}`)]),
    ),
  ]);
  byId('back').hidden = true;
  byId('acknowledge-box').hidden = true;
}

/**
 * @param {keyof typeof TITLES} state
 */
function setState(state) {
  const verdict = byId('verdict');
  if (verdict.dataset['state'] === state) return;
  verdict.dataset['state'] = state;
  document.documentElement.dataset['state'] = state;
  setText(byId('verdict-mark'), MARKS[state]);
  document.title = `${state === 'healthy' ? '' : `${MARKS[state]} ${TITLES[state]} · `}recorder ${byId('name').textContent}`;
  const circle = `<circle cx='8' cy='8' r='6' fill='#${ICON_COLORS[state]}'/>`;
  const image = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>${circle}</svg>`;
  byId('icon').setAttribute('href', `data:image/svg+xml,${encodeURIComponent(image)}`);
}

/**
 * @param {keyof typeof TITLES} state
 * @param {number} count
 */
function titleOf(state, count) {
  return count > 1 ? `${TITLES[state]} · ${counted(count, 'problem')}` : TITLES[state];
}

/**
 * What happens now, in one line.
 * @param {Live} live
 * @param {Point[]} points
 */
function sentence(live, points) {
  const last = points.at(-1);
  if (live.notReady.length > 0) return `Not recording: ${live.notReady.join('; ')}`;
  if (last === undefined) return 'Starting';
  const total = sum(last.received);
  const isLoader = live.identity?.mode === 'load';
  const parts = isLoader
    ? [`delivering ${rate(last.inserted ?? 0)} rows/s`]
    : [total > 0 ? `recording ${rate(total)} rows/s` : quiet(points)];
  if (total > 0 && last.durableP99 !== null) parts.push(`durable within ${seconds(last.durableP99)}`);
  if (live.delivery === 'on' && last.lagRows !== null) {
    const lag = last.lagSeconds ?? 0;
    parts.push(
      lag > 2 ? `ClickHouse ${seconds(lag)} behind (${whole(last.lagRows)} rows)` : 'ClickHouse keeps up',
    );
  }
  const text = parts.join(' · ');
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** @param {Point[]} points */
function quiet(points) {
  const lastBusy = points.findLast((point) => sum(point.received) > 0);
  const now = points.at(-1)?.atMs ?? 0;
  if (lastBusy === undefined) return 'ready; no rows have come in the last minutes';
  const silent = (now - lastBusy.atMs) / 1000;
  return silent < QUIET_SECONDS ? 'no rows this second' : `no rows for ${ago(silent)}`;
}

/** @param {Record<string, number>} values */
function sum(values) {
  return Object.values(values).reduce((total, value) => total + value, 0);
}

/** @param {Condition} condition */
function keyOf({ tag, subject, state, message, command, count }) {
  return [tag, subject, state, message, command, count];
}

/** @param {Condition} condition */
function conditionItem({ tag, subject, state, message, command, count }) {
  const lost = count > 0 ? [make('strong', {}, `${whole(count)} lost`), ' · '] : [];
  return make(
    'li',
    { 'data-state': state },
    make('p', { class: 'what' }, ...lost, message.charAt(0).toUpperCase() + message.slice(1)),
    commandLine(command),
    make(
      'p',
      { class: 'tag' },
      make('span', { class: 'badge', 'data-state': state }, state.replace('_', ' ')),
      ` ${subject === '' ? tag : `${tag} · ${subject}`} · `,
      make('time', {}, ''),
    ),
  );
}
