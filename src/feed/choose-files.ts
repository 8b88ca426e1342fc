// From paths to the texts of one importer's formats. Everything is looked at before anything is sent.

import { type Detected, detectFormat, type KnownFormat } from './content/detect-format.ts';
import { firstLines } from './content/line-blocks.ts';
import { listTextFiles, type TextFile } from './content/text-file.ts';
import { FeedError } from './feed-error.ts';
import type { FeedReport } from './feed-report.ts';

/** A text whose format is known. */
export interface ChosenFile {
  file: TextFile;
  format: KnownFormat;
}

/**
 * Finds the texts in `paths` that have one of the `formats`. What a directory or an archive holds beside
 * them is skipped with a note, as are empty files; damage is told to the report and the others are taken.
 * @throws FeedError where a named file has another format, or where there is nothing to play
 */
export async function chooseFiles(
  paths: readonly string[],
  feed: string,
  formats: readonly KnownFormat[],
  expected: string,
  report: FeedReport,
): Promise<ChosenFile[]> {
  if (paths.length === 0)
    throw new FeedError('feed_usage', `feed ${feed} needs files`, {
      hint: `name files or directories of ${expected}`,
    });
  const texts = await listTextFiles(paths, report);
  const chosen: ChosenFile[] = [];
  const mismatches: FeedError[] = [];
  let quiet = 0;
  for (const file of texts) {
    const detected = await detect(file, report);
    if (detected === null) quiet++;
    else if (detected.format !== null && formats.includes(detected.format)) {
      chosen.push({ file, format: detected.format });
    } else {
      const error = mismatch(file, feed, expected, detected);
      if (!file.found) throw error;
      mismatches.push(error);
    }
  }
  if (chosen.length === 0 && mismatches.length > 0) throw mismatches[0];
  for (const error of mismatches) report.note(`${error.message}; skipped`);
  if (chosen.length === 0 && quiet === 0 && report.problemCount === 0)
    throw new FeedError('feed_not_found', `${paths.join(', ')}: no files to play; expected ${expected}`);
  return chosen;
}

/** null: empty, or so damaged that nothing can be told; the report says which. */
async function detect(file: TextFile, report: FeedReport): Promise<Detected | null> {
  try {
    const lines = await firstLines(file);
    if (lines.length > 0) return detectFormat(lines);
    report.note(`${file.label}: is empty, no rows`);
  } catch (error) {
    if (!(error instanceof FeedError)) throw error;
    if (error.code === 'feed_wrong_format') return { format: null, description: error.message };
    report.problem(error);
  }
  return null;
}

/** The feed that plays each format. */
const FEED_OF: Record<KnownFormat, string> = {
  'lean-trade': 'lean',
  'lean-quote': 'lean',
  binance: 'binance',
  'lobster-message': 'lobster',
  'lobster-orderbook': 'lobster',
};

function mismatch(file: TextFile, feed: string, expected: string, detected: Detected): FeedError {
  const hint =
    detected.format === null
      ? `feed ${feed} cannot play it`
      : `play it with: recorder feed ${FEED_OF[detected.format]}`;
  return new FeedError(
    'feed_wrong_format',
    `${file.label}: expected ${expected}, found ${detected.description}`,
    {
      hint,
    },
  );
}
