// The contract between the importers, the simulator and the player.

import type { Row } from '../schema/build-frame.ts';

/** Topics that a feed produces. */
export type FeedTopic = 'market_data' | 'orders' | 'fills' | 'risk_log' | 'backtest_runs' | 'latency_spans';

/**
 * One row on its way to the recorder. `eventTimeNs` (ns since 1970) is when a replay at real speed sends
 * it.
 */
export interface FeedEvent {
  topic: FeedTopic;
  row: Row;
  eventTimeNs: bigint;
}

/**
 * A file, a zip entry, a pair of files, or the simulator: events in the order in which they were recorded.
 */
export interface EventSource {
  /** What messages call it. */
  label: string;
  /** Size on disk of what is read, 0 where there is no file. */
  sizeBytes: number;
  /** Bytes of `sizeBytes` read so far, for progress. */
  readBytes(): number;
  /**
   * Events in batches. Damage in the input is told to the report and ends the batches, it is not thrown:
   * what was read before it is sent.
   */
  batches(): AsyncGenerator<FeedEvent[]>;
}

/** What the command line says about all files of a feed. */
export interface ImportOptions {
  /** Instrument symbol, where the files do not say it or say it wrong. */
  symbol?: string | undefined;
  /** Trading day, where the files do not say it or say it wrong. */
  date?: CivilDate | undefined;
}

/** A day of the calendar; month 1 to 12. */
export interface CivilDate {
  year: number;
  month: number;
  day: number;
}
