// Whether the servers answer, looked at only while somebody waits for one: a request that takes long, or a
// pause before the next attempt.
//
// A server that hangs would otherwise show when its requests time out, and one that is back would be noticed
// at the end of a pause. So it is pinged meanwhile: its silence is reported within two seconds, and the first
// answer after it ends all pauses, and soon the requests that were made before: whoever has restarted will
// never answer them.

import type { SinkClient } from './clickhouse-client.ts';
import type { FlusherEvent } from './flusher-types.ts';
import type { PingAnswer } from './ping.ts';
import { pause } from './retry.ts';
import { ServerError } from './server-error.ts';

const PING_INTERVAL_MS = 500;
const PING_TIMEOUT_MS = 700;
/** A request that takes longer may be one that hangs. */
const LONG_MS = 500;
/** Pings in a row without an answer: a busy server may miss one. */
const SILENT_PINGS = 2;

/** What was under way during a silence fails within this time after; the next attempt need not wait. */
const JUST_BACK_MS = 5000;
/** A server that was only frozen answers earlier requests within this time. */
const LATE_ANSWER_MS = 1500;

/** Somebody waits for a server. */
interface Wait {
  client: SinkClient;
  sinceMs: number;
  isPause: boolean;
  /** Ends the pause, or gives the request up. */
  end: () => void;
}

interface ServerState {
  silentPings: number;
  /** Wall clock, ms since 1970; null while it answers. */
  silentSinceMs: number | null;
  isPinging: boolean;
}

export class ServerWatch {
  readonly #report: (event: FlusherEvent) => void;
  readonly #waits = new Set<Wait>();
  readonly #servers = new Map<string, ServerState>();
  /** When servers answered again. */
  readonly #backMs = new Map<string, number>();
  #timer: ReturnType<typeof setTimeout> | null = null;

  constructor(report: (event: FlusherEvent) => void) {
    this.#report = report;
  }

  /** Nobody waits any longer: requests that are not answered soon are given up. */
  end(): void {
    this.#giveUpLater([...this.#waits]);
  }

  /** The client, with its requests watched. */
  watched(client: SinkClient): SinkClient {
    const during = async <T>(request: (signal: AbortSignal) => Promise<T>): Promise<T> => {
      const given = new AbortController();
      const { url } = client;
      const wait = this.#begin(client, false, () => given.abort());
      try {
        const result = await Promise.race([request(given.signal), givenUp(given.signal, url)]);
        this.#answered(url);
        return result;
      } finally {
        this.#waits.delete(wait);
      }
    };
    return {
      get url() {
        return client.url;
      },
      nextServer: () => client.nextServer(),
      query: (sql, queryId) => during(() => client.query(sql, queryId)),
      command: (sql) => during(() => client.command(sql)),
      insert: (request) => during((signal) => client.insert({ ...request, signal })),
      ping: (timeoutMs) => client.ping(timeoutMs),
      close: () => client.close(),
    };
  }

  /** Waits before the next attempt; not longer than until the server answers again. Never throws. */
  async pause(client: SinkClient, ms: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    const stop = () => woken.abort();
    signal.addEventListener('abort', stop);
    const wait = this.#begin(client, true, stop);
    if (signal.aborted) stop();
    const backMs = performance.now() - (this.#backMs.get(client.url) ?? Number.NEGATIVE_INFINITY);
    await pause(backMs < JUST_BACK_MS ? Math.min(ms, PING_INTERVAL_MS) : ms, woken.signal);
    this.#waits.delete(wait);
    signal.removeEventListener('abort', stop);
  }

  #begin(client: SinkClient, isPause: boolean, end: () => void): Wait {
    const wait = { client, sinceMs: performance.now(), isPause, end };
    this.#waits.add(wait);
    this.#timer ??= setTimeout(() => this.#look(), LONG_MS);
    return wait;
  }

  /** Pings every server that somebody has waited for long. */
  #look(): void {
    this.#timer = null;
    if (this.#waits.size === 0) return;
    const nowMs = performance.now();
    const pinged = new Set<string>();
    for (const { client, sinceMs, isPause } of this.#waits) {
      const isLong = isPause || nowMs - sinceMs >= LONG_MS;
      if (!isLong || pinged.has(client.url)) continue;
      pinged.add(client.url);
      void this.#ping(client, client.url);
    }
    this.#timer = setTimeout(() => this.#look(), PING_INTERVAL_MS);
  }

  async #ping(client: SinkClient, url: string): Promise<void> {
    const state = this.#servers.get(url) ?? { silentPings: 0, silentSinceMs: null, isPinging: false };
    this.#servers.set(url, state);
    if (state.isPinging) return;
    state.isPinging = true;
    const askedMs = Date.now();
    const answer = await client.ping(PING_TIMEOUT_MS);
    state.isPinging = false;
    // Answered otherwise meanwhile.
    if (this.#servers.get(url) !== state) return;
    if (answer === 'ok') this.#answered(url);
    else this.#missed(url, state, answer, askedMs);
  }

  #missed(url: string, state: ServerState, answer: PingAnswer, askedMs: number): void {
    state.silentPings++;
    if (state.silentSinceMs !== null || (answer === 'silent' && state.silentPings < SILENT_PINGS)) return;
    state.silentSinceMs = askedMs;
    const what = answer === 'refused' ? 'refuses connections' : 'does not answer';
    const message = `${url} ${what} since ${new Date(askedMs).toISOString()}`;
    this.#report({ kind: 'silent', url, sinceMs: askedMs, message });
  }

  #answered(url: string): void {
    const silentSinceMs = this.#servers.get(url)?.silentSinceMs ?? null;
    this.#servers.delete(url);
    if (silentSinceMs === null) return;
    this.#backMs.set(url, performance.now());
    this.#report({ kind: 'answers', url, silentMs: Date.now() - silentSinceMs });
    const waits = [...this.#waits].filter(({ client }) => client.url === url);
    for (const { isPause, end } of waits) if (isPause) end();
    this.#giveUpLater(waits.filter(({ isPause }) => !isPause));
  }

  #giveUpLater(requests: readonly Wait[]): void {
    if (requests.length === 0) return;
    setTimeout(() => {
      for (const request of requests) if (this.#waits.has(request)) request.end();
    }, LATE_ANSWER_MS);
  }
}

/** Rejects when the signal comes. */
function givenUp(signal: AbortSignal, url: string): Promise<never> {
  return new Promise((_, reject) => {
    const message = `${url} did not answer, and the request was given up`;
    signal.addEventListener('abort', () => reject(new ServerError('unknown', null, message)));
  });
}
