// What the importers share: a text read block by block becomes batches of events, with damage told to the
// report.

import { type LineBlock, lineBlocks } from './content/line-blocks.ts';
import type { OpenText, TextFile } from './content/text-file.ts';
import { DecimalError } from './decimal.ts';
import type { EventSource, FeedEvent } from './event.ts';
import { FeedError } from './feed-error.ts';
import type { FeedReport } from './feed-report.ts';

/** A line that cannot be read, with what was expected; its row is left out, the others go on. */
export class BadLineError extends Error {}

/** Reports bad lines of one file; false from `failed` means: give the file up. */
export interface LineJudge {
  /** Runs `read`; a bad line is counted and gives null. */
  read<T>(line: number, read: () => T): T | null;
  /** The file has so many bad lines that it is something else. */
  readonly givenUp: boolean;
}

/** Makes the judge of one file. */
export function createLineJudge(label: string, report: FeedReport): LineJudge {
  let bad = 0;
  const judge = {
    givenUp: false,
    read<T>(line: number, read: () => T): T | null {
      try {
        return read();
      } catch (error) {
        if (!(error instanceof BadLineError || error instanceof DecimalError)) throw error;
        bad++;
        judge.givenUp = !report.badLine(label, line, error.message, bad);
        return null;
      }
    },
  };
  return judge;
}

/**
 * Makes the source of one text. `toEvents` gets block after block; `finish` may add events at the end.
 */
export function createLineSource(
  file: TextFile,
  report: FeedReport,
  reader: {
    toEvents(block: LineBlock): FeedEvent[];
    finish?(): FeedEvent[];
    judge: LineJudge;
  },
): EventSource {
  let text: OpenText | null = null;
  return {
    label: file.label,
    sizeBytes: file.sizeBytes,
    readBytes: () => text?.readBytes() ?? 0,
    async *batches() {
      text = await file.open();
      try {
        for await (const block of lineBlocks(text, file.label)) {
          yield reader.toEvents(block);
          if (reader.judge.givenUp) return;
        }
      } catch (error) {
        if (!(error instanceof FeedError)) throw error;
        report.problem(error);
      } finally {
        await text.close();
      }
      if (reader.finish !== undefined) yield reader.finish();
    },
  };
}
