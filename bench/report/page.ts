// The report as one page without anything from elsewhere: the charts, the targets, all figures.

import { describeTarget, isMet, targets } from '../targets.ts';
import { type Figures, finder, shortNumber, withUnit } from './figures.ts';
import { escapeText } from './svg.ts';

const STYLE = `
:root { color-scheme: light dark; --page: #f9f9f7; --ink: #0b0b0b; --soft: #52514e; --line: #e1e0d9;
  --card: #fcfcfb; --good: #006300; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --page: #0d0d0d; --ink: #fff; --soft: #c3c2b7; --line: #2c2c2a;
  --card: #1a1a19; --good: #0ca30c; --bad: #e66767; } }
body { margin: 0 auto; max-width: 1080px; padding: 40px 20px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 40px 0 12px; }
p { color: var(--soft); margin: 0 0 12px; max-width: 70ch; }
.charts { display: flex; flex-wrap: wrap; gap: 20px; }
.charts svg { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 8px; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 14px; text-align: right; border-top: 1px solid var(--line); white-space: nowrap; }
thead th { border-top: 0; color: var(--soft); font-weight: 500; }
th:first-child, td:first-child { text-align: left; }
code { font: 13px ui-monospace, Menlo, Consolas, monospace; }
.met { color: var(--good); } .missed { color: var(--bad); }
`;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: string, values: readonly string[]) =>
    values.map((value) => `<${tag}>${value}</${tag}>`).join('');
  const body = rows.map((row) => `<tr>${cells('td', row)}</tr>`).join('\n');
  const inner = `<thead><tr>${cells('th', head)}</tr></thead>\n<tbody>${body}</tbody>`;
  return `<div class="scroll"><table>${inner}</table></div>`;
}

const code = (text: string) => `<code>${escapeText(text)}</code>`;

function targetRows(figures: Figures): string[][] {
  const find = finder(figures);
  return targets.flatMap((target) => {
    const result = find(target.name);
    if (result === undefined) return [];
    const verdict = isMet(target, result)
      ? '<span class="met">✓ met</span>'
      : '<span class="missed">✗ missed</span>';
    const measured = target.of === 'ratio' ? shortNumber(result.ratio) : withUnit(result.value, result.unit);
    return [[code(target.name), describeTarget(target), escapeText(measured), verdict]];
  });
}

const ALL_NOTE = `Ratio: times the baseline (extract, path), share of the limit (ingest, flush, replay, udp),
else value over baseline.`;

/** The page; `drawn` are the charts by name. */
export function reportPage(figures: Figures, drawn: ReadonlyMap<string, string>): string {
  const all = figures.results.map(({ name, value, unit, baseline, ratio }) => [
    code(name),
    escapeText(withUnit(value, unit)),
    escapeText(withUnit(baseline, unit)),
    shortNumber(ratio),
  ]);
  const group = (prefix: RegExp) => [...drawn].filter(([name]) => prefix.test(name)).map(([, svg]) => svg);
  const section = (title: string, images: readonly string[]) =>
    images.length === 0 ? '' : `<h2>${title}</h2>\n<div class="charts">${images.join('')}</div>`;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>recorder: measurements</title><style>${STYLE}</style></head><body>
<h1>recorder: measurements</h1>
<p>${escapeText(figures.machine)}, ${escapeText(figures.measuredAt)}. Every figure is held against a limit
or a baseline measured in the same run; only the ratios are comparable between machines.</p>
${section('Throughput', group(/^(throughput|speedup)$/))}
${section('Latency', group(/^latency/))}
${section('Growth', group(/^growth/))}
<h2>Targets</h2>
${table(['name', 'target', 'measured', ''], targetRows(figures))}
<h2>All figures</h2>
<p>${ALL_NOTE}</p>
${table(['name', 'value', 'baseline', 'ratio'], all)}
</body></html>
`;
}
