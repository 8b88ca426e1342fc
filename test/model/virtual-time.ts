// Time that stands still until it is told to go on. While installed, the timers and the monotonic clock of
// this process are the model's: a history takes no real time, and the same seed gives the same order.
//
// Every timer belongs to a process of the model. What a process does begins with a call or a timer and ends
// with the promises that follow from it at once; both are run to their end before any other process gets its
// turn. So a process is killed by forgetting its timers: nothing of it ever runs again. Each life of a
// process has a name of its own.

type Callback = (...args: unknown[]) => void;

interface Timer {
  atMs: number;
  order: number;
  owner: string;
  callback: Callback;
  args: unknown[];
  everyMs: number | null;
  ref(): Timer;
  unref(): Timer;
  hasRef(): boolean;
}

const real = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  clearInterval: globalThis.clearInterval,
  setImmediate: globalThis.setImmediate,
  now: performance.now,
  sleep: Bun.sleep,
};

/** Lets all promises run that can. */
const settle = (): Promise<void> => new Promise((resolve) => void real.setImmediate(resolve));

/** A process has ended while something waited for it. */
export class EndedError extends Error {}

export class VirtualTime {
  nowMs = 0;
  #timers = new Set<Timer>();
  #orders = 0;
  readonly #killed = new Set<string>();
  /** The process that runs now. */
  owner = 'nobody';

  install(): void {
    const add = (callback: Callback, ms: number | undefined, everyMs: number | null, args: unknown[]) =>
      this.#add(this.owner, callback, ms ?? 0, everyMs, args);
    const clear = (timer: unknown) => void this.#timers.delete(timer as Timer);
    Object.assign(globalThis, {
      setTimeout: (callback: Callback, ms?: number, ...args: unknown[]) => add(callback, ms, null, args),
      setInterval: (callback: Callback, ms?: number, ...args: unknown[]) =>
        add(callback, ms, Math.max(ms ?? 1, 1), args),
      setImmediate: (callback: Callback, ...args: unknown[]) => add(callback, 0, null, args),
      clearTimeout: clear,
      clearInterval: clear,
    });
    performance.now = () => this.nowMs;
    Bun.sleep = (ms) => new Promise((resolve) => void add(() => resolve(), Number(ms), null, []));
  }

  uninstall(): void {
    const { now, sleep, ...timers } = real;
    Object.assign(globalThis, timers);
    performance.now = now;
    Bun.sleep = sleep;
  }

  /** A timer of `owner`, whoever asks for it. */
  later(owner: string, ms: number, callback: () => void): void {
    this.#add(owner, callback, ms, null, []);
  }

  /** Resolves after `ms`, with a timer of the process that runs now. */
  delay(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#add(this.owner, () => resolve(), ms, null, []));
  }

  /** Forgets all timers of a process. */
  kill(owner: string): void {
    this.#killed.add(owner);
    for (const timer of this.#timers) if (timer.owner === owner) this.#timers.delete(timer);
  }

  /** Calls into a process, and lets what follows at once happen. */
  async run(owner: string, action: () => void): Promise<void> {
    this.owner = owner;
    action();
    await settle();
    this.owner = 'nobody';
  }

  /** Lets time pass. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.nowMs + ms;
    for (;;) {
      const timer = this.#next();
      if (timer === null || timer.atMs > untilMs) break;
      await this.#fire(timer);
    }
    this.nowMs = untilMs;
  }

  /**
   * Calls into a process and lets time pass until the promise settles, at most `limitMs`. Throws EndedError
   * where the process ends meanwhile.
   */
  async until<T>(owner: string, action: () => Promise<T>, limitMs = 60_000): Promise<T> {
    const deadlineMs = this.nowMs + limitMs;
    let outcome: { value: T } | { error: unknown } | null = null;
    await this.run(owner, () => {
      action().then(
        (value) => {
          outcome = { value };
        },
        (error) => {
          outcome = { error };
        },
      );
    });
    while (outcome === null) {
      if (this.#killed.has(owner)) throw new EndedError(`${owner} ended`);
      const timer = this.#next();
      if (timer === null) throw new Error(`${owner} waits for nothing`);
      if (timer.atMs > deadlineMs) throw new Error(`${owner} is not done after ${limitMs} ms`);
      await this.#fire(timer);
    }
    const settled = outcome as { value: T } | { error: unknown };
    if ('error' in settled) throw settled.error;
    return settled.value;
  }

  async #fire(timer: Timer): Promise<void> {
    this.nowMs = Math.max(this.nowMs, timer.atMs);
    if (timer.everyMs === null) this.#timers.delete(timer);
    else {
      timer.atMs = this.nowMs + timer.everyMs;
      timer.order = this.#orders++;
    }
    await this.run(timer.owner, () => timer.callback(...timer.args));
  }

  #next(): Timer | null {
    let next: Timer | null = null;
    for (const timer of this.#timers) {
      if (next === null || timer.atMs < next.atMs || (timer.atMs === next.atMs && timer.order < next.order)) {
        next = timer;
      }
    }
    return next;
  }

  #add(owner: string, callback: Callback, ms: number, everyMs: number | null, args: unknown[]): Timer {
    const timer: Timer = {
      atMs: this.nowMs + Math.max(ms, 0),
      order: this.#orders++,
      owner,
      callback,
      args,
      everyMs,
      ref: () => timer,
      unref: () => timer,
      hasRef: () => true,
    };
    if (!this.#killed.has(owner)) this.#timers.add(timer);
    return timer;
  }
}
