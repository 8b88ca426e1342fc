import { RecorderError } from '../errors.ts';

/** What can be wrong with the files given to a feed. */
export type FeedErrorCode =
  | 'feed_not_found'
  | 'feed_unreadable'
  | 'feed_wrong_format'
  | 'feed_truncated'
  | 'feed_corrupt'
  | 'feed_bad_line'
  | 'feed_unknown_symbol'
  | 'feed_unknown_date'
  | 'feed_unpaired'
  | 'feed_usage';

/** An error in a feed's input. The message names the file, and the line where there is one. */
export class FeedError extends RecorderError {
  constructor(code: FeedErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(code, message, options);
    this.name = 'FeedError';
  }
}
