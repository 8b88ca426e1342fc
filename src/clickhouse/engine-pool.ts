// The engine as seen from the HTTP thread: a pool of workers, each running one statement at a time. Workers are made
// when all others are busy, up to a bound; statements beyond it wait in order.

import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import {
  closeConnection,
  EngineError,
  type EngineResult,
  type EngineStatement,
  openConnection,
} from './engine.ts';
import type { EngineAnswer, EngineRequest } from './engine-worker.ts';
import { findLibrary, loadLibrary } from './library.ts';

/** Runs statements off this thread. */
export interface EnginePool {
  /** Runs one statement; takes over the buffer of its data. Rejects with EngineError. */
  run(statement: EngineStatement): Promise<EngineResult>;
  /** Statements running or waiting. */
  readonly pendingCount: number;
  /** Waits for the statements under way, then shuts the engine down. No statement may be started afterwards. */
  close(): Promise<void>;
}

interface Job {
  statement: EngineStatement;
  resolve(result: EngineResult): void;
  reject(error: Error): void;
}

/**
 * Opens the engine on the data directory `path` (made if absent) with at most `maxWorkers` statements at a time.
 * Throws RecorderError when the library is absent or the directory is in use.
 */
export function openEnginePool(path: string, maxWorkers: number): EnginePool {
  const directory = resolve(path);
  mkdirSync(directory, { recursive: true });
  const library = findLibrary();
  const chdb = loadLibrary(library);
  const anchor = openConnection(chdb, directory);

  const idle: Worker[] = [];
  const waiting: Job[] = [];
  const running = new Map<Worker, Job>();
  let closing: Promise<void> | null = null;
  let onDrained: (() => void) | null = null;

  const finish = (worker: Worker, answer: EngineAnswer) => {
    const job = running.get(worker);
    running.delete(worker);
    idle.push(worker);
    if (job !== undefined) {
      if (answer.kind === 'done') job.resolve(answer.result);
      else job.reject(new EngineError(answer.message));
    }
    dispatch();
    if (running.size === 0 && onDrained !== null) onDrained();
  };

  const makeWorker = (): Worker => {
    const worker = new Worker(new URL('./engine-worker.ts', import.meta.url).href);
    worker.onmessage = (event: MessageEvent<EngineAnswer>) => finish(worker, event.data);
    worker.onerror = (event) => {
      // A worker that cannot start or throws outside a statement: its statement fails, the worker is given up.
      const job = running.get(worker);
      running.delete(worker);
      job?.reject(new EngineError(`Code: 1001. DB::Exception: engine worker failed: ${event.message}`));
      dispatch();
      if (running.size === 0 && onDrained !== null) onDrained();
    };
    worker.postMessage({ kind: 'open', library, path: directory } satisfies EngineRequest);
    return worker;
  };

  const dispatch = () => {
    while (waiting.length > 0) {
      const worker = idle.pop() ?? (running.size < maxWorkers ? makeWorker() : null);
      if (worker === null) return;
      const job = waiting.shift()!;
      running.set(worker, job);
      const { data } = job.statement;
      const transfer = data !== null && data.buffer instanceof ArrayBuffer ? [data.buffer] : [];
      worker.postMessage({ kind: 'run', statement: job.statement } satisfies EngineRequest, transfer);
    }
  };

  const drained = () =>
    new Promise<void>((resolveDrained) => {
      if (running.size === 0 && waiting.length === 0) resolveDrained();
      else onDrained = resolveDrained;
    });

  return {
    run: (statement) =>
      new Promise((resolveJob, reject) => {
        waiting.push({ statement, resolve: resolveJob, reject });
        dispatch();
      }),
    get pendingCount() {
      return running.size + waiting.length;
    },
    close: () => {
      closing ??= drained().then(() => closeConnection(chdb, anchor));
      return closing;
    },
  };
}
