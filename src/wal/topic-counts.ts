import type { CountedTopic, WalTopic } from './segment-meta.ts';

/**
 * The topics of a WAL with their rows: the given ones, then those of earlier runs, whose counts are carried
 * on.
 */
export class TopicCounts {
  readonly #topics: readonly WalTopic[];
  #rows: bigint[];

  constructor(given: readonly WalTopic[], earlier: readonly CountedTopic[]) {
    const carried = earlier.filter((old) => !given.some(({ topic }) => topic === old.topic));
    this.#topics = [...given, ...carried];
    this.#rows = this.#topics.map(
      ({ topic }) => earlier.find((old) => old.topic === topic)?.rowsBefore ?? 0n,
    );
  }

  add(topicIndex: number, rowCount: number): void {
    this.#rows[topicIndex]! += BigInt(rowCount);
  }

  byTopic(): Map<string, bigint> {
    return new Map(this.#topics.map(({ topic }, index) => [topic, this.#rows[index]!]));
  }

  counted(): CountedTopic[] {
    return this.#topics.map((entry, index) => ({ ...entry, rowsBefore: this.#rows[index]! }));
  }

  /** The counts alone, for `restore`. */
  rows(): readonly bigint[] {
    return [...this.#rows];
  }

  restore(rows: readonly bigint[]): void {
    this.#rows = [...rows];
  }
}
