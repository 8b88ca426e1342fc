// Seeded pseudo-random numbers for the simulator (sfc32, by Chris Doty-Humphrey, public domain): the same
// seed gives the same feed on every machine.

export interface Random {
  /** Uniform unsigned 32-bit integer. */
  u32(): number;
  /** Uniform in [0, 1). */
  next(): number;
  /** Uniform integer in [low, high], both included. */
  int(low: number, high: number): number;
  /** True with the given probability. */
  chance(probability: number): boolean;
  /** Exponentially distributed, with the given mean. */
  exponential(mean: number): number;
  pick<T>(list: readonly T[]): T;
}

/** Makes the generator of one feed. */
export function createRandom(seed: number): Random {
  let a = 0x9e3779b9 | 0;
  let b = Math.floor(seed / 0x1_0000_0000) ^ 0x243f6a88;
  let c = 0xb7e15162 | 0;
  let counter = seed | 0;
  const u32 = (): number => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let i = 0; i < 16; i++) u32();
  const next = () => u32() / 0x1_0000_0000;
  const int = (low: number, high: number) => low + Math.floor(next() * (high - low + 1));
  return {
    u32,
    next,
    int,
    chance: (probability) => next() < probability,
    exponential: (mean) => -Math.log(1 - next()) * mean,
    pick: (list) => list[int(0, list.length - 1)]!,
  };
}
