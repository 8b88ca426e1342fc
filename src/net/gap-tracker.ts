// Sequencing of one UDP session over the lines (A and B) of its feed. Pure: time comes in as an argument.
//
// Invariants
// - Every sequence number below `next` was delivered, or lies in exactly one gap.
// - The first copy of a message wins, whichever line brings it; every other copy is a duplicate.
// - Rows are delivered as they come: a message after a gap is never held back, its sequence number tells
//   the order.
//
// Life cycle of a gap: opened when a later number (or a heartbeat) shows it; closed silently where the
// missing numbers come within the waiting time, from whichever line; else reported missing once. A number
// of a reported gap that comes after all is delivered, and reported filled_late with the next tick, so that
// a run of them makes one event.

import { indexOfSequence, removeSequenceAt, type SequenceRange } from './sequence-ranges.ts';

/** Gaps that one session can have open; beyond it the oldest are reported and forgotten. */
export const MAX_OPEN_GAPS = 65_536;

interface Gap extends SequenceRange {
  openedAtMs: number;
  /** Line that showed it */
  line: string;
  reported: boolean;
}

/** Says what became of sequence numbers first to last. */
export type GapReport = (state: 'missing' | 'filled_late', first: number, last: number, line: string) => void;

export class GapTracker {
  /** The next number that was never seen. */
  next: number;
  readonly #gaps: Gap[] = [];
  readonly #lateFills: { first: number; last: number; line: string }[] = [];
  #unreported = 0;

  /**
   * `next`: first number expected; `holes`: numbers below it that are known to be missing and were
   * reported; `unreported`: those that were not, and are with the next tick.
   */
  constructor(next: number, holes: readonly SequenceRange[] = [], unreported: readonly SequenceRange[] = []) {
    this.next = next;
    const place = { openedAtMs: Number.NEGATIVE_INFINITY, line: '' };
    for (const hole of holes) this.#gaps.push({ ...hole, ...place, reported: true });
    for (const hole of unreported) this.#gaps.push({ ...hole, ...place, reported: false });
    this.#gaps.sort((a, b) => a.first - b.first);
    this.#unreported = unreported.length;
  }

  /** Missing numbers that were not reported yet. */
  unreportedGaps(): SequenceRange[] {
    if (this.#unreported === 0) return [];
    return this.#gaps.filter(({ reported }) => !reported).map(({ first, last }) => ({ first, last }));
  }

  /** Gaps that are open, reported or not. */
  get openGaps(): number {
    return this.#gaps.length;
  }

  /** True where tick() has something to wait for. */
  get isWaiting(): boolean {
    return this.#unreported > 0 || this.#lateFills.length > 0;
  }

  /** True where `seq` is to be delivered; false for a duplicate. */
  accept(seq: number, line: string, nowMs: number): boolean {
    if (seq === this.next) {
      this.next = seq + 1;
      return true;
    }
    if (seq > this.next) {
      this.reveal(seq, line, nowMs);
      this.next = seq + 1;
      return true;
    }
    const index = indexOfSequence(this.#gaps, seq);
    if (index < 0) return false;
    this.#fill(index, seq, line);
    return true;
  }

  /**
   * Learns that all numbers below `seq` exist: the sequence number of a heartbeat, or of a message that
   * came.
   */
  reveal(seq: number, line: string, nowMs: number): void {
    if (seq <= this.next) return;
    this.#gaps.push({ first: this.next, last: seq - 1, openedAtMs: nowMs, line, reported: false });
    this.#unreported++;
    this.next = seq;
  }

  /** Reports the gaps that have waited for `timeoutMs`, and what was filled late since the last tick. */
  tick(nowMs: number, timeoutMs: number, report: GapReport): void {
    if (this.#unreported > 0) {
      for (const gap of this.#gaps) {
        if (gap.reported || nowMs - gap.openedAtMs < timeoutMs) continue;
        gap.reported = true;
        this.#unreported--;
        report('missing', gap.first, gap.last, gap.line);
      }
    }
    for (const { first, last, line } of this.#lateFills) report('filled_late', first, last, line);
    this.#lateFills.length = 0;
    // A forgotten gap can no longer be told from what was delivered: what comes late for it counts as a
    // duplicate.
    if (this.#gaps.length > MAX_OPEN_GAPS) this.#forgetOldest(report);
  }

  #forgetOldest(report: GapReport): void {
    for (const gap of this.#gaps.splice(0, this.#gaps.length - MAX_OPEN_GAPS)) {
      if (gap.reported) continue;
      this.#unreported--;
      report('missing', gap.first, gap.last, gap.line);
    }
  }

  #fill(index: number, seq: number, line: string): void {
    const gap = this.#gaps[index]!;
    const gapsBefore = this.#gaps.length;
    removeSequenceAt(this.#gaps, index, seq);
    if (!gap.reported) {
      this.#unreported += this.#gaps.length - gapsBefore;
      return;
    }
    const lastFill = this.#lateFills.at(-1);
    if (lastFill !== undefined && lastFill.last + 1 === seq && lastFill.line === line) lastFill.last = seq;
    else this.#lateFills.push({ first: seq, last: seq, line });
  }
}
