// Whether ClickHouse answers, asked only while delivery says that it does not and somebody looks: after an
// outage the flusher's next attempt may be seconds away, and an operator wants to know at once.

const LEAST_INTERVAL_MS = 900;
const TIMEOUT_MS = 1000;

/** Asks one of the servers, at most once a second, without waiting for the answer. */
export class ClickHouseProbe {
  readonly #urls: readonly string[];
  readonly #options: BunFetchRequestInit;
  #askedMs = Number.NEGATIVE_INFINITY;
  #answers: boolean | null = null;

  constructor(urls: readonly string[], options: BunFetchRequestInit) {
    this.#urls = urls;
    this.#options = options;
  }

  /** The last answer, and asks again; null: not known yet. `isWanted` false forgets it. */
  look(isWanted: boolean): boolean | null {
    if (!isWanted) {
      this.#answers = null;
      return null;
    }
    const nowMs = performance.now();
    if (nowMs - this.#askedMs >= LEAST_INTERVAL_MS) {
      this.#askedMs = nowMs;
      void this.#ask();
    }
    return this.#answers;
  }

  async #ask(): Promise<void> {
    const answers = await Promise.all(this.#urls.map((url) => this.#ping(url)));
    this.#answers = answers.includes(true);
  }

  async #ping(url: string): Promise<boolean> {
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const response = await fetch(`${url}/ping`, { ...this.#options, signal, keepalive: false });
      await response.text();
      return response.ok;
    } catch {
      return false;
    }
  }
}
