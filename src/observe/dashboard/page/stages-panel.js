// The path of a row as four stages, each with its figures and whether it works: shows where trouble is.

import { byId, make, setChildren, setText } from './dom.js';
import { bytes, counted, rate, seconds, whole } from './format.js';

/** @typedef {import('../live.ts').Live} Live */
/** @typedef {import('../live.ts').Point} Point */
/** @typedef {{ main: string, unit: string, lines: string[] }} Figures */

/** Conditions by the stage that they belong to. */
const STAGE_TAGS = {
  producers: /^(sequence_gap|kernel_drops|streams_|connection)/,
  memory: /^(memory_|rows_shed$)/,
  wal: /^(wal_|sync_|disk_|quarantine_|topic_stopped)/,
  clickhouse: /^(clickhouse_|flusher_|insert_|table_|dead_letters|delivery_)/,
};
const TITLES = { producers: 'Producers', memory: 'Memory', wal: 'WAL and disk', clickhouse: 'ClickHouse' };
const WORDS = {
  healthy: 'well',
  degraded: 'degraded',
  critical: 'critical',
  data_loss: 'data loss',
  off: 'off',
};
const RANK = ['healthy', 'degraded', 'critical', 'data_loss'];

/**
 * Shows the four stages.
 * @param {Live} live
 * @param {Point | undefined} last
 */
export function showStages(live, last) {
  const list = byId('stages');
  const names = /** @type {(keyof typeof TITLES)[]} */ (Object.keys(TITLES));
  setChildren(list, 'made', () => names.map(stageItem));
  const figures = {
    producers: producers(live, last),
    memory: memory(live),
    wal: wal(live, last),
    clickhouse: clickhouse(live, last),
  };
  for (const [i, name] of names.entries()) {
    const item = /** @type {HTMLElement} */ (list.children[i]);
    const state = isOff(live, name) ? 'off' : stateOf(live, name);
    item.dataset['state'] = state;
    const { main, unit, lines } = figures[name];
    setText(part(item, '.word'), WORDS[state]);
    setText(part(item, '.figure'), main);
    setText(part(item, '.unit'), unit);
    setChildren(part(item, '.lines'), lines.join('\n'), () => lines.map((line) => make('li', {}, line)));
  }
}

/**
 * A loader has no producers and no rows in memory.
 * @param {Live} live
 * @param {keyof typeof TITLES} name
 */
function isOff({ delivery, identity }, name) {
  if (name === 'clickhouse') return delivery !== 'on';
  return identity?.mode === 'load' && name !== 'wal';
}

/** @param {keyof typeof TITLES} name */
function stageItem(name) {
  return make(
    'li',
    { class: 'stage', id: `stage-${name}` },
    make('div', { class: 'stage-head' }, make('h3', {}, TITLES[name]), make('span', { class: 'word' })),
    make('p', { class: 'main' }, make('span', { class: 'figure' }), ' ', make('span', { class: 'unit' })),
    make('ul', { class: 'lines' }),
  );
}

/**
 * @param {Element} item
 * @param {string} selector
 */
function part(item, selector) {
  return /** @type {Element} */ (item.querySelector(selector));
}

/**
 * @param {Live} live
 * @param {keyof typeof STAGE_TAGS} stage
 * @returns {keyof typeof WORDS}
 */
function stateOf({ health }, stage) {
  let worst = 0;
  for (const { tag, state, subject } of health.conditions) {
    // Rows are shed for lack of memory or of disk space; the subject says for which.
    const belongs =
      tag === 'rows_shed'
        ? (subject.endsWith('/memory') ? 'memory' : 'wal') === stage
        : STAGE_TAGS[stage].test(tag);
    if (belongs) worst = Math.max(worst, RANK.indexOf(state));
  }
  return /** @type {keyof typeof WORDS} */ (RANK[worst]);
}

/**
 * One value of a metric, or the sum over its labels; null where it has none.
 * @param {Live} live
 * @param {string} name
 * @returns {number | null}
 */
export function sumOf({ values }, name) {
  const all = values[name];
  return all === undefined ? null : Object.values(all).reduce((sum, value) => sum + value, 0);
}

/**
 * @param {Live} live
 * @param {Point | undefined} last
 * @returns {Figures}
 */
function producers(live, last) {
  if (live.identity?.mode === 'load')
    return { main: '–', unit: 'mode load', lines: ['producers are on the page of the recorder'] };
  const total =
    last === undefined ? null : Object.values(last.received).reduce((sum, value) => sum + value, 0);
  const connections = sumOf(live, 'recorder_connections');
  const packets = sumOf(live, 'recorder_udp_packets_total');
  const malformed = sumOf(live, 'recorder_malformed_frames_total') ?? 0;
  return {
    main: rate(total),
    unit: 'rows/s received',
    lines: [
      connections === null ? 'no Unix socket' : counted(connections, 'connection'),
      ...(packets === null ? [] : [counted(packets, 'datagram')]),
      malformed === 0 ? 'no malformed frame' : counted(malformed, 'malformed frame'),
      ...heldBack(live),
    ],
  };
}

/**
 * @param {Live} live
 * @returns {string[]}
 */
function heldBack(live) {
  if (sumOf(live, 'recorder_streams_paused') === 1) return ['producers are held back'];
  const held = sumOf(live, 'recorder_connections_held') ?? 0;
  return held === 0 ? [] : [`${counted(held, 'connection')} held back`];
}

/**
 * @param {Live} live
 * @returns {Figures}
 */
function memory(live) {
  const fill = sumOf(live, 'recorder_memory_fill_ratio');
  const shed = sumOf(live, 'recorder_shed_rows_total') ?? 0;
  const limit = sumOf(live, 'recorder_memory_limit_bytes');
  return {
    main: fill === null ? '–' : `${(fill * 100).toFixed(fill < 0.1 ? 1 : 0)} %`,
    unit: limit === null ? 'of its bound' : `of ${bytes(limit)}`,
    lines: [
      ...(fill === null ? [] : [`${counted(sumOf(live, 'recorder_buffered_rows') ?? 0, 'row')} buffered`]),
      `process ${bytes(sumOf(live, 'process_resident_memory_bytes'))}`,
      shed === 0 ? 'nothing shed' : `${counted(shed, 'row')} shed`,
    ],
  };
}

/**
 * @param {Live} live
 * @param {Point | undefined} last
 * @returns {Figures}
 */
function wal(live, last) {
  const free = sumOf(live, 'recorder_disk_free_bytes');
  const size = sumOf(live, 'recorder_disk_size_bytes');
  const percent = free === null || !size ? '' : ` (${Math.round((100 * free) / size)} %)`;
  const level = Object.entries(live.values['recorder_disk_level'] ?? {}).find(
    ([, value]) => value === 1,
  )?.[0];
  const isLoader = live.identity?.mode === 'load';
  return {
    main: isLoader ? bytes(sumOf(live, 'recorder_wal_bytes')) : seconds(last?.durableP99 ?? null),
    unit: isLoader ? 'on disk' : 'to durable, p99',
    lines: [
      `WAL ${bytes(sumOf(live, 'recorder_wal_bytes'))} in ${counted(sumOf(live, 'recorder_wal_segments') ?? 0, 'segment')}`,
      `disk ${bytes(free)} free${percent}${level === undefined || level === 'ok' ? '' : `, level ${level}`}`,
      `durable up to row ${whole(sumOf(live, 'recorder_durable_lsn') ?? 0)}`,
    ],
  };
}

/**
 * @param {Live} live
 * @param {Point | undefined} last
 * @returns {Figures}
 */
function clickhouse(live, last) {
  if (live.delivery === 'wal_first') {
    return {
      main: 'WAL only',
      unit: 'mode wal_first',
      lines: ['rows wait in the WAL', 'recorder load delivers them'],
    };
  }
  if (live.delivery === 'off') {
    return {
      main: 'Off',
      unit: 'not configured',
      lines: ['rows stay in the WAL', 'HFT_CLICKHOUSE_HOST turns it on'],
    };
  }
  const states = Object.keys(live.values['recorder_flusher_state'] ?? {}).map(
    (key) => key.split('/').at(-1) ?? '',
  );
  const lag = sumOf(live, 'recorder_lag_rows');
  const dead = sumOf(live, 'recorder_dead_letter_rows_total') ?? 0;
  const retries = sumOf(live, 'recorder_insert_retries_total') ?? 0;
  return {
    main: last?.lagSeconds == null ? '–' : seconds(last.lagSeconds),
    unit: 'behind',
    lines: [
      ...(live.answers === true ? ['answers again, rows follow in seconds'] : []),
      lag === null ? 'not connected yet' : `${counted(lag, 'row')} not delivered`,
      `inserting ${rate(last?.inserted ?? null)} rows/s`,
      [...new Set(states)].join(', ') || 'no topic yet',
      ...(retries === 0 ? [] : [counted(retries, 'retry', 'retries')]),
      ...(dead === 0 ? [] : [`${counted(dead, 'row')} refused for good`]),
    ],
  };
}
