// LEAN (QuantConnect) tick files: trades and quotes of US equities and their options → market_data.
//
// Trade: ms, price, size, venue, sale condition, suspicious
// Quote: ms, bid, bid size, ask, ask size, venue, [condition,] suspicious; a side of 0,0 is not there
// Times are the wall clock of New York, prices are x 10,000. Date and symbol stand only in names: of the
// zip entry (20131007_ibm_Trade_Tick.csv), of the file (ibm_20131007_trade.zip), of the folder
// (tick/ibm/20131007_trade.zip).

import { type ChosenFile, chooseFiles } from './choose-files.ts';
import { csvRows } from './content/csv-rows.ts';
import { parseDecimal } from './decimal.ts';
import type { EventSource, FeedEvent, ImportOptions } from './event.ts';
import type { FeedReport } from './feed-report.ts';
import { type Instrument, instrumentOf } from './lean-names.ts';
import { BadLineError, createLineJudge, createLineSource } from './line-source.ts';
import { createDayClock, type DayClock } from './wall-clock.ts';

/** Prices are in 1/10,000: five places more make 1e-9. */
const PRICE_SCALE = 5;
/** ms to ns. */
const TIME_SCALE = 6;
const NS_PER_DAY = 86_400_000_000_000n;
const KIND_TICK = 1;
const KIND_QUOTE = 2;

/**
 * Opens LEAN tick files.
 * @throws FeedError for files of another format, and for files whose names do not say date and symbol
 */
export async function openLean(
  paths: readonly string[],
  options: ImportOptions,
  report: FeedReport,
): Promise<EventSource[]> {
  const expected = 'LEAN tick trades or quotes';
  const chosen = await chooseFiles(paths, 'lean', ['lean-trade', 'lean-quote'], expected, report);
  return chosen.map((one) => openOne(one, options, report));
}

function openOne({ file, format }: ChosenFile, options: ImportOptions, report: FeedReport): EventSource {
  const instrument = instrumentOf(file, options);
  const clock = createDayClock(instrument.date, 'America/New_York');
  const toEvent = format === 'lean-trade' ? tradeEvent : quoteEvent;
  const judge = createLineJudge(file.label, report);
  return createLineSource(file, report, {
    judge,
    toEvents(block) {
      const events: FeedEvent[] = [];
      for (const { fields, line } of csvRows(block)) {
        const event = judge.read(line, () => toEvent(fields, instrument, clock));
        if (event !== null) events.push(event);
        if (judge.givenUp) break;
      }
      return events;
    },
  });
}

function tradeEvent(fields: string[], instrument: Instrument, clock: DayClock): FeedEvent {
  if (fields.length !== 6)
    throw new BadLineError(`${fields.length} fields; expected ms,price,size,venue,condition,suspicious`);
  const time = clock(timeOfDay(fields[0]!));
  return {
    topic: 'market_data',
    eventTimeNs: time,
    row: {
      ...instrument.columns,
      kind: KIND_TICK,
      exch_ts: time,
      price: parseDecimal(fields[1]!, PRICE_SCALE),
      volume: parseDecimal(fields[2]!),
      exchange: fields[3]!,
      conditions: fields[4]!,
      suspicious: flag(fields[5]!),
    },
  };
}

function quoteEvent(fields: string[], instrument: Instrument, clock: DayClock): FeedEvent {
  if (fields.length !== 8 && fields.length !== 7)
    throw new BadLineError(
      `${fields.length} fields; expected ms,bid,bid size,ask,ask size,venue,condition,suspicious`,
    );
  const time = clock(timeOfDay(fields[0]!));
  const bidPrice = parseDecimal(fields[1]!, PRICE_SCALE);
  const bidSize = parseDecimal(fields[2]!);
  const askPrice = parseDecimal(fields[3]!, PRICE_SCALE);
  const askSize = parseDecimal(fields[4]!);
  const hasBid = bidPrice !== 0n || bidSize !== 0n;
  const hasAsk = askPrice !== 0n || askSize !== 0n;
  return {
    topic: 'market_data',
    eventTimeNs: time,
    row: {
      ...instrument.columns,
      kind: KIND_QUOTE,
      exch_ts: time,
      bid_prices: hasBid ? [bidPrice] : [],
      bid_sizes: hasBid ? [bidSize] : [],
      ask_prices: hasAsk ? [askPrice] : [],
      ask_sizes: hasAsk ? [askSize] : [],
      exchange: fields[5]!,
      conditions: fields.length === 8 ? fields[6]! : '',
      suspicious: flag(fields.at(-1)!),
    },
  };
}

function timeOfDay(text: string): bigint {
  const ns = parseDecimal(text, TIME_SCALE);
  if (ns < 0n || ns >= NS_PER_DAY)
    throw new BadLineError(`"${text}" is no time of day in ms (0 to 86,399,999)`);
  return ns;
}

function flag(text: string): boolean {
  if (text !== '0' && text !== '1') throw new BadLineError(`suspicious is "${text}"; expected 0 or 1`);
  return text === '1';
}
