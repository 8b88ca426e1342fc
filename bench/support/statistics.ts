// Numbers from numbers.

/** Middle value; of an even count the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Value below which `share` (0 to 1) of the sorted values lie. */
export function percentile(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
}

/**
 * Runs A and B in turn, `rounds` times, each round in the other order, so that what else the machine does
 * meets both alike.
 */
export async function interleave<A, B>(
  rounds: number,
  runA: (round: number) => Promise<A>,
  runB: (round: number) => Promise<B>,
): Promise<{ a: A[]; b: B[] }> {
  const [a, b]: [A[], B[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    if (round % 2 === 0) a.push(await runA(round));
    b.push(await runB(round));
    if (round % 2 === 1) a.push(await runA(round));
  }
  return { a, b };
}
