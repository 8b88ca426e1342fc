// The flusher in a Worker of its own: encoding and inserting do not hold up the ingest thread. Entry file of
// the Worker; the other side is flusher-client.ts.

import { readTopicModel } from '../schema/model.ts';
import { createFlusher, type Flusher } from './flusher.ts';
import type { FlusherCommand, FlusherMessage } from './flusher-client.ts';

declare const self: Worker;

const STATS_INTERVAL_MS = 200;

let flusher: Flusher | null = null;
let statsTimer: ReturnType<typeof setInterval> | null = null;

const send = (message: FlusherMessage) => self.postMessage(message);

/** What was said last: a flusher that does nothing says nothing. */
let said = '';

function sendChangedStats(): void {
  const stats = flusher!.stats();
  const text = JSON.stringify(stats, (_, value) => (typeof value === 'bigint' ? String(value) : value));
  if (text === said) return;
  said = text;
  send({ kind: 'stats', stats });
}

self.onmessage = async ({ data: command }: MessageEvent<FlusherCommand>) => {
  switch (command.kind) {
    case 'wake':
      flusher?.wake();
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
      statsTimer = setInterval(sendChangedStats, STATS_INTERVAL_MS);
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
  if (statsTimer !== null) clearInterval(statsTimer);
};
