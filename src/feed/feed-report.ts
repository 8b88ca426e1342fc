// What a feed has to say beside its rows: problems (they make the exit code 1), notes, skipped lines by kind.

import { describeError } from '../errors.ts';

/** How many bad lines a file may have before it is given up as something else than it seemed. */
export const BAD_LINES_PER_FILE = 100;
const SHOWN_BAD_LINES = 5;
const KEPT_MESSAGES = 100;

export interface FeedReport {
  /** Things that went wrong, oldest first; bounded, `problemCount` is not. */
  readonly problems: string[];
  problemCount: number;
  readonly notes: string[];
  badLines: number;
  /** Lines that are not recorded because their kind is not known, by kind. */
  readonly skipped: Map<string, number>;
  problem(error: unknown): void;
  note(text: string): void;
  /** Counts a line that cannot be read. Returns false when its file should be given up. */
  badLine(label: string, line: number, reason: string, badLinesOfFile: number): boolean;
  /** Counts a line of a kind that is not recorded; the first of each kind is said aloud. */
  skip(label: string, line: number, kind: string): void;
}

/** Makes a report; `say` gets each message at once. */
export function createFeedReport(say: (level: 'warn' | 'error', text: string) => void): FeedReport {
  const report: FeedReport = {
    problems: [],
    problemCount: 0,
    notes: [],
    badLines: 0,
    skipped: new Map(),
    problem(error) {
      const text = describeError(error);
      report.problemCount++;
      if (report.problems.length < KEPT_MESSAGES) report.problems.push(text);
      say('error', text);
    },
    note(text) {
      if (report.notes.length < KEPT_MESSAGES) report.notes.push(text);
      say('warn', text);
    },
    badLine(label, line, reason, badLinesOfFile) {
      report.badLines++;
      report.problemCount++;
      const text = `${label}, line ${line}: ${reason}`;
      if (report.problems.length < KEPT_MESSAGES) report.problems.push(text);
      if (badLinesOfFile <= SHOWN_BAD_LINES) say('error', text);
      if (badLinesOfFile === SHOWN_BAD_LINES) say('error', `${label}: further bad lines are only counted`);
      if (badLinesOfFile < BAD_LINES_PER_FILE) return true;
      say('error', `${label}: given up after ${badLinesOfFile} bad lines`);
      return false;
    },
    skip(label, line, kind) {
      const count = report.skipped.get(kind) ?? 0;
      report.skipped.set(kind, count + 1);
      if (count === 0) report.note(`${label}, line ${line}: ${kind} is not recorded; skipped and counted`);
    },
  };
  return report;
}
