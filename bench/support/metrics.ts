// A running recorder's own metrics.

import type { RecorderProcess } from '../../test/support/recorder-process.ts';
import { httpUrlOf } from './recorder.ts';

/** A number from /metrics: what the pattern's first group holds; 0 where it is not there yet. */
export async function metricOf(recorder: RecorderProcess, pattern: RegExp): Promise<number> {
  const text = await (await fetch(`${httpUrlOf(recorder)}/metrics`)).text();
  return Number(pattern.exec(text)?.[1] ?? 0);
}
