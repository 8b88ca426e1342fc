// The flusher in a Worker of its own: encoding and inserting do not hold up the ingest thread. Entry file of
// the Worker; the other side is flusher-client.ts.

import { readTopicModel } from '../schema/model.ts';
import { createFlusher, type Flusher } from './flusher.ts';
import type { FlusherCommand, FlusherMessage } from './flusher-client.ts';

declare const self: Worker;

const STATS_INTERVAL_MS = 200;
/** While nothing changes. */
const IDLE_STATS_INTERVAL_MS = 1000;

let flusher: Flusher | null = null;
let statsTimer: ReturnType<typeof setTimeout> | null = null;

const send = (message: FlusherMessage) => self.postMessage(message);

/** What was said last: a flusher that does nothing says nothing. */
let said = '';

function scheduleStats(afterMs: number): void {
  if (statsTimer !== null) clearTimeout(statsTimer);
  statsTimer = setTimeout(() => {
    scheduleStats(sendChangedStats() ? STATS_INTERVAL_MS : IDLE_STATS_INTERVAL_MS);
  }, afterMs);
}

function sendChangedStats(): boolean {
  const stats = flusher!.stats();
  const text = JSON.stringify(stats, (_, value) => (typeof value === 'bigint' ? String(value) : value));
  if (text === said) return false;
  said = text;
  send({ kind: 'stats', stats });
  return true;
}

self.onmessage = async ({ data: command }: MessageEvent<FlusherCommand>) => {
  switch (command.kind) {
    case 'wake':
      flusher?.wake();
      scheduleStats(STATS_INTERVAL_MS);
      return;
    case 'start':
      flusher = createFlusher({
        config: command.config,
        topics: command.schemas.map(readTopicModel),
        report: (event) => send({ kind: 'event', event }),
        whenLocked: 'wait',
        sleep: (asleep) => Atomics.store(command.asleep, 0, Number(asleep)),
      });
      flusher.start();
      scheduleStats(STATS_INTERVAL_MS);
      return;
    case 'drain': {
      const result = await flusher!.drain(command.timeoutMs);
      send({ kind: 'stats', stats: flusher!.stats() });
      send({ kind: 'drained', result });
      break;
    }
    case 'stop':
      await flusher!.stop();
      send({ kind: 'stats', stats: flusher!.stats() });
      send({ kind: 'stopped' });
      break;
  }
  if (statsTimer !== null) clearTimeout(statsTimer);
};
