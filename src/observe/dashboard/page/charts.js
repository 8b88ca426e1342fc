// The plots of the last ten minutes.

import uPlot from '/page/uplot.js';
import { byId, make, setText } from './dom.js';
import { axisSeconds, bytes, rate, seconds, short, timeOfDay, whole } from './format.js';

/** @typedef {import('../live.ts').Point} Point */
/**
 * @typedef {object} Line
 * @property {string} label
 * @property {(point: Point) => number | null} value
 * @property {string} color name of a CSS variable
 * @property {boolean} [isFilled]
 */
/**
 * @typedef {object} Chart
 * @property {string} id
 * @property {string} title
 * @property {(value: number | null) => string} format
 * @property {(value: number) => string} [axis]
 * @property {boolean} [isLogarithmic]
 * @property {number[]} [incrs] distances of the lines of the value axis
 * @property {Line[]} lines
 */

const HEIGHT = 170;
/** 1 KiB to 1 PiB. */
const BYTE_STEPS = Array.from({ length: 41 }, (_, i) => 2 ** (i + 10));
const TOPIC_COLORS = ['--c1', '--c2', '--c3', '--c4', '--c5', '--c6', '--c7', '--c8'];

/** @type {{ chart: Chart, plot: uPlot, figure: HTMLElement, summary: HTMLElement }[]} */
let shown = [];
let madeFor = '';

/**
 * The plots for these topics.
 * @param {readonly string[]} topics
 * @param {boolean} delivers
 * @returns {Chart[]}
 */
function chartsFor(topics, delivers) {
  const received = topics.map((topic, i) => ({
    label: topic,
    color: TOPIC_COLORS[i % TOPIC_COLORS.length] ?? '--c1',
    /** @param {Point} point */
    value: (point) => point.received[topic] ?? null,
  }));
  /** @type {Chart[]} */
  const charts = [
    { id: 'received', title: 'Received, rows/s', format: rate, axis: short, lines: received },
    {
      id: 'durable',
      title: 'Received → durable',
      format: seconds,
      axis: axisSeconds,
      isLogarithmic: true,
      lines: [
        { label: 'p50', color: '--c1', value: (/** @type {Point} */ point) => point.durableP50 },
        { label: 'p99', color: '--c2', value: (/** @type {Point} */ point) => point.durableP99 },
      ],
    },
    {
      id: 'disk',
      title: 'WAL on disk',
      format: bytes,
      incrs: BYTE_STEPS,
      lines: [
        {
          label: 'WAL',
          color: '--c1',
          isFilled: true,
          value: (/** @type {Point} */ point) => point.walBytes,
        },
      ],
    },
  ];
  if (!delivers) return charts;
  charts.splice(2, 0, {
    id: 'inserted',
    title: 'Received → inserted',
    format: seconds,
    axis: axisSeconds,
    isLogarithmic: true,
    lines: [
      { label: 'p50', color: '--c1', value: (/** @type {Point} */ point) => point.insertedP50 },
      { label: 'p99', color: '--c2', value: (/** @type {Point} */ point) => point.insertedP99 },
    ],
  });
  charts.splice(3, 0, {
    id: 'lag',
    title: 'Lag of ClickHouse, rows',
    format: (/** @type {number | null} */ value) => (value === null ? '–' : whole(value)),
    axis: short,
    lines: [
      { label: 'rows', color: '--c2', isFilled: true, value: (/** @type {Point} */ point) => point.lagRows },
    ],
  });
  charts.splice(4, 0, {
    id: 'lag-seconds',
    title: 'Lag of ClickHouse, age',
    format: seconds,
    axis: axisSeconds,
    lines: [
      {
        label: 'oldest row',
        color: '--c2',
        isFilled: true,
        value: (/** @type {Point} */ point) => point.lagSeconds,
      },
    ],
  });
  return charts;
}

/**
 * Shows the points.
 * @param {Point[]} points
 * @param {readonly string[]} topics
 * @param {boolean} delivers
 */
export function showCharts(points, topics, delivers) {
  const key = `${topics.join()}/${delivers}`;
  if (key !== madeFor) {
    madeFor = key;
    build(chartsFor(topics, delivers));
  }
  const times = points.map(({ atMs }) => atMs / 1000);
  for (const { chart, plot, figure, summary } of shown) {
    const columns = chart.lines.map(({ value }) => points.map((point) => drawable(value(point), chart)));
    plot.setData([times, ...columns], true);
    // Without a pointer over it the legend shows the newest values.
    if (plot.cursor.idx == null) plot.setLegend({ idx: points.length - 1 });
    const last = points.at(-1);
    const texts = chart.lines.map(
      ({ label, value }) => `${label} ${chart.format(last ? value(last) : null)}`,
    );
    setText(
      summary,
      chart.id === 'received' ? `${rate(last ? total(last) : null)} in all` : texts.join(' · '),
    );
    figure.setAttribute('aria-label', `${chart.title}, last ten minutes; now ${texts.join(', ')}`);
  }
}

/** Draws all plots anew: colours or sizes have changed. */
export function redrawCharts() {
  madeFor = '';
}

/**
 * A logarithmic scale has no zero.
 * @param {number | null} value
 * @param {Chart} chart
 */
function drawable(value, chart) {
  return chart.isLogarithmic && value !== null ? Math.max(value, 1e-6) : value;
}

/** @param {Point} point */
function total(point) {
  return Object.values(point.received).reduce((sum, value) => sum + value, 0);
}

/** @param {Chart[]} charts */
function build(charts) {
  for (const { plot } of shown) plot.destroy();
  const holder = byId('charts');
  holder.replaceChildren();
  shown = charts.map((chart) => {
    const summary = make('span', { class: 'now' });
    const figure = make('div', { class: 'plot', role: 'img' });
    holder.append(
      make(
        'figure',
        { class: 'chart', id: `chart-${chart.id}` },
        make('figcaption', {}, make('h3', {}, chart.title), summary),
        figure,
      ),
    );
    const width = Math.max(200, figure.clientWidth);
    return { chart, summary, figure, plot: new uPlot(optionsOf(chart, width), [[]], figure) };
  });
}

/** @param {string} name of a CSS variable */
function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/**
 * @param {Chart} chart
 * @param {number} width
 * @returns {uPlot.Options}
 */
function optionsOf(chart, width) {
  const time = (/** @type {number | null} */ at) => (at === null ? '–' : timeOfDay(at * 1000));
  return {
    width,
    height: HEIGHT,
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), 'UTC'),
    cursor: { points: { size: 6 }, drag: { x: false, y: false } },
    legend: { show: chart.lines.length > 1 },
    scales: {
      x: { time: true, range: timeRange },
      y: chart.isLogarithmic ? { distr: 3, range: logRange } : { range: fromZero },
    },
    axes: axesOf(chart),
    series: [
      { label: 'Time', value: (_, at) => time(at) },
      ...chart.lines.map(({ label, color: name, isFilled }) => ({
        label,
        stroke: color(name),
        width: 1.5,
        points: { show: false },
        ...(isFilled ? { fill: `${color(name)}22` } : {}),
        value: (/** @type {uPlot} */ _, /** @type {number | null} */ value) => chart.format(value),
      })),
    ],
  };
}

/**
 * @param {Chart} chart
 * @returns {uPlot.Axis[]}
 */
function axesOf({ axis: axisText, format, isLogarithmic, incrs }) {
  const text = axisText ?? format;
  const grid = { stroke: color('--grid'), width: 1 };
  const axis = { stroke: color('--muted'), font: '11px system-ui, sans-serif', grid, ticks: { show: false } };
  return [
    { ...axis, size: 28, space: 70, values: (_, times) => times.map((at) => timeOfDay(at * 1000)) },
    {
      ...axis,
      size: 62,
      space: 34,
      values: (_, values) => values.map((value) => (value === null ? '' : text(value))),
      ...(incrs === undefined ? {} : { incrs }),
      ...(isLogarithmic ? { splits: decades } : {}),
    },
  ];
}

/**
 * Lines of a logarithmic scale: the decades, and 2 and 5 where there is one alone.
 * @param {uPlot} _
 * @param {number} __
 * @param {number} min
 * @param {number} max
 */
function decades(_, __, min, max) {
  const [from, to] = [Math.round(Math.log10(min)), Math.round(Math.log10(max))];
  const lines = Array.from({ length: to - from + 1 }, (___, i) => 10 ** (from + i));
  return to - from > 1 ? lines : [min, min * 2, min * 5, max];
}

/**
 * At least a minute.
 * @param {uPlot} _
 * @param {number} min
 * @param {number} max
 * @returns {[number, number]}
 */
function timeRange(_, min, max) {
  return [Math.min(min, max - 60), max];
}

/**
 * @param {uPlot} _
 * @param {number} __
 * @param {number} max
 * @returns {[number, number]}
 */
function fromZero(_, __, max) {
  return [0, max > 0 ? max * 1.1 : 1];
}

/**
 * Whole decades around the values.
 * @param {uPlot} _
 * @param {number | null} min
 * @param {number | null} max
 * @returns {[number, number]}
 */
function logRange(_, min, max) {
  if (min === null || max === null || !(max > 0)) return [1e-3, 1];
  return [10 ** Math.floor(Math.log10(min)), 10 ** Math.ceil(Math.log10(max * 1.0001))];
}

/** Fits the plots to their places. */
export function resizeCharts() {
  for (const { plot, figure } of shown) {
    const width = Math.max(200, figure.clientWidth);
    if (width !== plot.width) plot.setSize({ width, height: HEIGHT });
  }
}
