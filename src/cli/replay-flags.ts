// Flags of `wal replay`, from text to a filter.

import { RecorderError } from '../errors.ts';
import type { RowFilter } from '../supervisor/replay/replay-filter.ts';

/** As commander gives them. */
export interface ReplayFlags {
  topic?: string;
  fromLsn?: string;
  toLsn?: string;
  source?: string;
  session?: string;
  fromSeq?: string;
  toSeq?: string;
  fromTime?: string;
  toTime?: string;
  deadLetters?: boolean;
  dryRun?: boolean;
  embedded?: boolean;
  json?: boolean;
}

function bad(flag: string, text: string, expected: string): RecorderError {
  return new RecorderError('bad_option', `${flag} ${text}: expected ${expected}`);
}

function number(flag: string, text: string | undefined): bigint | null {
  if (text === undefined) return null;
  if (/^\d{1,20}$/.test(text)) return BigInt(text);
  throw bad(flag, text, 'a whole number');
}

const TIME = /^(\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?$/;

/** Nanoseconds since 1970 of an ISO time with up to 9 digits after the point; UTC unless it says another. */
export function parseTimeNs(flag: string, text: string | undefined): bigint | null {
  if (text === undefined) return null;
  if (/^-?\d{1,19}$/.test(text)) return BigInt(text);
  const match = TIME.exec(text);
  const [, instant = '', fraction = '', zone = 'Z'] = match ?? [];
  const ms =
    match === null
      ? Number.NaN
      : Date.parse(`${instant.replace(' ', 'T')}${instant.length > 10 ? zone : ''}`);
  if (Number.isNaN(ms)) throw bad(flag, text, 'a time like 2026-01-31T09:30:00.123456789Z, or ns since 1970');
  return BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
}

/** Checks the flags. Throws RecorderError that says what was expected. */
export function parseReplayFilter(flags: ReplayFlags): RowFilter {
  const toLsn = number('--to-lsn', flags.toLsn);
  const filter: RowFilter = {
    topic: flags.topic ?? null,
    fromLsn: number('--from-lsn', flags.fromLsn) ?? 0n,
    endLsn: toLsn === null ? null : toLsn + 1n,
    source: flags.source ?? null,
    session: flags.session ?? null,
    fromSeq: number('--from-seq', flags.fromSeq),
    toSeq: number('--to-seq', flags.toSeq),
    fromNs: parseTimeNs('--from-time', flags.fromTime),
    endNs: parseTimeNs('--to-time', flags.toTime),
  };
  const hasSeq = filter.fromSeq !== null || filter.toSeq !== null;
  if (hasSeq && (filter.source === null || filter.session === null)) {
    throw new RecorderError('bad_option', 'sequence numbers count within a session', {
      hint: 'add --source and --session',
    });
  }
  const { deadLetters, fromLsn, toLsn: to, source, session, fromTime, toTime } = flags;
  const narrowed = [fromLsn, to, source, session, fromTime, toTime].some((flag) => flag !== undefined);
  if (deadLetters === true && (narrowed || hasSeq)) {
    throw new RecorderError('bad_option', '--dead-letters takes --topic alone: a letter is one group');
  }
  return filter;
}
