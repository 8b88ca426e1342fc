// LOBSTER (NASDAQ, order by order): message file → orders and fills, order book file → market_data snapshots.
//
// Message:    seconds after midnight in New York, type, order id, size, price x 10,000, direction (1 buy,
// -1 sell)
// Order book: ask price, ask size, bid price, bid size, level by level; row i is the book after message i
//
// Every message is one row of orders with the size of the message as qty (executions: as filled_qty too);
// executions are a row of fills too.
//   type  meaning                     status                                     fill
//   1     new limit order             accepted
//   2     cancelled in part           replaced, reason partial_cancel
//   3     deleted                     cancelled
//   4     visible execution           filled, where the rest is known to be 0;   liquidity maker
//                                     else partially_filled
//   5     hidden execution            partially_filled                           liquidity hidden
//   6     cross trade (auction)       filled, reason cross                       liquidity auction
//   7     trading halt                unknown, reason by price: -1 halted,
//                                     0 quoting_resumed, 1 trading_resumed

import { csvRows } from './content/csv-rows.ts';
import { lineBlocks } from './content/line-blocks.ts';
import type { OpenText } from './content/text-file.ts';
import type { EventSource, FeedEvent, ImportOptions } from './event.ts';
import { FeedError } from './feed-error.ts';
import type { FeedReport } from './feed-report.ts';
import { createLineJudge, type LineJudge } from './line-source.ts';
import { type BookPair, instrumentOfPair, pairFiles } from './lobster-pairs.ts';
import { bookRow, createMessageReader } from './lobster-rows.ts';

/**
 * Opens LOBSTER files; a message file without its order book gives orders and fills only.
 * @throws FeedError for files of another format, an order book without messages, names without symbol or date
 */
export async function openLobster(
  paths: readonly string[],
  options: ImportOptions,
  report: FeedReport,
): Promise<EventSource[]> {
  const pairs = await pairFiles(paths, report);
  return pairs.map((pair) => openPair(pair, options, report));
}

function openPair(pair: BookPair, options: ImportOptions, report: FeedReport): EventSource {
  const { messages, book } = pair;
  const instrument = instrumentOfPair(pair, options);
  const opened: OpenText[] = [];
  return {
    label: messages.label,
    sizeBytes: messages.sizeBytes + (book?.sizeBytes ?? 0),
    readBytes: () => opened.reduce((sum, text) => sum + text.readBytes(), 0),
    async *batches() {
      const judge = createLineJudge(messages.label, report);
      const reader = createMessageReader(instrument);
      const bookRows =
        book === null ? null : createBookRows(await openInto(opened, book), book.label, report);
      const text = await openInto(opened, messages);
      let rows = 0;
      try {
        for await (const block of lineBlocks(text, messages.label)) {
          const records = csvRows(block);
          const books = bookRows === null ? null : await bookRows.take(records.length);
          const events: FeedEvent[] = [];
          for (const [i, { fields, line }] of records.entries()) {
            const message = judge.read(line, () => reader.read(fields));
            if (judge.givenUp) break;
            if (message === null) continue;
            events.push(...message.events);
            const levels = books?.[i];
            if (levels === undefined || bookRows === null) continue;
            const row = bookRows.judge.read(levels.line, () =>
              bookRow(levels.fields, instrument, message.time),
            );
            if (row !== null) events.push({ topic: 'market_data', eventTimeNs: message.time, row });
          }
          rows += records.length;
          yield events;
          if (judge.givenUp) return;
        }
        await compareLengths(pair, rows, bookRows, report);
      } catch (error) {
        if (!(error instanceof FeedError)) throw error;
        report.problem(error);
      } finally {
        await bookRows?.close();
        for (const one of opened) await one.close();
      }
    },
  };
}

async function openInto(opened: OpenText[], file: BookPair['messages']): Promise<OpenText> {
  const text = await file.open();
  opened.push(text);
  return text;
}

interface BookRows {
  judge: LineJudge;
  /** The next `count` rows; fewer at the end of the file, or of what can be read of it. */
  take(count: number): Promise<{ fields: string[]; line: number }[]>;
  taken: number;
  /** The file could not be read to its end; the report has been told. */
  damaged: boolean;
  close(): Promise<unknown>;
}

function createBookRows(text: OpenText, label: string, report: FeedReport): BookRows {
  const blocks = lineBlocks(text, label);
  let rows: { fields: string[]; line: number }[] = [];
  let ended = false;
  const self: BookRows = {
    judge: createLineJudge(label, report),
    taken: 0,
    damaged: false,
    async take(count) {
      while (rows.length < count && !ended) {
        try {
          const { done, value } = await blocks.next();
          ended = done === true;
          if (value !== undefined) rows = rows.concat(csvRows(value));
        } catch (error) {
          if (!(error instanceof FeedError)) throw error;
          report.problem(error);
          self.damaged = true;
          ended = true;
        }
      }
      const taken = rows.slice(0, count);
      rows = rows.slice(count);
      self.taken += taken.length;
      return taken;
    },
    close: () => blocks.return(undefined),
  };
  return self;
}

async function compareLengths(
  pair: BookPair,
  messageRows: number,
  books: BookRows | null,
  report: FeedReport,
): Promise<void> {
  if (books === null || books.damaged) return;
  let surplus = 0;
  for (let more = await books.take(10_000); more.length > 0; more = await books.take(10_000))
    surplus += more.length;
  if (books.taken === messageRows) return;
  const consequence =
    surplus > 0
      ? `the last ${surplus} books have no time and were left out`
      : 'the last messages have no book';
  report.problem(
    new FeedError(
      'feed_unpaired',
      `${pair.messages.label} has ${messageRows} rows, ${pair.book?.label} ${books.taken}: ${consequence}`,
    ),
  );
}
