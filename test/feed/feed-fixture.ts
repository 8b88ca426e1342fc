import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { EventSource, FeedEvent } from '../../src/feed/event.ts';
import { createFeedReport, type FeedReport } from '../../src/feed/feed-report.ts';

/** A directory with files for one test. */
export interface FeedFixture {
  directory: string;
  /** Writes a file and returns its path. */
  write(name: string, data: string | Uint8Array): string;
  report: FeedReport;
  /** What the report said aloud. */
  said: string[];
  [Symbol.dispose](): void;
}

export function feedFixture(): FeedFixture {
  const directory = mkdtempSync(join(tmpdir(), 'recorder-feed-'));
  const said: string[] = [];
  return {
    directory,
    write(name, data) {
      const path = join(directory, name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, data);
      return path;
    },
    said,
    report: createFeedReport((level, text) => said.push(`${level}: ${text}`)),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/** All events of the sources, one source after the other. */
export async function eventsOf(sources: readonly EventSource[]): Promise<FeedEvent[]> {
  const events: FeedEvent[] = [];
  for (const source of sources) for await (const batch of source.batches()) events.push(...batch);
  return events;
}

/** What a promise is rejected with; fails where it is not. */
export async function rejectionOf(promise: Promise<unknown>): Promise<Error> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason as Error,
  );
  if (error === null) throw new Error('expected a rejection');
  return error;
}
