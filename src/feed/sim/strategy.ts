// The simulated strategies. One decision makes an episode: latency spans, a risk decision, the order's life
// and its fills, tied together by trace_id, client_order_id and risk_decision_id. Quantities add up:
// filled_qty is the sum of the fills so far, a filled order's fills are its qty.

import type { Row } from '../../schema/build-frame.ts';
import type { FeedEvent, FeedTopic } from '../event.ts';
import { bookFill, type Strategy } from './account.ts';
import { type Instrument, priceUnits } from './market.ts';
import type { Random } from './random.ts';

const UNIT = 1_000_000_000n;
const Side = { buy: 1, sell: 2 } as const;
const Status = {
  pendingNew: 1,
  accepted: 2,
  partiallyFilled: 3,
  filled: 4,
  pendingCancel: 5,
  cancelled: 6,
  rejected: 8,
} as const;
const Liquidity = { maker: 1, taker: 2 } as const;
const FEE_MILLIONTHS = { maker: -20n, taker: 350n } as const;
const SELL_TAX_MILLIONTHS = 28n;
const MOST_FILLS = 4;

/**
 * Most rows that one decision can make: 6 spans, 1 risk decision, 4 states, a state and a fill for each
 * execution.
 */
export const EPISODE_ROWS_MAX = 6 + 1 + 4 + 2 * MOST_FILLS;

/** What all rows of a run share. */
export interface RunFacts {
  /** Makes the ids of one seed differ from those of another. */
  prefix: string;
  configHash: string;
  gitSha: string;
  dataSession: string;
}

/** Makes all events of one decision; `number` counts decisions from 1. `certain`: approved and filled. */
export function decide(
  random: Random,
  facts: RunFacts,
  strategy: Strategy,
  instrument: Instrument,
  timeNs: bigint,
  number: number,
  certain: boolean,
): FeedEvent[] {
  const events: FeedEvent[] = [];
  const emit = (topic: FeedTopic, row: Row, eventTimeNs: bigint) => events.push({ topic, row, eventTimeNs });
  const id = `${facts.prefix}-${String(number).padStart(8, '0')}`;
  const shared = { strategy_id: strategy.id, symbol: instrument.symbol, trace_id: `T${id}` };
  let now = timeNs;
  const span = (stage: string, meanNs: number): bigint => {
    const latency = 200 + Math.floor(random.exponential(meanNs));
    emit('latency_spans', { ...shared, ts: now, stage, latency_ns: latency }, now);
    now += BigInt(latency);
    return now;
  };
  span('feed_decode', 900);
  span('strategy', 6_000);
  const order = draftOrder(random, facts, strategy, instrument, id);
  span('risk', 2_500);
  const approved = certain || !random.chance(0.06);
  emit('risk_log', { ...riskRow(random, order, approved), ...shared, ts: now }, now);
  if (!approved) {
    const rejected = { ...order.columns, ...shared, status: Status.rejected, reason: 'risk', filled_qty: 0 };
    emit('orders', { ...rejected, exch_ts: now, local_ts: now, latency_ns: 0 }, now);
    return events;
  }
  const sentNs = now;
  emit('orders', state(order, shared, Status.pendingNew, now, now, 0n), now);
  span('order_send', 4_000);
  now = span('exchange_ack', 180_000);
  order.columns['order_id'] = `X${id}`;
  emit('orders', state(order, shared, Status.accepted, now - 20_000n, now, now - sentNs), now);
  span('ack_decode', 700);
  execute(random, strategy, instrument, order, shared, now, sentNs, certain, emit);
  return events;
}

interface Order {
  columns: Row;
  buy: boolean;
  price: number;
  qty: number;
  lots: number;
  decisionPrice: number;
}

function draftOrder(
  random: Random,
  facts: RunFacts,
  strategy: Strategy,
  instrument: Instrument,
  id: string,
): Order {
  const buy = random.chance(0.5);
  const crossing = random.chance(0.6);
  const away = (crossing ? 1 : -1) * instrument.halfSpreadTicks * (buy ? 1 : -1);
  const price = priceUnits(instrument, instrument.midTicks + away);
  const lots = random.int(1, 200);
  const qty = lots * instrument.lotUnits;
  const columns: Row = {
    client_order_id: `C${id}`,
    exchange: instrument.exchange,
    side: buy ? Side.buy : Side.sell,
    order_type: 1,
    time_in_force: crossing ? 3 : 1,
    price,
    qty,
    risk_decision_id: `R${id}`,
    feature_snapshot_id: `S${id}`,
    strategy_version: strategy.version,
    config_hash: facts.configHash,
    git_sha: facts.gitSha,
    data_session_id: facts.dataSession,
  };
  return { columns, buy, price, qty, lots, decisionPrice: priceUnits(instrument, instrument.midTicks) };
}

function riskRow(random: Random, order: Order, approved: boolean): Row {
  const notional = (order.price / 1e9) * (order.qty / 1e9);
  const limit = approved ? notional * (1.1 + random.next()) : notional * (0.5 + random.next() * 0.4);
  return {
    risk_decision_id: order.columns['risk_decision_id'],
    rule: 'max_notional',
    reason_code: approved ? 'OK' : 'NOTIONAL_LIMIT',
    approved,
    side: order.columns['side'],
    metric: 'notional',
    value: notional,
    limit_value: limit,
    price: order.price,
    qty: order.qty,
    context: approved ? null : JSON.stringify({ lots: order.lots, limit: Math.round(limit) }),
  };
}

function state(
  order: Order,
  shared: Row,
  status: number,
  exchNs: bigint,
  localNs: bigint,
  latencyNs: bigint,
  filled = 0,
): Row {
  const times = { exch_ts: exchNs, local_ts: localNs, latency_ns: latencyNs };
  return { ...order.columns, ...shared, ...times, status, filled_qty: filled };
}

/** What becomes of an accepted order: some fills, and a cancel of what is left. */
function execute(
  random: Random,
  strategy: Strategy,
  instrument: Instrument,
  order: Order,
  shared: Row,
  acceptedNs: bigint,
  sentNs: bigint,
  certain: boolean,
  emit: (topic: FeedTopic, row: Row, eventTimeNs: bigint) => void,
): void {
  const complete = certain || random.chance(0.7);
  const targetLots = complete ? order.lots : random.int(0, order.lots - 1);
  let lotsLeft = targetLots;
  let filled = 0;
  let now = acceptedNs;
  for (let fill = 1; lotsLeft > 0; fill++) {
    const lots = fill === MOST_FILLS ? lotsLeft : random.int(1, lotsLeft);
    lotsLeft -= lots;
    const qty = lots * instrument.lotUnits;
    filled += qty;
    now += BigInt(20_000 + Math.floor(random.exponential(3_000_000)));
    const matchNs = now - 15_000n;
    const done = filled === order.qty;
    const status = done ? Status.filled : Status.partiallyFilled;
    emit('orders', state(order, shared, status, matchNs, now, now - sentNs, filled), now);
    emit('fills', fillRow(random, strategy, instrument, order, shared, qty, fill, matchNs, now), now);
  }
  if (filled === order.qty) return;
  now += BigInt(1_000_000 + Math.floor(random.exponential(20_000_000)));
  emit('orders', state(order, shared, Status.pendingCancel, now, now, 0n, filled), now);
  const requestedNs = now;
  now += BigInt(40_000 + Math.floor(random.exponential(200_000)));
  const cancelled = state(order, shared, Status.cancelled, now - 20_000n, now, now - requestedNs, filled);
  emit('orders', { ...cancelled, reason: 'strategy' }, now);
}

function fillRow(
  random: Random,
  strategy: Strategy,
  instrument: Instrument,
  order: Order,
  shared: Row,
  qty: number,
  number: number,
  matchNs: bigint,
  localNs: bigint,
): Row {
  const taker = order.columns['time_in_force'] === 3;
  const notionalUnits = (BigInt(order.price) * BigInt(qty)) / UNIT;
  const fee = (notionalUnits * (taker ? FEE_MILLIONTHS.taker : FEE_MILLIONTHS.maker)) / 1_000_000n;
  const taxed = !order.buy && instrument.columns['instrument_type'] === 1;
  const tax = taxed ? (notionalUnits * SELL_TAX_MILLIONTHS) / 1_000_000n : 0n;
  bookFill(strategy, instrument, order.buy, Number(notionalUnits) / 1e9, qty / 1e9, Number(fee + tax) / 1e9);
  const { client_order_id, order_id, exchange, side, risk_decision_id, feature_snapshot_id } = order.columns;
  const { strategy_version, config_hash, git_sha, data_session_id } = order.columns;
  return {
    ...shared,
    fill_id: `F${String(order_id).slice(1)}-${number}`,
    order_id,
    client_order_id,
    broker_order_id: `B${String(order_id).slice(1)}`,
    exchange,
    side,
    liquidity: taker ? Liquidity.taker : Liquidity.maker,
    price: order.price,
    qty,
    fee,
    tax,
    decision_price: order.decisionPrice,
    arrival_price: order.decisionPrice + random.int(-1, 1) * instrument.tickUnits,
    match_ts: matchNs,
    local_ts: localNs,
    feature_snapshot_id,
    risk_decision_id,
    strategy_version,
    config_hash,
    git_sha,
    data_session_id,
  };
}
