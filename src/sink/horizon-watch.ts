// Wakes the topics of a flusher when rows have become durable.
//
// One look for all topics, often while rows come and seldom while none do. The thread that makes rows durable
// may call `wake` (see flusher-client.ts): then a flusher without work sleeps, and still sees the next row at
// once. A loader has only the horizon's file to look at.

/** Between two looks while rows come. */
const BUSY_POLL_MS = 20;
/** Without new rows for so long, nothing happens. */
const BUSY_FOR_MS = 1000;
/** Between two looks while nothing happens and nobody wakes: adds this much, at most, to the first row. */
const QUIET_POLL_MS = 50;
/** The same where somebody wakes: only in case that a call is lost. */
const ASLEEP_POLL_MS = 1000;

export interface HorizonWatchOptions {
  durableLsn: () => bigint;
  /** Says that from now on `wake` is needed, or no longer; absent where nobody calls it. */
  sleep?: ((asleep: boolean) => void) | undefined;
}

export class HorizonWatch {
  readonly #options: HorizonWatchOptions;
  readonly #waiters = new Set<() => void>();
  #timer: ReturnType<typeof setTimeout> | null = null;
  #seenLsn = -1n;
  #movedMs = 0;
  #asleep = false;

  constructor(options: HorizonWatchOptions) {
    this.#options = options;
  }

  durableLsn(): bigint {
    return this.#options.durableLsn();
  }

  /** Waits until the horizon is not `lsn` any more, a `nudge`, or so many ms (null: no limit). */
  moved(lsn: bigint, limitMs: number | null): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        if (limit !== null) clearTimeout(limit);
        this.#waiters.delete(done);
        resolve();
      };
      const limit = limitMs === null ? null : setTimeout(done, limitMs);
      this.#waiters.add(done);
      if (this.durableLsn() === lsn) this.#schedule();
      else done();
    });
  }

  /** Waits until the row at `lsn` is durable; false when `isOver` first, which is looked at after a nudge. */
  async passed(lsn: bigint, isOver: () => boolean): Promise<boolean> {
    for (;;) {
      const durableLsn = this.durableLsn();
      if (durableLsn > lsn) return true;
      if (isOver()) return false;
      await this.moved(durableLsn, null);
    }
  }

  /** Somebody has moved the horizon. */
  wake(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#look();
  }

  /** Wakes all that wait, whether or not there are rows. */
  nudge(): void {
    for (const done of [...this.#waiters]) done();
  }

  #look(): void {
    const lsn = this.durableLsn();
    if (lsn !== this.#seenLsn) {
      this.#seenLsn = lsn;
      this.#movedMs = performance.now();
      this.#setAsleep(false);
      this.nudge();
    }
    // Whoever called believes that it need not call again.
    this.#asleep = false;
    if (this.#waiters.size > 0) this.#schedule();
  }

  #schedule(): void {
    if (this.#timer !== null) return;
    const isBusy = performance.now() - this.#movedMs < BUSY_FOR_MS;
    const canSleep = !isBusy && this.#options.sleep !== undefined;
    if (canSleep && !this.#asleep) {
      this.#setAsleep(true);
      // The horizon may have moved before the other side saw that it has to say so.
      if (this.durableLsn() !== this.#seenLsn) this.#setAsleep(false);
    }
    const pollMs = isBusy || (canSleep && !this.#asleep) ? BUSY_POLL_MS : QUIET_POLL_MS;
    this.#timer = setTimeout(() => this.wake(), this.#asleep ? ASLEEP_POLL_MS : pollMs);
  }

  #setAsleep(asleep: boolean): void {
    if (asleep === this.#asleep) return;
    this.#asleep = asleep;
    this.#options.sleep?.(asleep);
  }
}
