// How far delivery is behind the WAL: rows, bytes and age by topic. Pure.
//
// A topic's undelivered rows are kept as stretches of LSNs. Blocks within a second share a stretch, and when
// there are many, neighbours are joined: an outage of days costs some thousand entries. Within a stretch
// rows are taken to be spread evenly.

/** Rows of one topic that lie together in the WAL. */
interface Stretch {
  firstLsn: bigint;
  /** Behind the last row. */
  endLsn: bigint;
  rows: number;
  bytes: number;
  /** Time at which its oldest row was read, ms since 1970. */
  oldestMs: number;
}

/** What a topic has in the WAL and not at the server. */
export interface Lag {
  rows: number;
  bytes: number;
  /** Time at which the oldest such row was read, ms since 1970; null when there is none. */
  oldestMs: number | null;
}

const STRETCH_MS = 1000;
const MAX_STRETCHES = 4096;

export class LagTracker {
  readonly #topics = new Map<string, Stretch[]>();
  readonly #deliveredLsn = new Map<string, bigint>();

  /** A block was appended: `rows` rows from `firstLsn` on. */
  append(topic: string, firstLsn: bigint, rows: number, bytes: number, oldestMs: number): void {
    this.#add(topic, { firstLsn, endLsn: firstLsn + BigInt(rows), rows, bytes, oldestMs });
  }

  /** Rows of an earlier run, somewhere from `firstLsn` to before `endLsn`; to be told in order. */
  backlog(
    topic: string,
    firstLsn: bigint,
    endLsn: bigint,
    rows: number,
    bytes: number,
    oldestMs: number,
  ): void {
    if (rows > 0) this.#add(topic, { firstLsn, endLsn, rows, bytes, oldestMs });
  }

  /** All rows of the topic below `lsn` are delivered. */
  delivered(topic: string, lsn: bigint): void {
    this.#deliveredLsn.set(topic, lsn);
    const stretches = this.#topics.get(topic);
    if (stretches === undefined) return;
    const kept = stretches.findIndex(({ endLsn }) => endLsn > lsn);
    stretches.splice(0, kept === -1 ? stretches.length : kept);
  }

  lag(topic: string): Lag {
    const lsn = this.#deliveredLsn.get(topic) ?? 0n;
    const total: Lag = { rows: 0, bytes: 0, oldestMs: null };
    for (const stretch of this.#topics.get(topic) ?? []) {
      const share = shareFrom(stretch, lsn);
      total.rows += Math.ceil(stretch.rows * share);
      total.bytes += Math.ceil(stretch.bytes * share);
      if (share > 0) total.oldestMs ??= stretch.oldestMs;
    }
    return total;
  }

  #add(topic: string, added: Stretch): void {
    let stretches = this.#topics.get(topic);
    if (stretches === undefined) {
      stretches = [];
      this.#topics.set(topic, stretches);
    }
    const last = stretches.at(-1);
    // The one that delivery is in stays as it is: a joined one would count delivered rows again.
    const isJoinable = last !== undefined && last.firstLsn >= (this.#deliveredLsn.get(topic) ?? 0n);
    if (isJoinable && added.oldestMs - last.oldestMs < STRETCH_MS) join(last, added);
    else stretches.push(added);
    if (stretches.length > MAX_STRETCHES) this.#topics.set(topic, halve(stretches));
  }
}

function join(into: Stretch, next: Stretch): void {
  into.endLsn = next.endLsn;
  into.rows += next.rows;
  into.bytes += next.bytes;
}

/** Joins neighbours, two and two; the first stays alone. */
function halve(stretches: Stretch[]): Stretch[] {
  const kept = stretches.slice(0, 1);
  for (let i = 1; i < stretches.length; i += 2) {
    const stretch = stretches[i]!;
    const next = stretches[i + 1];
    if (next !== undefined) join(stretch, next);
    kept.push(stretch);
  }
  return kept;
}

/** Share of a stretch's rows from `lsn` on. */
function shareFrom({ firstLsn, endLsn }: Stretch, lsn: bigint): number {
  if (lsn <= firstLsn) return 1;
  if (lsn >= endLsn) return 0;
  return Number(endLsn - lsn) / Number(endLsn - firstLsn);
}
