// A topic's failed attempts: how often, the last reason, who is told, how the time until the next is spent.

import type { RecorderError } from '../errors.ts';
import type { SinkClient } from './clickhouse-client.ts';
import type { FlusherConfig, FlusherEvent } from './flusher-types.ts';
import { untilDone } from './retry.ts';
import { ServerError } from './server-error.ts';
import type { ServerWatch } from './server-watch.ts';

export interface TopicAttemptsOptions {
  topic: string;
  config: FlusherConfig;
  client: SinkClient;
  servers: ServerWatch;
  signal: AbortSignal;
  random: () => number;
  report: (event: FlusherEvent) => void;
}

export class TopicAttempts {
  readonly #options: TopicAttemptsOptions;
  /** Failed attempts since the start. */
  failures = 0;
  /** Of the last failed attempt; null when one has succeeded since. */
  lastError: string | null = null;

  constructor(options: TopicAttemptsOptions) {
    this.#options = options;
  }

  /** Spends the time before the next attempt. */
  readonly wait = (ms: number): Promise<void> => {
    const { servers, client, signal } = this.#options;
    return servers.pause(client, ms, signal);
  };

  failed(error: RecorderError): void {
    this.failures += 1;
    this.lastError = error.message;
  }

  /** An attempt has succeeded. */
  succeeded(): void {
    if (this.lastError === null) return;
    this.lastError = null;
    this.#options.report({ kind: 'recovered', topic: this.#options.topic });
  }

  /**
   * Asks a server until it answers; null when stopped first. A failed question changes nothing on any server:
   * the next one may be asked.
   * @param onRefused called for failures that are not the server's absence, instead of a report
   */
  async ask<T>(
    action: () => Promise<T>,
    onFailure: (error: RecorderError, isUnavailable: boolean) => void,
    onRefused?: (error: RecorderError) => void,
  ): Promise<T | null> {
    const { topic, config, client, signal, random, report } = this.#options;
    const answer = await untilDone(action, {
      retryBaseMs: config.retryBaseMs,
      retryMaxMs: config.retryMaxMs,
      signal,
      random,
      wait: this.wait,
      onFailure: (error, attempt, waitMs) => {
        const outcome = error instanceof ServerError ? error.outcome : 'refused';
        this.failed(error);
        onFailure(error, outcome !== 'refused');
        if (outcome === 'refused' && onRefused !== undefined) onRefused(error);
        else report({ kind: 'retry', topic, outcome, attempt, message: error.message, waitMs });
        if (error instanceof ServerError && error.clickhouseCode === null) client.nextServer();
      },
    });
    if (answer !== null) this.succeeded();
    return answer;
  }
}
