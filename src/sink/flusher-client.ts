// The flusher's Worker as seen from the thread that owns it: the same interface as the flusher itself.

import { realFileSystem } from '../io/real-file-system.ts';
import { workerEntry } from '../own-program.ts';
import type { TopicModel } from '../schema/model.ts';
import { undeliveredRows } from './backlog.ts';
import type { Flusher } from './flusher.ts';
import type { DrainResult, FlusherConfig, FlusherEvent, FlusherStats } from './flusher-types.ts';

export type FlusherCommand =
  | { kind: 'start'; config: FlusherConfig; schemas: Uint8Array[]; asleep: Int32Array<SharedArrayBuffer> }
  | { kind: 'wake' }
  | { kind: 'drain'; timeoutMs: number }
  | { kind: 'stop' };

export type FlusherMessage =
  | { kind: 'event'; event: FlusherEvent }
  | { kind: 'stats'; stats: FlusherStats }
  | { kind: 'drained'; result: DrainResult }
  | { kind: 'stopped' };

export interface WorkerFlusherOptions {
  config: FlusherConfig;
  topics: readonly TopicModel[];
  report: (event: FlusherEvent) => void;
}

/**
 * A flusher in a Worker. `stats` is what the Worker said last: some 200 ms old, a second where nothing
 * happens. A Worker that dies is reported as `failed`; drain and stop then resolve at once.
 */
export function createWorkerFlusher({ config, topics, report }: WorkerFlusherOptions): Flusher {
  const worker = new Worker(workerEntry('sink/flusher-worker.ts'));
  let stats: FlusherStats = { topics: [], durableLsn: 0n };
  let failure: string | null = null;
  let settle: ((result: DrainResult) => void) | null = null;
  // 1: the flusher does nothing until it is told of new rows. A message for every sync would be too much.
  const asleep = new Int32Array(new SharedArrayBuffer(4));
  const notDrained = (): DrainResult => ({
    complete: false,
    left: undeliveredRows(realFileSystem, config.walDir, topics),
    ...(failure === null ? {} : { failure }),
  });
  const send = (command: FlusherCommand) => worker.postMessage(command);

  worker.onmessage = ({ data: message }: MessageEvent<FlusherMessage>) => {
    switch (message.kind) {
      case 'event':
        report(message.event);
        break;
      case 'stats':
        stats = message.stats;
        break;
      case 'drained':
        settle?.(message.result);
        break;
      case 'stopped':
        settle?.(notDrained());
        break;
    }
  };
  worker.onerror = (event) => {
    failure = event.message;
    report({ kind: 'failed', topic: null, code: 'worker_died', message: event.message });
    settle?.(notDrained());
  };

  const end = async (command: FlusherCommand): Promise<DrainResult> => {
    if (failure !== null) return notDrained();
    const result = await new Promise<DrainResult>((resolve) => {
      settle = resolve;
      send(command);
    });
    worker.terminate();
    return result;
  };

  return {
    start: () => send({ kind: 'start', config, schemas: topics.map((model) => model.bfbs), asleep }),
    stats: () => stats,
    wake: () => {
      if (Atomics.exchange(asleep, 0, 0) === 1) send({ kind: 'wake' });
    },
    drain: (timeoutMs) => end({ kind: 'drain', timeoutMs }),
    stop: async () => {
      await end({ kind: 'stop' });
    },
  };
}
