// Progress of a load on standard error: a bar on a terminal, a line every few seconds otherwise.

import { Presets, SingleBar } from 'cli-progress';
import type { LoaderProgress } from '../supervisor/loader.ts';

const BAR_INTERVAL_MS = 200;
const LINE_INTERVAL_MS = 2000;
/** The rate is that of the last so many looks. */
const RATE_WINDOW = 25;

const count = (value: number) => Math.round(value).toLocaleString('en-US');

interface Look {
  ms: number;
  rows: number;
}

/** Texts of one moment: rows done, rows a second of late, time until the backlog is gone. */
interface Shown {
  done: number;
  backlog: number | null;
  rate: string;
  left: string;
}

function shownOf({ inserted, deadLettered, backlog }: LoaderProgress, looks: Look[]): Shown {
  const done = inserted + deadLettered;
  looks.push({ ms: performance.now(), rows: done });
  if (looks.length > RATE_WINDOW) looks.shift();
  const [first, last] = [looks[0]!, looks.at(-1)!];
  const rate = last.ms > first.ms ? ((last.rows - first.rows) / (last.ms - first.ms)) * 1000 : 0;
  const seconds = backlog === null || (rate === 0 && backlog > 0) ? null : backlog === 0 ? 0 : backlog / rate;
  const left = seconds === null ? '?' : `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  return { done, backlog, rate: count(rate), left };
}

/** Shows progress until the returned function is called; that one shows the last state. */
export function startLoadProgress(progress: () => LoaderProgress): () => void {
  const looks: Look[] = [];
  const bar = process.stderr.isTTY ? makeBar() : null;
  let before = '';
  const show = () => {
    const { done, backlog, rate, left } = shownOf(progress(), looks);
    const backlogText = backlog === null ? '?' : count(backlog);
    if (bar !== null) {
      bar.setTotal(Math.max(1, done + (backlog ?? 0)));
      bar.update(done, { rows: count(done), rate, left, backlog: backlogText });
      return;
    }
    const state = `load: ${count(done)} rows, backlog ${backlogText}`;
    // A loader that waits for rows says so once, not for ever.
    if (state === before) return;
    before = state;
    process.stderr.write(`${state}, ${rate} rows/s, ${left} left\n`);
  };
  show();
  const timer = setInterval(show, bar === null ? LINE_INTERVAL_MS : BAR_INTERVAL_MS);
  return () => {
    clearInterval(timer);
    show();
    bar?.stop();
  };
}

function makeBar(): SingleBar {
  const format =
    'load {bar} {percentage} % | {rows} rows | {rate} rows/s | {left} left | backlog {backlog} rows';
  const bar = new SingleBar({ format, hideCursor: true, stream: process.stderr }, Presets.shades_classic);
  bar.start(1, 0, { rows: '0', rate: '0', left: '?', backlog: '?' });
  return bar;
}
