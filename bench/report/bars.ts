// Horizontal bars with their names on the left and their figures on the right.

import { drawing, element, label } from './svg.ts';

export interface Bar {
  name: string;
  /** What it is held against, in small print under the name. */
  against: string;
  /** Length, in the unit of the axis. */
  length: number;
  /** What stands at the end of the bar. */
  text: string;
  /** Target, drawn as a mark; absent: none. */
  target?: number;
}

export interface BarChart {
  title: string;
  subtitle: string;
  bars: readonly Bar[];
  /** Position of a length, 0 to 1. */
  scale: (length: number) => number;
  ticks: readonly { at: number; text: string }[];
  /** Draws the way to the end of the axis: the limit of a share. */
  track: boolean;
}

const WIDTH = 840;
const NAMES = 270;
const FIGURES = 210;
const ROW = 42;
const TOP = 78;
const THICK = 16;

/** Draws the chart. */
export function drawBars({ title, subtitle, bars, scale, ticks, track }: BarChart): string {
  const length = WIDTH - NAMES - FIGURES;
  const height = TOP + bars.length * ROW + 34;
  const x = (value: number) => NAMES + Math.min(1, Math.max(0, scale(value))) * length;
  const bottom = TOP + bars.length * ROW;
  const grid = ticks.flatMap(({ at, text }) => [
    element('line', { x1: x(at), x2: x(at), y1: TOP - 6, y2: bottom, class: 'line-grid' }),
    label(x(at), bottom + 18, text, 'faint small', 'middle'),
  ]);
  const rows = bars.flatMap((bar, i) => {
    const middle = TOP + i * ROW + ROW / 2;
    const y = middle - THICK / 2;
    const end = x(bar.length);
    const clear = Math.max(end, bar.target === undefined ? 0 : x(bar.target));
    return [
      label(NAMES - 14, middle - 1, bar.name, 'ink', 'end'),
      label(NAMES - 14, middle + 14, bar.against, 'faint small', 'end'),
      track ? element('rect', { x: NAMES, y, width: length, height: THICK, rx: 4, class: 'track' }) : '',
      element('path', { d: roundedBar(NAMES, y, Math.max(2, end - NAMES)), class: 'bar' }),
      bar.target === undefined ? '' : targetMark(x(bar.target), y),
      label(track ? WIDTH - FIGURES + 14 : clear + 10, middle + 4, bar.text, 'ink'),
    ];
  });
  return drawing(WIDTH, height, `${title}. ${bars.map((bar) => `${bar.name}: ${bar.text}`).join('; ')}`, [
    label(24, 32, title, 'ink title'),
    label(24, 52, subtitle, 'soft'),
    ...grid,
    ...rows,
  ]);
}

/** Square where it begins, rounded where it ends. */
function roundedBar(x: number, y: number, width: number): string {
  const r = Math.min(4, width / 2);
  const [right, bottom] = [x + width, y + THICK];
  const at = (...values: number[]) => values.map((value) => Number(value.toFixed(1))).join(' ');
  const upper = `Q${at(right, y, right, y + r)}`;
  const lower = `Q${at(right, bottom, right - r, bottom)}`;
  return `M${at(x, y)}H${at(right - r)}${upper}V${at(bottom - r)}${lower}H${at(x)}Z`;
}

function targetMark(x: number, y: number): string {
  return element('line', { x1: x, x2: x, y1: y - 4, y2: y + THICK + 4, class: 'line-faint data' });
}
