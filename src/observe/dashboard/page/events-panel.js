// Counts of what went wrong since the start, and the latest changes of the health.

import { byId, fillTable, make, setChildren } from './dom.js';
import { timeOfDay, whole } from './format.js';

/** @typedef {import('../live.ts').Live} Live */
/** @typedef {import('../live.ts').HealthChange} HealthChange */

/** Metrics that count what should not happen: name, what it is, what its labels are. */
const COUNTS = /** @type {const} */ ([
  ['recorder_malformed_frames_total', 'Malformed frames', 'quarantine.jsonl says where each came from'],
  ['recorder_gap_sequences_total', 'Sequence numbers missing', 'rows of the table gaps'],
  ['recorder_gap_filled_sequences_total', 'Missing ones that came late', 'nothing to do'],
  ['recorder_udp_kernel_drops_total', 'Datagrams the kernel dropped', 'raise net.core.rmem_max'],
  ['recorder_duplicate_frames_total', 'Frames sent again and recognised', 'nothing to do'],
  ['recorder_shed_rows_total', 'Rows shed', 'lost; by topic and cause'],
  ['recorder_sync_failures_total', 'Syncs that failed', 'look at dmesg'],
  ['recorder_insert_retries_total', 'Insert attempts that failed', 'retried by itself'],
  ['recorder_dead_letter_rows_total', 'Rows refused for good', 'recorder wal replay'],
]);
const SHOWN_CHANGES = 14;
const KINDS = {
  raised: 'begins',
  changed: 'changes',
  cleared: 'is over',
  acknowledged: 'noted',
  more: 'goes on',
};

/**
 * Shows counts and changes.
 * @param {Live} live
 */
export function showEvents(live) {
  const rows = COUNTS.flatMap(([name, title, next]) => {
    const counts = Object.entries(live.values[name] ?? {}).filter(([, value]) => value > 0);
    if (counts.length === 0) return [];
    const total = counts.reduce((sum, [, value]) => sum + value, 0);
    const which = counts.map(([key, value]) => (counts.length === 1 ? key : `${key} ${whole(value)}`));
    return [[title, whole(total), which.join(', '), next]];
  });
  const errors = byId('errors');
  setChildren(errors, JSON.stringify(rows), () => {
    if (rows.length === 0)
      return [make('p', { class: 'empty' }, 'None: no gap, no malformed frame, nothing refused or shed.')];
    const table = make('table', { 'aria-labelledby': 'errors-title' });
    fillTable(
      table,
      [{ text: 'What' }, { text: 'Count', isNumber: true }, { text: 'Which' }, { text: 'Next' }],
      rows,
    );
    return [
      make(
        'div',
        { class: 'scroll', tabindex: '0', role: 'region', 'aria-labelledby': 'errors-title' },
        table,
      ),
    ];
  });
  const changes = joined(live.health.recent).slice(-SHOWN_CHANGES).reverse();
  setChildren(byId('events'), JSON.stringify(changes), () =>
    changes.length === 0
      ? [make('li', { class: 'empty' }, 'Nothing has changed since the start.')]
      : changes.map(({ kind, atMs, to, added, condition }) => {
          const { tag, subject, message } = condition;
          const word = KINDS[/** @type {keyof typeof KINDS} */ (kind)] ?? kind;
          const isOver = kind === 'cleared' || kind === 'acknowledged';
          const lost = added > 0 ? `, ${whole(added)} lost` : '';
          return make(
            'li',
            { 'data-state': isOver ? 'healthy' : condition.state },
            make(
              'time',
              { datetime: new Date(atMs).toISOString(), title: new Date(atMs).toISOString() },
              timeOfDay(atMs),
            ),
            make(
              'span',
              { class: 'change' },
              make('strong', {}, `${subject === '' ? tag : `${tag} ${subject}`} ${word}${lost}`),
              isOver ? ` · now ${to.replace('_', ' ')}` : ` · ${condition.state.replace('_', ' ')}`,
            ),
            make('span', { class: 'hint' }, message),
          );
        }),
  );
}

/**
 * A loss that goes on is one line, with all that it has cost.
 * @param {readonly HealthChange[]} changes oldest first
 */
function joined(changes) {
  /** @type {HealthChange[]} */
  const lines = [];
  for (const change of changes) {
    const { tag, subject } = change.condition;
    const last = lines.findLast(({ condition }) => condition.tag === tag && condition.subject === subject);
    if (change.kind === 'more' && last?.kind === 'more') {
      last.added += change.added;
      last.atMs = change.atMs;
    } else lines.push({ ...change });
  }
  return lines.sort((a, b) => a.atMs - b.atMs);
}
