// The simulated market: a few instruments of every kind, each a random walk with a book around it.

import type { Row } from '../../schema/build-frame.ts';
import type { Random } from './random.ts';

const Kind = { tick: 1, quote: 2, depth: 3, snapshot: 4 } as const;
const Side = { buy: 1, sell: 2 } as const;
const UNIT = 1_000_000_000;
const SNAPSHOT_LEVELS = 10;

/** What does not change about an instrument. Prices and sizes in units of 1e-9. */
interface InstrumentTerms {
  symbol: string;
  exchange: string;
  tickUnits: number;
  lotUnits: number;
  startTicks: number;
  /** Columns that every row of the instrument has. */
  columns: Row;
  /** How far the exchange's clock is ahead of the engine's, in ns. */
  clockSkewNs: number;
}

/** An instrument with its state. */
export interface Instrument extends InstrumentTerms {
  midTicks: number;
  halfSpreadTicks: number;
  exchSeq: number;
  tradeId: number;
}

function terms(
  symbol: string,
  exchange: string,
  price: number,
  tick: number,
  lot: number,
  columns: Row,
  clockSkewNs = 0,
): InstrumentTerms {
  return {
    symbol,
    exchange,
    tickUnits: Math.round(tick * UNIT),
    lotUnits: Math.round(lot * UNIT),
    startTicks: Math.round(price / tick),
    columns: { symbol, exchange, ...columns },
    clockSkewNs,
  };
}

/** 2024-06-21 and 2024-03-15 in days since 1970. */
const JUNE_EXPIRY = 19_895;
const MARCH_EXPIRY = 19_797;

const INSTRUMENTS: readonly InstrumentTerms[] = [
  terms('ACME', 'XNAS', 187.25, 0.01, 1, { instrument_type: 1 }),
  terms('GLOBEX', 'XNYS', 52.4, 0.01, 1, { instrument_type: 1 }),
  terms('INITECH', 'XNAS', 411.18, 0.01, 1, { instrument_type: 1 }),
  terms('BTCUSDT', 'SIMX_PERP', 43_250.5, 0.1, 0.001, { instrument_type: 4, underlying: 'BTC' }, 1_200_000),
  terms('ETHUSDT', 'SIMX', 2_310.55, 0.01, 0.0001, { instrument_type: 5 }, 900_000),
  terms('ESM4', 'XCME', 4_815.25, 0.25, 1, { instrument_type: 2, underlying: 'ES', expiry: JUNE_EXPIRY }),
  terms('ACME240315C00190000', 'XCBO', 4.35, 0.05, 1, {
    instrument_type: 3,
    underlying: 'ACME',
    strike: 190 * UNIT,
    option_right: 1,
    expiry: MARCH_EXPIRY,
  }),
];

/** Makes the instruments at their starting prices. */
export function createInstruments(): Instrument[] {
  return INSTRUMENTS.map((one) => ({
    ...one,
    midTicks: one.startTicks,
    halfSpreadTicks: 1,
    exchSeq: 1,
    tradeId: 0,
  }));
}

/** Price at `ticks`, in units of 1e-9. */
export function priceUnits(instrument: Instrument, ticks: number): number {
  return ticks * instrument.tickUnits;
}

/** Moves the instrument and makes the row of what happened at `timeNs` (the exchange's time). */
export function marketRow(random: Random, instrument: Instrument, timeNs: bigint): Row {
  walk(random, instrument);
  const latencyNs = 15_000 + Math.floor(random.exponential(60_000)) - instrument.clockSkewNs;
  const row: Row = { ...instrument.columns, exch_ts: timeNs, local_ts: timeNs + BigInt(latencyNs) };
  const previous = instrument.exchSeq;
  instrument.exchSeq += random.int(1, 9);
  row['exch_seq'] = instrument.exchSeq;
  const draw = random.next();
  if (draw < 0.45) quote(random, instrument, row);
  else if (draw < 0.72) trade(random, instrument, row);
  else if (draw < 0.98) {
    depth(random, instrument, row);
    row['exch_seq_first'] = previous + 1;
    row['exch_seq_prev'] = previous;
  } else snapshot(random, instrument, row);
  return row;
}

function walk(random: Random, instrument: Instrument): void {
  const draw = random.next();
  if (draw < 0.1) instrument.midTicks += 1;
  else if (draw < 0.2) instrument.midTicks -= 1;
  if (random.chance(0.02)) instrument.halfSpreadTicks = random.int(1, 4);
  // The walk stays away from zero, however long the feed is.
  const floor = Math.max(20, Math.floor(instrument.startTicks / 2));
  if (instrument.midTicks < floor) instrument.midTicks = floor;
}

function size(random: Random, instrument: Instrument): number {
  return random.int(1, 500) * instrument.lotUnits;
}

function quote(random: Random, instrument: Instrument, row: Row): void {
  const { midTicks, halfSpreadTicks } = instrument;
  // Now and then a side of the book is empty.
  const side = random.next();
  const bid = side >= 0.002;
  const ask = side < 0.998;
  row['kind'] = Kind.quote;
  row['bid_prices'] = bid ? [priceUnits(instrument, midTicks - halfSpreadTicks)] : [];
  row['bid_sizes'] = bid ? [size(random, instrument)] : [];
  row['ask_prices'] = ask ? [priceUnits(instrument, midTicks + halfSpreadTicks)] : [];
  row['ask_sizes'] = ask ? [size(random, instrument)] : [];
}

function trade(random: Random, instrument: Instrument, row: Row): void {
  const buy = random.chance(0.5);
  const { midTicks, halfSpreadTicks } = instrument;
  row['kind'] = Kind.tick;
  row['price'] = priceUnits(instrument, buy ? midTicks + halfSpreadTicks : midTicks - halfSpreadTicks);
  row['volume'] = size(random, instrument);
  row['trade_side'] = buy ? Side.buy : Side.sell;
  row['trade_id'] = ++instrument.tradeId;
  if (random.chance(0.001)) {
    row['suspicious'] = true;
    row['conditions'] = 'Z';
  }
}

function depth(random: Random, instrument: Instrument, row: Row): void {
  row['kind'] = Kind.depth;
  for (const side of ['bid', 'ask'] as const) {
    const prices: number[] = [];
    const sizes: number[] = [];
    const direction = side === 'bid' ? -1 : 1;
    for (let level = random.int(0, 3); level > 0; level--) {
      const away = instrument.halfSpreadTicks + random.int(0, 8);
      prices.push(priceUnits(instrument, instrument.midTicks + direction * away));
      sizes.push(random.chance(0.3) ? 0 : size(random, instrument));
    }
    row[`${side}_prices`] = prices;
    row[`${side}_sizes`] = sizes;
  }
}

function snapshot(random: Random, instrument: Instrument, row: Row): void {
  row['kind'] = Kind.snapshot;
  for (const side of ['bid', 'ask'] as const) {
    const direction = side === 'bid' ? -1 : 1;
    const best = instrument.midTicks + direction * instrument.halfSpreadTicks;
    row[`${side}_prices`] = Array.from({ length: SNAPSHOT_LEVELS }, (_, level) =>
      priceUnits(instrument, best + direction * level),
    );
    row[`${side}_sizes`] = Array.from({ length: SNAPSHOT_LEVELS }, () => size(random, instrument));
  }
}
