// Whether ClickHouse answers, asked only while delivery says that it does not and somebody looks: after an
// outage the flusher's next attempt may be seconds away, and an operator wants to know at once.

import type { ClickHouseAddress } from '../sink/clickhouse-client.ts';
import { pingServer } from '../sink/ping.ts';

const LEAST_INTERVAL_MS = 900;
const TIMEOUT_MS = 1000;

/** Asks one of the servers, at most once a second, without waiting for the answer. */
export class ClickHouseProbe {
  readonly #address: ClickHouseAddress;
  #askedMs = Number.NEGATIVE_INFINITY;
  #answers: boolean | null = null;

  constructor(address: ClickHouseAddress) {
    this.#address = address;
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
    const { urls } = this.#address;
    const answers = await Promise.all(urls.map((url) => pingServer(url, this.#address, TIMEOUT_MS)));
    this.#answers = answers.includes('ok');
  }
}
