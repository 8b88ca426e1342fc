// LOBSTER records to rows of orders, fills and market_data.

import { parseDecimal } from './decimal.ts';
import type { FeedEvent } from './event.ts';
import { BadLineError } from './line-source.ts';
import type { DayClock } from './wall-clock.ts';

const PRICE_SCALE = 5;
const KIND_SNAPSHOT = 4;
const NS_PER_DAY = 86_400_000_000_000n;
const Status = { accepted: 2, partiallyFilled: 3, filled: 4, cancelled: 6, replaced: 7 } as const;
/** Of the message types that are executions: maker, hidden, auction. */
const LIQUIDITIES: Record<string, number> = { '4': 1, '5': 4, '6': 3 };
const HALT_REASONS: Record<string, string> = {
  '-1': 'halted',
  '0': 'quoting_resumed',
  '1': 'trading_resumed',
};
const LIMIT_ORDER = 1;
const EQUITY = 1;
/** Price of a level that is not there, in 1/10,000. */
const DUMMY_PRICE = 9_999_999_999n * 100_000n;

/** What all rows of a pair of files share. */
export interface LobsterInstrument {
  symbol: string;
  /** Prefix of the fill ids, which LOBSTER has not: symbol, date, number of the execution in the file. */
  fillPrefix: string;
  clock: DayClock;
}

export interface ReadMessage {
  time: bigint;
  events: FeedEvent[];
}

interface Change {
  status: number;
  reason?: string;
}

/** Orders that were seen being made, with what is left of them. */
type OpenOrders = Map<string, bigint>;

/** What is left of the order after `size` is gone; null where its beginning was not seen. */
function reduce(open: OpenOrders, orderId: string, size: bigint): bigint | null {
  const before = open.get(orderId);
  if (before === undefined) return null;
  const rest = before - size;
  if (rest > 0n) open.set(orderId, rest);
  else open.delete(orderId);
  return rest;
}

function changeOf(open: OpenOrders, type: string, orderId: string, size: bigint): Change {
  switch (type) {
    case '1':
      open.set(orderId, size);
      return { status: Status.accepted };
    case '2':
      reduce(open, orderId, size);
      return { status: Status.replaced, reason: 'partial_cancel' };
    case '3':
      open.delete(orderId);
      return { status: Status.cancelled };
    case '4':
      return { status: reduce(open, orderId, size) === 0n ? Status.filled : Status.partiallyFilled };
    case '5':
      return { status: Status.partiallyFilled };
    default:
      return { status: Status.filled, reason: 'cross' };
  }
}

/** Reads messages in order; keeps what is left of each order that it saw being made. */
export function createMessageReader(instrument: LobsterInstrument): { read(fields: string[]): ReadMessage } {
  const open: OpenOrders = new Map();
  let executions = 0;
  const read = (fields: string[]): ReadMessage => {
    const [seconds = '', type = '', orderId = '', sizeText = '', priceText = '', direction = ''] = fields;
    if (fields.length < 6 || fields.length > 7 || !/^[1-7]$/.test(type))
      throw new BadLineError('expected seconds,type 1 to 7,order id,size,price,direction');
    const side = sideOf(direction);
    const time = timeOf(seconds, instrument.clock);
    const size = parseDecimal(sizeText);
    const shared = { order_id: orderId, symbol: instrument.symbol, exchange: 'NASDAQ' };
    if (type === '7') {
      const halt = { ...shared, exch_ts: time, reason: HALT_REASONS[priceText] ?? `halt_${priceText}` };
      return { time, events: [{ topic: 'orders', eventTimeNs: time, row: halt }] };
    }
    const price = parseDecimal(priceText, PRICE_SCALE);
    const liquidity = LIQUIDITIES[type];
    const order = {
      ...shared,
      exch_ts: time,
      side,
      order_type: LIMIT_ORDER,
      ...changeOf(open, type, orderId, size),
      price,
      qty: size,
      filled_qty: liquidity === undefined ? 0n : size,
    };
    const events: FeedEvent[] = [{ topic: 'orders', eventTimeNs: time, row: order }];
    if (liquidity !== undefined) {
      const fill_id = `${instrument.fillPrefix}-${++executions}`;
      const fill = { ...shared, fill_id, side, liquidity, price, qty: size, match_ts: time };
      events.push({ topic: 'fills', eventTimeNs: time, row: fill });
    }
    return { time, events };
  };
  return { read };
}

function timeOf(seconds: string, clock: DayClock): bigint {
  const timeOfDay = parseDecimal(seconds);
  if (timeOfDay < 0n || timeOfDay > NS_PER_DAY) throw new BadLineError(`"${seconds}" is no time of day in s`);
  return clock(timeOfDay);
}

function sideOf(direction: string): number {
  if (direction === '1') return 1;
  if (direction === '-1') return 2;
  if (direction === '0') return 0;
  throw new BadLineError(`direction is "${direction}"; expected 1 or -1`);
}

/**
 * Row of the whole book after a message; levels that are not there (price ±9999999999, size 0) are left
 * out.
 */
export function bookRow(
  fields: string[],
  instrument: LobsterInstrument,
  time: bigint,
): Record<string, unknown> {
  if (fields.length === 0 || fields.length % 4 !== 0)
    throw new BadLineError(
      `${fields.length} fields; expected four a level: ask price, ask size, bid price, bid size`,
    );
  const row: Record<string, bigint[]> = { bid_prices: [], bid_sizes: [], ask_prices: [], ask_sizes: [] };
  for (let i = 0; i < fields.length; i += 2) {
    const price = parseDecimal(fields[i]!, PRICE_SCALE);
    const size = parseDecimal(fields[i + 1]!);
    if (size === 0n && (price >= DUMMY_PRICE || price <= -DUMMY_PRICE)) continue;
    const side = i % 4 === 0 ? 'ask' : 'bid';
    row[`${side}_prices`]!.push(price);
    row[`${side}_sizes`]!.push(size);
  }
  return {
    symbol: instrument.symbol,
    exchange: 'NASDAQ',
    instrument_type: EQUITY,
    kind: KIND_SNAPSHOT,
    exch_ts: time,
    ...row,
  };
}
