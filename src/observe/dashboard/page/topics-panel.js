// One line a topic: what comes in, what is durable, what is delivered.

import { byId, fillTable } from './dom.js';
import { rate, seconds, whole } from './format.js';

/** @typedef {import('../live.ts').Live} Live */
/** @typedef {import('../live.ts').Point} Point */

/**
 * Shows the topics.
 * @param {Live} live
 * @param {Point | undefined} last
 */
export function showTopics(live, last) {
  const delivers = live.delivery === 'on';
  const head = [
    { text: 'Topic' },
    { text: 'Rows/s', isNumber: true },
    { text: 'Received', isNumber: true, title: 'recorder_received_rows_total' },
    { text: 'Durable', isNumber: true, title: 'recorder_durable_rows_total' },
    ...(delivers
      ? [
          { text: 'Inserted', isNumber: true, title: 'recorder_inserted_rows_total, earlier runs included' },
          { text: 'Lag, rows', isNumber: true, title: 'recorder_lag_rows' },
          { text: 'Lag, age', isNumber: true, title: 'recorder_lag_seconds' },
          { text: 'Delivery', title: 'recorder_flusher_state' },
        ]
      : []),
    { text: 'Shed', isNumber: true, title: 'recorder_shed_rows_total' },
  ];
  const rows = (live.identity?.topics ?? []).map((topic) => [
    topic,
    rate(last?.received[topic] ?? null),
    count(live, 'recorder_received_rows_total', topic),
    count(live, 'recorder_durable_rows_total', topic),
    ...(delivers
      ? [
          count(live, 'recorder_inserted_rows_total', topic),
          count(live, 'recorder_lag_rows', topic),
          seconds(live.values['recorder_lag_seconds']?.[topic] ?? null),
          stateOf(live, topic),
        ]
      : []),
    shedOf(live, topic),
  ]);
  fillTable(byId('topics'), head, rows);
}

/**
 * @param {Live} live
 * @param {string} name
 * @param {string} topic
 */
function count(live, name, topic) {
  const value = live.values[name]?.[topic];
  return value === undefined ? '–' : whole(value);
}

/**
 * @param {Live} live
 * @param {string} topic
 */
function stateOf(live, topic) {
  const stopped = Object.entries(live.values['recorder_topic_stopped'] ?? {}).some(
    ([key, value]) => value === 1 && key.startsWith(`${topic}/`),
  );
  if (stopped) return 'stopped: disk';
  const key = Object.keys(live.values['recorder_flusher_state'] ?? {}).find((name) =>
    name.startsWith(`${topic}/`),
  );
  return key?.slice(topic.length + 1) ?? '–';
}

/**
 * Rows shed, by cause where there are any.
 * @param {Live} live
 * @param {string} topic
 */
function shedOf(live, topic) {
  const shed = Object.entries(live.values['recorder_shed_rows_total'] ?? {}).filter(
    ([key, value]) => key.startsWith(`${topic}/`) && value > 0,
  );

  if (shed.length === 0) return '0';
  return shed.map(([key, value]) => `${whole(value)} (${key.slice(topic.length + 1)})`).join(', ');
}
