// Group commit: rows that came while one sync ran share the next one.
//
// Life cycle: request() whenever rows wait; a round seals them into the WAL, syncs it off the event loop,
// and reports. One round runs at a time. A round that finds the WAL without room is repeated after a
// pause: nothing is acknowledged meanwhile, and nothing is lost.

export interface GroupCommitOptions<Capture> {
  /**
   * Least time between the starts of two rounds, ms. 0: as fast as the disk syncs.
   */
  intervalMs: number;
  /**
   * Moves all rows into the WAL and returns what the next sync makes durable; null when there is no room
   * for now.
   */
  seal(): Capture | null;
  /** Makes what was sealed durable; rejects when it did not. */
  sync(): Promise<void>;
  /** What was captured is durable. */
  durable(capture: Capture): void;
  /** The sync failed: what was captured is not durable. */
  failed(capture: Capture, error: unknown): void;
}

/** Pause before a round is repeated that found no room or whose sync failed. */
const RETRY_MS = 200;

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export class GroupCommit<Capture> {
  readonly #options: GroupCommitOptions<Capture>;
  #requested = false;
  #running: Promise<void> | null = null;
  #stopped = false;

  constructor(options: GroupCommitOptions<Capture>) {
    this.#options = options;
  }

  /** Says that rows wait. Cheap: called once a chunk. */
  request(): void {
    this.#requested = true;
    if (this.#running === null && !this.#stopped) this.#running = this.#run();
  }

  /**
   * Makes everything durable that was accepted before the call; false when the WAL still has no room or
   * the sync
   * fails at `deadlineMs` (ms from now).
   */
  async flush(deadlineMs: number): Promise<boolean> {
    const deadline = performance.now() + deadlineMs;
    this.request();
    while (this.#running !== null && performance.now() < deadline) {
      await Promise.race([this.#running, Bun.sleep(Math.max(1, deadline - performance.now()))]);
    }
    return this.#running === null;
  }

  /** No further rounds. */
  stop(): void {
    this.#stopped = true;
  }

  async #run(): Promise<void> {
    // Other sockets that are readable in this turn of the loop share the round.
    await nextTurn();
    while (this.#requested && !this.#stopped) {
      this.#requested = false;
      const startedMs = performance.now();
      if (await this.#round()) {
        const restMs = this.#options.intervalMs - (performance.now() - startedMs);
        if (restMs > 0) await Bun.sleep(restMs);
      } else {
        this.#requested = true;
        await Bun.sleep(RETRY_MS);
      }
    }
    this.#running = null;
  }

  async #round(): Promise<boolean> {
    const capture = this.#options.seal();
    if (capture === null) return false;
    try {
      await this.#options.sync();
    } catch (error) {
      if (this.#stopped) return true;
      this.#options.failed(capture, error);
      return false;
    }
    this.#options.durable(capture);
    return true;
  }
}
