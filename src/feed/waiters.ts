// Promises that wait for a condition which somebody else's events bring about.

interface Waiter {
  isMet(): boolean;
  resolve(): void;
  reject(error: Error): void;
}

export class Waiters {
  #waiters: Waiter[] = [];
  #error: Error | null = null;

  /** Resolves when `isMet`, asked now and at each wake(); rejects when fail() was or is called. */
  when(isMet: () => boolean): Promise<void> {
    if (this.#error !== null) return Promise.reject(this.#error);
    if (isMet()) return Promise.resolve();
    return new Promise((resolve, reject) => this.#waiters.push({ isMet, resolve, reject }));
  }

  /** Something has changed: asks every condition again. */
  wake(): void {
    if (this.#waiters.length === 0) return;
    const met = this.#waiters.filter((waiter) => waiter.isMet());
    this.#waiters = this.#waiters.filter((waiter) => !met.includes(waiter));
    for (const waiter of met) waiter.resolve();
  }

  /** Nothing will change any more: every wait, now and later, rejects with the first `error` given. */
  fail(error: Error): void {
    this.#error ??= error;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.reject(this.#error);
  }
}
