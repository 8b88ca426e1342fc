// A strategy's running account: what its backtest_runs row will say.

import { type Instrument, priceUnits } from './market.ts';

/** A strategy with its running account; the account is in doubles, as a backtester's would be. */
export interface Strategy {
  id: string;
  version: string;
  cash: number;
  fees: number;
  positions: Map<Instrument, number>;
  equityPeak: number;
  drawdown: number;
  turnover: number;
  trades: number;
  wins: number;
  /** Sum and sum of squares of the change of equity from fill to fill. */
  changes: { count: number; sum: number; squares: number; last: number };
}

/** Makes a strategy that has not traded. */
export function createStrategy(id: string, version: string): Strategy {
  return {
    id,
    version,
    cash: 0,
    fees: 0,
    positions: new Map(),
    equityPeak: 0,
    drawdown: 0,
    turnover: 0,
    trades: 0,
    wins: 0,
    changes: { count: 0, sum: 0, squares: 0, last: 0 },
  };
}

/** Books a fill; all amounts in quote currency, `qty` in instrument units. */
export function bookFill(
  strategy: Strategy,
  instrument: Instrument,
  buy: boolean,
  notional: number,
  qty: number,
  costs: number,
): void {
  const direction = buy ? 1 : -1;
  strategy.cash -= direction * notional;
  strategy.fees += costs;
  strategy.positions.set(instrument, (strategy.positions.get(instrument) ?? 0) + direction * qty);
  strategy.turnover += notional;
  strategy.trades++;
  const equity = equityOf(strategy);
  const { changes } = strategy;
  const change = equity - changes.last;
  changes.count++;
  changes.sum += change;
  changes.squares += change * change;
  changes.last = equity;
  if (change > 0) strategy.wins++;
  strategy.equityPeak = Math.max(strategy.equityPeak, equity);
  strategy.drawdown = Math.max(strategy.drawdown, strategy.equityPeak - equity);
}

/** Cash and positions at the mid, after costs. */
export function equityOf(strategy: Strategy): number {
  let equity = strategy.cash - strategy.fees;
  for (const [instrument, qty] of strategy.positions)
    equity += (qty * priceUnits(instrument, instrument.midTicks)) / 1e9;
  return equity;
}
