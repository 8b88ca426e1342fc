/**
 * Seeded pseudo-random numbers (sfc32); the seed is printed so that a failing run can be repeated with
 * TEST_SEED.
 */
export interface SeededRandom {
  seed: number;
  /** Uniform in [0, 1). */
  next(): number;
  /** Uniform integer in [low, high], both included. */
  int(low: number, high: number): number;
  /** Uniform unsigned 32-bit integer. */
  u32(): number;
  bytes(length: number): Uint8Array;
  pick<T>(list: readonly T[]): T;
}

/** Makes a generator for the test `name`: seed from TEST_SEED, or from the clock. */
export function seededRandom(name: string, fixedSeed?: number): SeededRandom {
  const given = process.env['TEST_SEED'];
  const seed = fixedSeed ?? (given === undefined ? Date.now() % 0x7fffffff : Number(given));
  if (fixedSeed === undefined) process.stderr.write(`${name}: TEST_SEED=${seed}\n`);
  let [a, b, c, d] = [0x9e3779b9, 0x243f6a88, 0xb7e15162, seed | 0];
  const u32 = (): number => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + t;
    c |= 0;
    return t >>> 0;
  };
  for (let i = 0; i < 12; i++) u32();
  const next = () => u32() / 0x1_0000_0000;
  const int = (low: number, high: number) => low + Math.floor(next() * (high - low + 1));
  return {
    seed,
    next,
    int,
    u32,
    bytes: (length) => Uint8Array.from({ length }, () => u32() & 0xff),
    pick: (list) => list[int(0, list.length - 1)]!,
  };
}
