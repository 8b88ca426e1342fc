// What the stages are meant to reach, as ratios in one run or as values; the report says which are met.

/** A bound on a result's ratio or value. */
export interface Target {
  name: string;
  of: 'ratio' | 'value';
  /** Least or most that is good enough. */
  bound: 'least' | 'most';
  limit: number;
}

const least = (limit: number, ...names: string[]): Target[] =>
  names.map((name) => ({ name, of: 'ratio', bound: 'least', limit }));
const most = (limit: number, ...names: string[]): Target[] =>
  names.map((name) => ({ name, of: 'ratio', bound: 'most', limit }));
const atMost = (limit: number, ...names: string[]): Target[] =>
  names.map((name) => ({ name, of: 'value', bound: 'most', limit }));

const kinds = ['market_data/ticks', 'market_data/quotes', 'market_data/depth-10', 'orders', 'fills'];
const syncRates = ['1k', '10k', '100k'];

export const targets: readonly Target[] = [
  ...least(25, 'extract/market_data/ticks', 'extract/market_data/quotes'),
  ...least(15, 'extract/market_data/depth-10'),
  ...least(12, 'extract/orders', 'extract/fills'),
  ...atMost(1, ...kinds.map((kind) => `extract/${kind}/heap`)),
  ...least(0.5, 'ingest/unix/group'),
  ...atMost(150, 'ingest/unix/group/resident'),
  ...most(1 / 0.9, 'ingest/unix/group/while-flushing/main-thread'),
  ...least(0.9, 'flush/RowBinary/embedded', 'flush/Native/embedded'),
  ...least(0.9, 'flush/RowBinary/18.16', 'flush/Native/18.16'),
  ...least(5, 'path/discarding'),
  ...most(0.1, 'path/discarding/cpu', 'path/embedded/cpu'),
  ...most(2, ...syncRates.map((rate) => `latency/ack/group/${rate}/p50`)),
  ...most(3, ...syncRates.map((rate) => `latency/ack/group/${rate}/p99.9`)),
  ...most(1, ...syncRates.map((rate) => `latency/ack/none/${rate}/p50`)),
  ...least(1, 'udp/one-message'),
  ...atMost(0.5, 'idle/cpu'),
  ...atMost(50, 'start/binary'),
];

/** Whether a result reaches its target. */
export function isMet(target: Target, result: { value: number; ratio: number }): boolean {
  const measured = result[target.of];
  return target.bound === 'least' ? measured >= target.limit : measured <= target.limit;
}

/** `ratio ≥ 0.5`, `value ≤ 150`. */
export function describeTarget({ of, bound, limit }: Target): string {
  return `${of} ${bound === 'least' ? '≥' : '≤'} ${Number(limit.toPrecision(3))}`;
}
