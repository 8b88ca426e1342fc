// Progress of a feed on standard error: a bar on a terminal, a line each second otherwise.

import { Presets, SingleBar } from 'cli-progress';

export interface ProgressState {
  /** Rows sent. */
  rows: number;
  /** Share of the work that is done, 0 to 1; null where it is not known. */
  share: number | null;
}

const BAR_INTERVAL_MS = 200;
const LINE_INTERVAL_MS = 1000;
const BAR_STEPS = 1000;

const count = (value: number) => Math.round(value).toLocaleString('en-US');

/** Shows progress until the returned function is called; that one shows the last state. */
export function startFeedProgress(feed: string, state: () => ProgressState): () => void {
  const startedMs = performance.now();
  const bar = process.stderr.isTTY ? makeBar(feed) : null;
  const show = () => {
    const { rows, share } = state();
    const seconds = (performance.now() - startedMs) / 1000;
    const rate = seconds > 0 ? rows / seconds : 0;
    const left = share === null || share <= 0 ? null : (seconds / share) * (1 - share);
    const leftText = left === null ? '?' : `${left.toFixed(left < 10 ? 1 : 0)} s`;
    if (bar !== null) {
      bar.update(Math.round((share ?? 0) * BAR_STEPS), {
        rows: count(rows),
        rate: count(rate),
        left: leftText,
      });
      return;
    }
    const done = share === null ? '' : `, ${(share * 100).toFixed(0)} %, ${leftText} left`;
    process.stderr.write(`feed ${feed}: ${count(rows)} rows, ${count(rate)} rows/s${done}\n`);
  };
  const timer = setInterval(show, bar === null ? LINE_INTERVAL_MS : BAR_INTERVAL_MS);
  return () => {
    clearInterval(timer);
    show();
    bar?.stop();
  };
}

function makeBar(feed: string): SingleBar {
  const format = `feed ${feed} {bar} {percentage} % | {rows} rows | {rate} rows/s | {left} left`;
  const bar = new SingleBar({ format, hideCursor: true, stream: process.stderr }, Presets.shades_classic);
  bar.start(BAR_STEPS, 0, { rows: '0', rate: '0', left: '?' });
  return bar;
}
