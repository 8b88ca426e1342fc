import { expect, test } from 'bun:test';
import { createDayClock, daysSinceEpoch, epochNs, parseCivilDate } from '../../src/feed/wall-clock.ts';

const NEW_YORK = 'America/New_York';
const HOUR_NS = 3_600_000_000_000n;

function utc(day: string, timeOfDayNs: bigint): string {
  const ns = createDayClock(parseCivilDate(day)!, NEW_YORK)(timeOfDayNs);
  return `${new Date(Number(ns / 1_000_000n)).toISOString()}+${ns % 1_000_000n}`;
}

const examples: [day: string, hours: bigint, utc: string, why: string][] = [
  ['2013-10-07', 4n, '2013-10-07T08:00:00.000Z+0', 'summer time'],
  ['2013-11-04', 4n, '2013-11-04T09:00:00.000Z+0', 'winter time'],
  ['20120621', 10n, '2012-06-21T14:00:00.000Z+0', 'date without dashes'],
  ['2013-11-03', 0n, '2013-11-03T04:00:00.000Z+0', 'midnight of the day on which clocks go back'],
  ['2013-11-03', 1n, '2013-11-03T05:00:00.000Z+0', 'an hour that comes twice is the earlier one'],
  ['2013-11-03', 4n, '2013-11-03T09:00:00.000Z+0', '04:00 on the wall after the clocks went back'],
  ['2014-03-09', 1n, '2014-03-09T06:00:00.000Z+0', 'before the clocks go forward'],
  ['2014-03-09', 2n, '2014-03-09T07:00:00.000Z+0', 'an hour that does not exist has the offset before'],
  ['2014-03-09', 4n, '2014-03-09T08:00:00.000Z+0', '04:00 on the wall after the clocks went forward'],
  ['2014-03-10', 4n, '2014-03-10T08:00:00.000Z+0', 'the day after'],
  ['2014-03-08', 23n, '2014-03-09T04:00:00.000Z+0', 'the evening before'],
  ['1999-12-31', 9n, '1999-12-31T14:00:00.000Z+0', 'another century'],
];

for (const [day, hours, expected, why] of examples) {
  test(`${day} ${hours}:00 in New York is ${expected}: ${why}`, () => {
    expect(utc(day, hours * HOUR_NS)).toBe(expected);
  });
}

test('nanoseconds are kept', () => {
  expect(utc('2012-06-21', 34_200_004_241_176n)).toBe('2012-06-21T13:30:00.004Z+241176');
});

test('a date of no calendar is none', () => {
  for (const text of ['2013-02-29', '20131301', '2013-1-1', '2013-10-7', '', 'today', '2013-1007'])
    expect(parseCivilDate(text)).toBeNull();
  expect(daysSinceEpoch(parseCivilDate('2024-06-21')!)).toBe(19_895);
});

test('times since 1970 are told apart by their size', () => {
  const ns = 1_723_161_255_208_000_000n;
  for (const unit of [1n, 1000n, 1_000_000n]) expect(epochNs(ns / unit)).toBe(ns);
});
