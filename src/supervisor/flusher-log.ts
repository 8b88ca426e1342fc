// What the flusher reports, as log lines.

import type { Logger } from '../log.ts';
import type { FlusherEvent } from '../sink/flusher-types.ts';

/** Attempts 1, 2, 4, 8 … are logged: an outage of hours is some lines, not thousands. */
const isWorthALine = (attempt: number): boolean => (attempt & (attempt - 1)) === 0;

/** Logs an event of the flusher. */
export function logFlusherEvent(logger: Logger, event: FlusherEvent): void {
  switch (event.kind) {
    case 'inserted':
      return;
    case 'connected':
      logger.info(`delivering to ClickHouse ${event.version} at ${event.url}`);
      if (!event.deduplicationTokens) {
        logger.info(
          'this server has no deduplication tokens: after an unknown outcome it is asked for the rows first',
        );
      }
      return;
    case 'waiting':
      logger.warn(`${event.message}; this process waits for its end`);
      return;
    case 'retry':
      if (isWorthALine(event.attempt)) {
        const { topic, outcome, attempt, message, waitMs } = event;
        logger.warn(
          { topic, outcome, attempt },
          `insert failed, again in ${Math.round(waitMs)} ms: ${message}`,
        );
      }
      return;
    case 'no_room':
      logger.error(`nothing is delivered until the disk has room: ${event.message}`);
      return;
    case 'silent':
      logger.warn(event.message);
      return;
    case 'answers':
      logger.info(`${event.url} answers again, after ${Math.round(event.silentMs / 1000)} s`);
      return;
    case 'recovered':
      logger.info({ topic: event.topic }, 'delivers again');
      return;
    case 'blocked':
      logger.error({ topic: event.topic, code: event.code }, `cannot be delivered: ${event.message}`);
      return;
    case 'dead_letter': {
      const { topic, firstLsn, lastLsn, rowCount, reason, path } = event;
      logger.error(
        { topic, path },
        `${rowCount} rows (LSN ${firstLsn} to ${lastLsn}) refused, kept in ${path}: ${reason}`,
      );
      return;
    }
    case 'damage': {
      const { topic, segment, firstLsn, lastLsn, reason } = event;
      logger.error(
        { topic, segment },
        `rows ${firstLsn} to ${lastLsn} cannot be read from the WAL: ${reason}`,
      );
      return;
    }
    case 'resumed_from_server':
      logger.warn(
        { topic: event.topic },
        `${event.rows} rows were already at the server, going on at LSN ${event.nextLsn}`,
      );
      return;
    case 'failed':
      logger.fatal({ topic: event.topic, code: event.code }, `the flusher stopped: ${event.message}`);
      return;
  }
}
