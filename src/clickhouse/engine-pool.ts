// The engine as seen from the HTTP thread: a pool of workers, each running one statement at a time. Workers
// are made when all others are busy, up to a bound; statements beyond it wait in order.

import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { workerEntry } from '../own-program.ts';
import {
  type Connection,
  closeConnection,
  EngineError,
  type EngineResult,
  type EngineStatement,
  exception,
  openConnection,
} from './engine.ts';
import type { EngineAnswer, EngineRequest } from './engine-worker.ts';
import { type Chdb, findLibrary, loadLibrary } from './library.ts';

interface Job {
  statement: EngineStatement;
  resolve(result: EngineResult): void;
  reject(error: Error): void;
}

/** Runs statements off this thread. */
export class EnginePool {
  readonly #chdb: Chdb;
  readonly #library: string;
  readonly #path: string;
  readonly #maxWorkers: number;
  readonly #anchor: Connection;
  readonly #idle: Worker[] = [];
  readonly #waiting: Job[] = [];
  readonly #running = new Map<Worker, Job>();
  #onDrained: (() => void) | null = null;
  #closing: Promise<void> | null = null;

  /**
   * Opens the engine on the data directory `path` (made if absent) with at most `maxWorkers` statements at a
   * time. Throws RecorderError when the library is absent or the directory is in use.
   */
  constructor(path: string, maxWorkers: number) {
    this.#path = resolve(path);
    this.#maxWorkers = maxWorkers;
    mkdirSync(this.#path, { recursive: true });
    this.#library = findLibrary();
    this.#chdb = loadLibrary(this.#library);
    this.#anchor = openConnection(this.#chdb, this.#path);
  }

  /** Runs one statement; takes over the buffer of its data. Rejects with EngineError. */
  run(statement: EngineStatement): Promise<EngineResult> {
    return new Promise((resolveJob, reject) => {
      this.#waiting.push({ statement, resolve: resolveJob, reject });
      this.#dispatch();
    });
  }

  /**
   * Waits for the statements under way, then shuts the engine down. No statement may be started afterwards.
   * Idempotent.
   */
  close(): Promise<void> {
    this.#closing ??= this.#drained().then(() => closeConnection(this.#chdb, this.#anchor));
    return this.#closing;
  }

  #dispatch(): void {
    while (this.#waiting.length > 0) {
      const worker = this.#idle.pop() ?? (this.#running.size < this.#maxWorkers ? this.#makeWorker() : null);
      if (worker === null) return;
      const job = this.#waiting.shift()!;
      this.#running.set(worker, job);
      const { data } = job.statement;
      const transfer = data !== null && data.buffer instanceof ArrayBuffer ? [data.buffer] : [];
      worker.postMessage({ kind: 'run', statement: job.statement } satisfies EngineRequest, transfer);
    }
    if (this.#running.size === 0) this.#onDrained?.();
  }

  #makeWorker(): Worker {
    const worker = new Worker(workerEntry('clickhouse/engine-worker.ts'));
    worker.onmessage = (event: MessageEvent<EngineAnswer>) => {
      const job = this.#running.get(worker);
      this.#running.delete(worker);
      this.#idle.push(worker);
      if (event.data.kind === 'done') job?.resolve(event.data.result);
      else job?.reject(new EngineError(event.data.message));
      this.#dispatch();
    };
    // A worker that cannot start or throws outside a statement is given up, and its statement fails.
    worker.onerror = (event) => {
      const job = this.#running.get(worker);
      this.#running.delete(worker);
      job?.reject(exception(1001, 'STD_EXCEPTION', `the engine's worker failed: ${event.message}`));
      this.#dispatch();
    };
    worker.postMessage({ kind: 'open', library: this.#library, path: this.#path } satisfies EngineRequest);
    return worker;
  }

  #drained(): Promise<void> {
    return new Promise((resolveDrained) => {
      if (this.#running.size === 0 && this.#waiting.length === 0) resolveDrained();
      else this.#onDrained = resolveDrained;
    });
  }
}
