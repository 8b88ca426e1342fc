// Sets of sequence numbers as sorted, disjoint ranges: gaps of a UDP session, holes left by a crash. Pure.
// All functions work in place on an array that is sorted by `first` and whose ranges do not touch each
// other's numbers.

/** Sequence numbers first to last, both included. */
export interface SequenceRange {
  first: number;
  last: number;
}

/** Index of the range that holds `seq`, or -1. */
export function indexOfSequence(ranges: readonly SequenceRange[], seq: number): number {
  let low = 0;
  let high = ranges.length - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const range = ranges[middle]!;
    if (seq < range.first) high = middle - 1;
    else if (seq > range.last) low = middle + 1;
    else return middle;
  }
  return -1;
}

/**
 * Takes `seq` out of the range at `index`, which holds it; a range that is cut in two keeps its other
 * properties.
 */
export function removeSequenceAt<T extends SequenceRange>(ranges: T[], index: number, seq: number): void {
  const range = ranges[index]!;
  if (range.first === range.last) ranges.splice(index, 1);
  else if (seq === range.first) range.first = seq + 1;
  else if (seq === range.last) range.last = seq - 1;
  else {
    const upper = { ...range, first: seq + 1 };
    range.last = seq - 1;
    ranges.splice(index + 1, 0, upper);
  }
}

/** Adds `seq`, joining it to ranges that it touches. Cheap where numbers come nearly in order. */
export function addSequence(ranges: SequenceRange[], seq: number): void {
  let index = ranges.length;
  while (index > 0 && ranges[index - 1]!.first > seq) index--;
  const before = ranges[index - 1];
  const after = ranges[index];
  if (before !== undefined && seq <= before.last) return;
  const joinsBefore = before !== undefined && before.last + 1 === seq;
  const joinsAfter = after !== undefined && after.first - 1 === seq;
  if (joinsBefore && joinsAfter) {
    before.last = after.last;
    ranges.splice(index, 1);
  } else if (joinsBefore) before.last = seq;
  else if (joinsAfter) after.first = seq;
  else ranges.splice(index, 0, { first: seq, last: seq });
}

/** What lies between the ranges and above `base`: the numbers that are missing up to the last range. */
export function missingBetween(ranges: readonly SequenceRange[], base: number): SequenceRange[] {
  const missing: SequenceRange[] = [];
  let next = base + 1;
  for (const { first, last } of ranges) {
    if (first > next) missing.push({ first: next, last: first - 1 });
    if (last + 1 > next) next = last + 1;
  }
  return missing;
}

/** Adds the range, joining it to those that it touches. */
export function addRange(ranges: SequenceRange[], first: number, last: number): void {
  removeRange(ranges, first, last);
  let index = ranges.findIndex((range) => range.first > last);
  if (index < 0) index = ranges.length;
  ranges.splice(index, 0, { first, last });
  for (const at of [index + 1, index]) {
    const before = ranges[at - 1];
    const after = ranges[at];
    if (before === undefined || after === undefined || before.last + 1 !== after.first) continue;
    before.last = after.last;
    ranges.splice(at, 1);
  }
}

/** Takes the numbers first to last out of the ranges. */
export function removeRange(ranges: SequenceRange[], first: number, last: number): void {
  for (let index = ranges.length - 1; index >= 0; index--) {
    const range = ranges[index]!;
    if (range.first > last || range.last < first) continue;
    const rest: SequenceRange[] = [];
    if (range.first < first) rest.push({ first: range.first, last: first - 1 });
    if (range.last > last) rest.push({ first: last + 1, last: range.last });
    ranges.splice(index, 1, ...rest);
  }
}
