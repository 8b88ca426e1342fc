// Wall-clock times of an exchange to UTC. The rules of daylight saving time come from Intl.

import type { CivilDate } from './event.ts';

const MS_PER_DAY = 86_400_000;
const NS_PER_MS = 1_000_000n;

/** The day's calendar date, or null for a date that does not exist. */
export function civilDate(year: number, month: number, day: number): CivilDate | null {
  const date = new Date(Date.UTC(year, month - 1, day));
  const real =
    date.getUTCFullYear() === year && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  return real ? { year, month, day } : null;
}

/** Reads YYYYMMDD or YYYY-MM-DD; null where the text is neither or no date of the calendar. */
export function parseCivilDate(text: string): CivilDate | null {
  const match = /^(\d{4})(-?)(\d{2})\2(\d{2})$/.exec(text);
  return match === null ? null : civilDate(Number(match[1]), Number(match[3]), Number(match[4]));
}

/** `2013-10-07`. */
export function formatCivilDate(date: CivilDate): string {
  return `${date.year}-${String(date.month).padStart(2, '0')}-${String(date.day).padStart(2, '0')}`;
}

/** Days since 1970. */
export function daysSinceEpoch(date: CivilDate): number {
  return Date.UTC(date.year, date.month - 1, date.day) / MS_PER_DAY;
}

/** Turns a time of day on the exchange's clock, in ns since its midnight, into ns since 1970. */
export type DayClock = (timeOfDayNs: bigint) => bigint;

/**
 * Makes the clock of one day in one time zone. A time of day is what the wall clock showed (as LEAN and
 * LOBSTER write it), so on a day on which the clocks change, 04:00 is 04:00 and not four hours after
 * midnight. A time that the wall clock showed twice is the earlier one; one that it skipped is taken with
 * the offset before the change.
 */
export function createDayClock(date: CivilDate, timeZone: string): DayClock {
  const midnightMs = Date.UTC(date.year, date.month - 1, date.day);
  const offsets = zoneOffsets(timeZone);
  // On all but a few days of the year one offset holds from before the day until after it.
  const before = offsets(midnightMs - MS_PER_DAY);
  const after = offsets(midnightMs + 2 * MS_PER_DAY);
  const midnightNs = BigInt(midnightMs) * NS_PER_MS;
  if (before === after) {
    const base = midnightNs - BigInt(before) * NS_PER_MS;
    return (timeOfDayNs) => base + timeOfDayNs;
  }
  return (timeOfDayNs) => {
    const wallMs = midnightMs + Number(timeOfDayNs / NS_PER_MS);
    const early = offsets(wallMs - before) === before;
    const late = offsets(wallMs - after) === after;
    const offset = early || !late ? before : after;
    return midnightNs + timeOfDayNs - BigInt(offset) * NS_PER_MS;
  };
}

/** Offset of the zone's wall clock from UTC in ms, by UTC time in ms. */
function zoneOffsets(timeZone: string): (utcMs: number) => number {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  });
  return (utcMs) => {
    const wholeSecondMs = Math.floor(utcMs / 1000) * 1000;
    const part: Record<string, number> = {};
    for (const { type, value } of format.formatToParts(wholeSecondMs)) part[type] = Number(value);
    const wallMs = Date.UTC(
      part['year']!,
      part['month']! - 1,
      part['day']!,
      part['hour']!,
      part['minute']!,
      part['second']!,
    );
    return wallMs - wholeSecondMs;
  };
}

/** A time since 1970 in s, ms, µs or ns, told apart by its size. */
export function epochNs(time: bigint): bigint {
  if (time < 100_000_000_000n) return time * 1_000_000_000n;
  if (time < 100_000_000_000_000n) return time * 1_000_000n;
  if (time < 100_000_000_000_000_000n) return time * 1000n;
  return time;
}
