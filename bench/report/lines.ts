// Lines over axes that are logarithmic, or linear from 0 upwards, each named where it ends.

import { drawing, element, label } from './svg.ts';

export interface Line {
  name: string;
  colour: 'low' | 'bar' | 'high' | 'bare';
  dashed: boolean;
  points: readonly { x: number; y: number }[];
}

export interface LineChart {
  title: string;
  subtitle: string;
  lines: readonly Line[];
  xTicks: readonly { at: number; text: string }[];
  /** Text of a value on the y axis. */
  yText: (value: number) => string;
  xName: string;
  /** The y axis is linear and begins at 0; absent: logarithmic. */
  linear?: boolean;
  width?: number;
  height?: number;
}

const LEFT = 76;
const TOP = 74;
const BOTTOM = 52;
/** Names at the ends of lines need this much height each. */
const NAME_HEIGHT = 15;

interface Axes {
  x: (value: number) => number;
  y: (value: number) => number;
  yTicks: number[];
}

/** The smallest of 1, 2, 5 times a power of ten that is not below the value. */
function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= value * 0.9999)!;
}

function axesOf({ lines, xTicks, linear }: LineChart, right: number, bottom: number): Axes {
  const values = lines.flatMap(({ points }) => points.map(({ y }) => y)).filter((value) => value > 0);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const [first, last] = [Math.log10(xTicks[0]!.at), Math.log10(xTicks.at(-1)!.at)];
  const x = (value: number) => LEFT + ((Math.log10(value) - first) / (last - first)) * (right - LEFT);
  if (linear === true) {
    const step = roundUp(most / 4);
    const steps = Math.ceil(most / step);
    const y = (value: number) => bottom - (value / (step * steps)) * (bottom - TOP);
    return { x, y, yTicks: Array.from({ length: steps + 1 }, (_, i) => i * step) };
  }
  const low = Math.floor(Math.log10(least) + 1e-9);
  const high = Math.max(low + 1, Math.ceil(Math.log10(most) - 1e-9));
  const y = (value: number) => bottom - ((Math.log10(value) - low) / (high - low)) * (bottom - TOP);
  return { x, y, yTicks: Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i)) };
}

/** Moves names apart that would lie on each other, from the top down. */
function namePlaces(wanted: readonly number[]): number[] {
  const order = wanted.map((y, index) => ({ y, index })).sort((a, b) => a.y - b.y);
  const places = [...wanted];
  let free = Number.NEGATIVE_INFINITY;
  for (const { y, index } of order) {
    places[index] = Math.max(y, free);
    free = places[index]! + NAME_HEIGHT;
  }
  return places;
}

/** Draws the chart. */
export function drawLines(chart: LineChart): string {
  const { title, subtitle, lines, xTicks, yText, xName, width = 840, height = 360 } = chart;
  const right = width - 150;
  const bottom = height - BOTTOM;
  const { x, y, yTicks } = axesOf(chart, right, bottom);
  const grid = yTicks.flatMap((value) => [
    element('line', { x1: LEFT, x2: right, y1: y(value), y2: y(value), class: 'line-grid' }),
    label(LEFT - 10, y(value) + 4, yText(value), 'faint small', 'end'),
  ]);
  const ticks = xTicks.map(({ at, text }) => label(x(at), bottom + 20, text, 'faint small', 'middle'));
  const names = namePlaces(lines.map(({ points }) => y(points.at(-1)!.y) + 4));
  const drawn = lines.flatMap(({ name, colour, dashed, points }, i) => [
    element('polyline', {
      points: points.map((point) => `${x(point.x).toFixed(1)},${y(point.y).toFixed(1)}`).join(' '),
      class: `line-${colour} data${dashed ? ' dashed' : ''}`,
    }),
    ...(dashed
      ? []
      : points.map((point) =>
          element('circle', { cx: x(point.x), cy: y(point.y), r: 4.5, class: `${colour} dot` }),
        )),
    label(right + 12, names[i]!, name, dashed ? 'faint small' : 'soft small strong'),
  ]);
  const told = lines.map(({ name, points }) => `${name} ${points.map((point) => yText(point.y)).join(', ')}`);
  return drawing(width, height, `${title}. ${told.join('; ')}`, [
    label(24, 32, title, 'ink title'),
    label(24, 52, subtitle, 'soft'),
    ...grid,
    ...ticks,
    label((LEFT + right) / 2, height - 12, xName, 'soft small', 'middle'),
    ...drawn,
  ]);
}
