// Which figures are drawn, and how: name of the image → SVG. A chart whose figures are not there is left out.

import type { BenchResult } from '../suite.ts';
import { targets } from '../targets.ts';
import { type Bar, drawBars } from './bars.ts';
import { type Figures, type Find, finder, shortNumber, withUnit } from './figures.ts';
import { drawLines, type Line } from './lines.ts';

interface Row {
  result: string;
  name: string;
  against: string;
}

const SHARES: readonly Row[] = [
  { result: 'ingest/unix/group', name: 'Unix socket → durable', against: 'of receive and drop' },
  {
    result: 'flush/RowBinary/embedded',
    name: 'WAL → ClickHouse 26.7, RowBinary',
    against: 'of curl, pre-encoded',
  },
  { result: 'flush/Native/embedded', name: 'WAL → ClickHouse 26.7, Native', against: 'of curl, pre-encoded' },
  {
    result: 'flush/RowBinary/18.16',
    name: 'WAL → ClickHouse 18.16, RowBinary',
    against: 'of curl, pre-encoded',
  },
  { result: 'flush/Native/18.16', name: 'WAL → ClickHouse 18.16, Native', against: 'of curl, pre-encoded' },
  {
    result: 'replay/RowBinary/embedded',
    name: 'Replay by the loader, RowBinary',
    against: 'of curl, pre-encoded',
  },
  { result: 'replay/Native/embedded', name: 'Replay by the loader, Native', against: 'of curl, pre-encoded' },
  { result: 'udp/one-message', name: 'UDP, one message a datagram', against: 'of what C sends, no loss' },
  { result: 'udp/ten-messages', name: 'UDP, ten messages a datagram', against: 'of what C sends, no loss' },
];

const generic = 'generic path';
const firstProgram = 'the program written first';
const FACTORS: readonly Row[] = [
  { result: 'extract/market_data/ticks', name: 'Extract ticks', against: generic },
  { result: 'extract/market_data/quotes', name: 'Extract quotes', against: generic },
  { result: 'extract/market_data/depth-10', name: 'Extract 10-level books', against: generic },
  { result: 'extract/orders', name: 'Extract orders', against: generic },
  { result: 'extract/fills', name: 'Extract fills', against: generic },
  { result: 'path/embedded', name: 'Whole path, ClickHouse 26.7', against: firstProgram },
  { result: 'path/discarding', name: 'Whole path, server not the bound', against: firstProgram },
];

const RATES = [
  { at: 1e3, text: '1 k', name: '1k' },
  { at: 1e4, text: '10 k', name: '10k' },
  { at: 1e5, text: '100 k', name: '100k' },
  { at: 1e6, text: '1 M', name: '1M' },
] as const;

function barsOf(
  rows: readonly Row[],
  find: Find,
  draw: (result: BenchResult) => { length: number; text: string },
) {
  return rows.flatMap(({ result: name, ...row }): Bar[] => {
    const result = find(name);
    if (result === undefined) return [];
    const target = targets.find(
      (each) => each.name === name && each.of === 'ratio' && each.bound === 'least',
    );
    return [{ ...row, ...draw(result), ...(target === undefined ? {} : { target: target.limit }) }];
  });
}

function throughput(find: Find): string | null {
  const bars = barsOf(SHARES, find, ({ value, unit, ratio }) => ({
    length: ratio,
    text: `${Math.round(ratio * 100)} % · ${withUnit(value, unit)}`,
  }));
  if (bars.length === 0) return null;
  return drawBars({
    title: 'Throughput by stage, as a share of its limit',
    subtitle:
      'The limit is what the machine does when the recorder’s own work is left out; the mark is the target',
    bars,
    scale: (share) => share,
    ticks: [0, 0.25, 0.5, 0.75, 1].map((at) => ({ at, text: `${at * 100} %` })),
    track: true,
  });
}

function speedup(find: Find): string | null {
  const bars = barsOf(FACTORS, find, ({ value, unit, ratio }) => ({
    length: ratio,
    text: `${shortNumber(ratio)} × · ${withUnit(value, unit)}`,
  }));
  if (bars.length === 0) return null;
  const decades = Math.max(2, Math.ceil(Math.log10(Math.max(...bars.map(({ length }) => length)))));
  return drawBars({
    title: 'Times faster than the alternative',
    subtitle: 'Logarithmic; the mark is the target',
    bars,
    scale: (factor) => Math.log10(factor) / decades,
    ticks: Array.from({ length: decades + 1 }, (_, i) => ({ at: 10 ** i, text: `${10 ** i} ×` })),
    track: false,
  });
}

const PERCENTILES = [
  { name: 'p50', colour: 'low' },
  { name: 'p99', colour: 'bar' },
  { name: 'p99.9', colour: 'high' },
] as const;

function latency(find: Find, stage: string, title: string, held: string | null): string | null {
  const linesOf = (part: 'value' | 'baseline'): Line[] =>
    PERCENTILES.flatMap(({ name, colour }) => {
      const points = RATES.flatMap((rate) => {
        const result = find(`latency/${stage}/${rate.name}/${name}`);
        const toNs = result?.unit === 'ms' ? 1e6 : 1e3;
        return result === undefined ? [] : [{ x: rate.at, y: result[part] * toNs }];
      });
      if (points.length < 2) return [];
      const isBare = part === 'baseline';
      return [
        { name: isBare ? `${held} ${name}` : name, colour: isBare ? 'bare' : colour, dashed: isBare, points },
      ];
    });
  const lines = [...linesOf('value'), ...(held === null ? [] : linesOf('baseline'))];
  if (lines.length === 0) return null;
  return drawLines({
    title,
    subtitle: 'Open loop: counted from when a row was due, whatever the one before it met',
    lines,
    xTicks: RATES,
    yText: (ns) => (ns < 1e6 ? `${shortNumber(ns / 1e3)} µs` : withUnit(ns / 1e6, 'ms')),
    xName: 'rows a second',
  });
}

interface Growth {
  name: string;
  title: string;
  /** What is measured, for the line under the title. */
  what: string;
  sizes: readonly number[];
  /** Name of the result of a size. */
  result: (size: number) => string;
  xName: string;
}

const ofRate = (name: string, title: string, sizes: readonly number[]): Growth => ({
  name,
  title,
  what: 'Unix socket → durable',
  sizes,
  result: (size) => `growth/${name}/${size}`,
  xName: title.toLowerCase(),
});
const ofBacklog = (part: string, title: string, what: string): Growth => ({
  name: `backlog-${part}`,
  title,
  what,
  sizes: [1, 4, 16],
  result: (size) => `growth/backlog/${size}GB/${part}`,
  xName: 'GB of backlog',
});

const GROWTH: readonly Growth[] = [
  ofRate('connections', 'Connections', [1, 4, 16, 64]),
  ofRate('symbols', 'Distinct symbols', [1, 10, 100, 10_000, 1_000_000]),
  ofRate('levels', 'Book levels on both sides', [1, 5, 10, 20, 50]),
  ofRate('frame-bytes', 'Bytes a frame', [60, 256, 1024, 4096, 16_384, 65_536]),
  ofBacklog('replay', 'Replay of a backlog', 'WAL → ClickHouse 26.7, Native'),
  ofBacklog('resident', 'Memory of the loader', 'Most resident memory'),
  ofBacklog('start', 'Start with a backlog', 'Start of the recorder to its first connection'),
];

function growth(find: Find, { title, what, sizes, result: nameOf, xName }: Growth): string | null {
  const found = sizes.flatMap((size) => {
    const result = find(nameOf(size));
    return result === undefined ? [] : [{ size, result }];
  });
  if (found.length < 2) return null;
  const { unit } = found[0]!.result;
  const points = found.map(({ size, result }) => ({ x: size, y: result.value }));
  const name = withUnit(found.at(-1)!.result.value, unit);
  return drawLines({
    title,
    subtitle: `${what}, ${unit}`,
    lines: [{ name, colour: 'bar', dashed: false, points }],
    xTicks: found.map(({ size }) => ({ at: size, text: shortNumber(size) })),
    yText: shortNumber,
    xName,
    linear: true,
    width: 520,
    height: 300,
  });
}

/** All charts that the figures give, by the name of their image. */
export function charts(figures: Figures): Map<string, string> {
  const find = finder(figures);
  const drawn: [string, string | null][] = [
    ['throughput', throughput(find)],
    ['speedup', speedup(find)],
    ['latency-ack', latency(find, 'ack/group', 'Latency to the acknowledgement, sync group', 'bare sync')],
    ['latency-none', latency(find, 'ack/none', 'Latency to the acknowledgement, sync none', null)],
    ['latency-visible', latency(find, 'visible', 'Latency to visibility in ClickHouse', null)],
    ...GROWTH.map((each): [string, string | null] => [`growth-${each.name}`, growth(find, each)]),
  ];
  return new Map(drawn.filter((entry): entry is [string, string] => entry[1] !== null));
}
