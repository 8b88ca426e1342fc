// One Binance message to one row of market_data.
//
//   message        kind      told by                   exch_ts    exch_seq      exch_seq_first  exch_seq_prev
//   trade          tick      e = trade                 T          -             -               -
//   bookTicker     quote     e = bookTicker, or        T; spot:   u             -               -
//                            u, b, B, a, A without e   none
//   depthUpdate    depth     e = depthUpdate           T, else E  u             U               pu
//   partial depth  snapshot  stream @depth5, 10, 20    T, else E  u             -               -
//   REST depth     snapshot  lastUpdateId, bids, asks  T, else E  lastUpdateId  -               -
//
// local_ts is the receive time. Where the exchange sends no time (spot bookTicker, spot REST depth),
// exch_ts is the receive time too, so that a query by time finds the row, and `conditions` is "no_exch_ts",
// so that a query for latencies can leave it out. Nothing is clamped: the receiving clock may run behind
// the exchange's.

import { parseDecimal } from './decimal.ts';
import { BadLineError } from './line-source.ts';
import { civilDate, daysSinceEpoch, epochNs } from './wall-clock.ts';

export const SPOT = 'BINANCE';
export const USD_M = 'BINANCE_USDM';

const Kind = { tick: 1, quote: 2, depth: 3, snapshot: 4 } as const;
const Side = { buy: 1, sell: 2 } as const;
const InstrumentType = { future: 2, perpetual: 4, spot: 5 } as const;

type Message = Record<string, unknown>;
type Row = Record<string, unknown>;

/** What the lines so far said about the symbols of a file. */
export interface ChannelState {
  /** Symbol given by the user; wins over everything. */
  fixedSymbol: string | null;
  /** Last update id of each symbol seen. */
  symbols: Map<string, number>;
  instruments: Map<string, Row>;
}

/** Makes the state of one file. */
export function createChannelState(fixedSymbol: string | null): ChannelState {
  return { fixedSymbol, symbols: new Map(), instruments: new Map() };
}

/** Remembers the symbol that a message or its stream names. */
export function noteSymbol(state: ChannelState, stream: string, message: Message): void {
  const symbol = ownSymbol(stream, message);
  if (symbol === null) return;
  const updateId = message['u'];
  if (typeof updateId === 'number') state.symbols.set(symbol, updateId);
  else if (!state.symbols.has(symbol)) state.symbols.set(symbol, 0);
}

function ownSymbol(stream: string, message: Message): string | null {
  const symbol = message['s'];
  if (typeof symbol === 'string' && symbol !== '') return symbol;
  const at = stream.indexOf('@');
  return at > 0 ? stream.slice(0, at).toUpperCase() : null;
}

/**
 * Symbol of a message; a snapshot that names none belongs to the symbol whose update ids are nearest. null:
 * unknown.
 */
export function snapshotSymbol(state: ChannelState, stream: string, message: Message): string | null {
  const symbol = state.fixedSymbol ?? ownSymbol(stream, message);
  const id = message['lastUpdateId'];
  if (symbol !== null || typeof id !== 'number') return symbol ?? '';
  let nearest: string | null = null;
  let distance = Number.POSITIVE_INFINITY;
  for (const [candidate, updateId] of state.symbols) {
    if (Math.abs(updateId - id) >= distance) continue;
    nearest = candidate;
    distance = Math.abs(updateId - id);
  }
  return nearest;
}

/**
 * The message's row; null for kinds that are not recorded.
 * @throws BadLineError, DecimalError for a message of a known kind with a wrong or missing field
 */
export function toRow(
  stream: string,
  message: Message,
  receivedNs: bigint | null,
  state: ChannelState,
): Row | null {
  const type = message['e'];
  if (type === 'trade') return tradeRow(stream, message, receivedNs, state);
  if (type === 'depthUpdate') return depthRow(stream, message, receivedNs, state);
  if (type === 'bookTicker' || (type === undefined && 'B' in message && 'A' in message))
    return quoteRow(stream, message, receivedNs, state);
  if (type === undefined && 'lastUpdateId' in message && 'bids' in message && 'asks' in message)
    return snapshotRow(stream, message, receivedNs, state);
  return null;
}

function tradeRow(stream: string, message: Message, receivedNs: bigint | null, state: ChannelState): Row {
  const buyerIsMaker = message['m'];
  if (typeof buyerIsMaker !== 'boolean') throw new BadLineError('trade: field m is not true or false');
  const row = baseRow(stream, message, receivedNs, state, 'M' in message ? SPOT : USD_M);
  row['kind'] = Kind.tick;
  row['price'] = decimal(message, 'p');
  row['volume'] = decimal(message, 'q');
  row['trade_id'] = integer(message, 't');
  row['trade_side'] = buyerIsMaker ? Side.sell : Side.buy;
  if (typeof message['X'] === 'string') row['conditions'] = message['X'];
  return row;
}

function quoteRow(stream: string, message: Message, receivedNs: bigint | null, state: ChannelState): Row {
  const row = baseRow(stream, message, receivedNs, state, 'e' in message ? USD_M : SPOT);
  row['kind'] = Kind.quote;
  setSide(row, 'bid', [[message['b'], message['B']]], true);
  setSide(row, 'ask', [[message['a'], message['A']]], true);
  row['exch_seq'] = integer(message, 'u');
  return row;
}

function depthRow(stream: string, message: Message, receivedNs: bigint | null, state: ChannelState): Row {
  const row = baseRow(stream, message, receivedNs, state, 'pu' in message || 'T' in message ? USD_M : SPOT);
  const partial = /@depth(5|10|20)(@|$)/.test(stream);
  row['kind'] = partial ? Kind.snapshot : Kind.depth;
  setSide(row, 'bid', message['b'], false);
  setSide(row, 'ask', message['a'], false);
  row['exch_seq'] = integer(message, 'u');
  if (!partial) {
    row['exch_seq_first'] = integer(message, 'U');
    if ('pu' in message) row['exch_seq_prev'] = integer(message, 'pu');
  }
  return row;
}

function snapshotRow(stream: string, message: Message, receivedNs: bigint | null, state: ChannelState): Row {
  const row = baseRow(stream, message, receivedNs, state, 'E' in message || 'T' in message ? USD_M : SPOT);
  row['kind'] = Kind.snapshot;
  setSide(row, 'bid', message['bids'], false);
  setSide(row, 'ask', message['asks'], false);
  row['exch_seq'] = integer(message, 'lastUpdateId');
  return row;
}

function baseRow(
  stream: string,
  message: Message,
  receivedNs: bigint | null,
  state: ChannelState,
  exchange: string,
): Row {
  const symbol = snapshotSymbol(state, stream, message);
  if (symbol === null || symbol === '')
    throw new BadLineError('no line says which symbol this is; pass --symbol');
  const row: Row = { ...instrumentColumns(state, exchange, symbol), local_ts: receivedNs };
  const time = message['T'] ?? message['E'];
  if (typeof time === 'number' && time > 0)
    row['exch_ts'] = epochNs(integer(message, 'T' in message ? 'T' : 'E'));
  else {
    row['exch_ts'] = receivedNs ?? 0n;
    row['conditions'] = 'no_exch_ts';
  }
  return row;
}

/** Symbol, exchange and instrument, as columns; BTCUSDT_240927 is a future that expires on that day. */
function instrumentColumns(state: ChannelState, exchange: string, symbol: string): Row {
  const key = `${exchange} ${symbol}`;
  let columns = state.instruments.get(key);
  if (columns !== undefined) return columns;
  columns = {
    symbol,
    exchange,
    instrument_type: exchange === SPOT ? InstrumentType.spot : InstrumentType.perpetual,
  };
  const delivery = /^(.+)_(\d\d)(\d\d)(\d\d)$/.exec(symbol);
  if (exchange === USD_M && delivery !== null) {
    const expiry = civilDate(2000 + Number(delivery[2]), Number(delivery[3]), Number(delivery[4]));
    columns['instrument_type'] = InstrumentType.future;
    columns['underlying'] = delivery[1];
    if (expiry !== null) columns['expiry'] = daysSinceEpoch(expiry);
  }
  state.instruments.set(key, columns);
  return columns;
}

/**
 * `skipAbsent`: a level with price and size 0 is an empty side of the book (in a delta, size 0 deletes a
 * level).
 */
function setSide(row: Row, side: 'bid' | 'ask', levels: unknown, skipAbsent: boolean): void {
  if (!Array.isArray(levels)) throw new BadLineError(`${side} levels are not an array`);
  const prices: bigint[] = [];
  const sizes: bigint[] = [];
  for (const level of levels as unknown[]) {
    if (!Array.isArray(level) || typeof level[0] !== 'string' || typeof level[1] !== 'string')
      throw new BadLineError(`a ${side} level is not ["price","size"]`);
    const price = parseDecimal(level[0]);
    const size = parseDecimal(level[1]);
    if (skipAbsent && price === 0n && size === 0n) continue;
    prices.push(price);
    sizes.push(size);
  }
  row[`${side}_prices`] = prices;
  row[`${side}_sizes`] = sizes;
}

function decimal(message: Message, field: string): bigint {
  const value = message[field];
  if (typeof value !== 'string') throw new BadLineError(`field ${field} is not a decimal in quotes`);
  return parseDecimal(value);
}

/** An integer that JSON gave as a double: exact below 2^53 only. */
function integer(message: Message, field: string): bigint {
  const value = message[field];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw new BadLineError(`field ${field} is not an integer from 0 to 2^53`);
  return BigInt(value);
}
