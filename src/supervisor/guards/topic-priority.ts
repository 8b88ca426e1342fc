// Which topics go first when there is no room for all.

/** Given up first: there is much of it, and it can be had elsewhere. */
export const FIRST_TO_GO: readonly string[] = ['latency_spans', 'market_data'];
/** Given up last, in this order; topics in neither list go before them. */
export const LAST_TO_GO: readonly string[] = ['backtest_runs', 'risk_log', 'orders', 'fills'];
/** What the reserve on disk is for. */
export const RESERVED_FOR: readonly string[] = ['orders', 'fills'];

/** Indexes of `topics`, the least important first. */
export function sheddingOrder(topics: readonly string[]): number[] {
  return topics.map((_, index) => index).sort((a, b) => rankOf(topics[a]!) - rankOf(topics[b]!) || a - b);
}

function rankOf(topic: string): number {
  const first = FIRST_TO_GO.indexOf(topic);
  if (first >= 0) return first;
  return FIRST_TO_GO.length + 1 + LAST_TO_GO.indexOf(topic);
}
