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

self.onmessage = async ({ data: command }: MessageEvent<FlusherCommand>) => {
  switch (command.kind) {
    case 'start':
      flusher = createFlusher({
        config: command.config,
        topics: command.schemas.map(readTopicModel),
        report: (event) => send({ kind: 'event', event }),
        whenLocked: 'wait',
      });
      flusher.start();
      statsTimer = setInterval(() => send({ kind: 'stats', stats: flusher!.stats() }), STATS_INTERVAL_MS);
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
