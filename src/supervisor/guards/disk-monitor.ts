// Disk pressure as a level, from the free space of the WAL's file system and the size of the WAL. Pure.
//
//   level     at                                         what stops
//   ok        -                                          nothing
//   warn      free < warn, or WAL > 80 % of its bound    nothing
//   critical  free < critical, or WAL > 90 %             market data and spans
//   halt      free < halt, or WAL >= its bound           all but orders and fills; the reserve is used
//
// Invariants
// - A level is left for a better one only with room to spare: 10 % more free space, 5 % less WAL.
// - A worse level is taken at once.

export const DISK_LEVELS = ['ok', 'warn', 'critical', 'halt'] as const;
export type DiskLevel = (typeof DISK_LEVELS)[number];

/** What is measured. */
export interface DiskState {
  freeBytes: number;
  walBytes: number;
}

export interface DiskThresholds {
  warnBytes: number;
  criticalBytes: number;
  haltBytes: number;
  /** Bound of the WAL's size; 0: none. */
  walMaxBytes: number;
}

/** Thresholds that were configured; null: to be derived. */
export interface ConfiguredThresholds {
  warnBytes: number | null;
  criticalBytes: number | null;
  haltBytes: number | null;
  walMaxBytes: number;
}

const GIB = 2 ** 30;
const WAL_SHARES = [0.8, 0.9, 1] as const;
/** How much better it must be before a level ends. */
const FREE_TO_SPARE = 1.1;
const WAL_TO_SPARE = 0.95;

/**
 * Thresholds for a file system of `sizeBytes`. On a large disk a share of it would be far too much, on a
 * small one a fixed number is; and without room for a further segment market data must stop in any case.
 */
export function diskThresholds(
  given: ConfiguredThresholds,
  sizeBytes: number,
  segmentBytes: number,
): DiskThresholds {
  const haltBytes = given.haltBytes ?? Math.min(0.5 * GIB, sizeBytes * 0.01);
  const critical = Math.max(Math.min(2 * GIB, sizeBytes * 0.03), segmentBytes * 1.25);
  const criticalBytes = Math.max(given.criticalBytes ?? critical, haltBytes);
  const warn = Math.max(Math.min(4 * GIB, sizeBytes * 0.05), segmentBytes * 2.5);
  const warnBytes = Math.max(given.warnBytes ?? warn, criticalBytes);
  return { warnBytes, criticalBytes, haltBytes, walMaxBytes: given.walMaxBytes };
}

export class DiskMonitor {
  readonly #thresholds: DiskThresholds;
  #level: DiskLevel;

  /** `level`: what other thresholds have said before. */
  constructor(thresholds: DiskThresholds, level: DiskLevel = 'ok') {
    this.#thresholds = thresholds;
    this.#level = level;
  }

  get level(): DiskLevel {
    return this.#level;
  }

  get thresholds(): DiskThresholds {
    return this.#thresholds;
  }

  /** Takes a measurement; true where the level has changed. */
  measure(state: DiskState): boolean {
    const before = this.#level;
    const now = this.#levelOf(state, 1, 1);
    if (rank(now) >= rank(before)) this.#level = now;
    else {
      // The best level that is reached with room to spare; it may be one between the two.
      const safe = this.#levelOf(state, FREE_TO_SPARE, WAL_TO_SPARE);
      if (rank(safe) < rank(before)) this.#level = safe;
    }
    return this.#level !== before;
  }

  /** Why the level is what it is, in numbers. */
  describe({ freeBytes, walBytes }: DiskState): string {
    const { walMaxBytes } = this.#thresholds;
    const bound = walMaxBytes === 0 ? '' : ` of at most ${sizeText(walMaxBytes)}`;
    return `${sizeText(freeBytes)} free, the WAL has ${sizeText(walBytes)}${bound}`;
  }

  #levelOf(state: DiskState, freeFactor: number, walFactor: number): DiskLevel {
    const { warnBytes, criticalBytes, haltBytes, walMaxBytes } = this.#thresholds;
    let level = 0;
    for (const [index, threshold] of [warnBytes, criticalBytes, haltBytes].entries()) {
      const isLow = state.freeBytes < threshold * freeFactor;
      const isLarge = walMaxBytes > 0 && state.walBytes >= walMaxBytes * WAL_SHARES[index]! * walFactor;
      if (isLow || isLarge) level = index + 1;
    }
    return DISK_LEVELS[level]!;
  }
}

const rank = (level: DiskLevel): number => DISK_LEVELS.indexOf(level);

function sizeText(bytes: number): string {
  return bytes >= 10 * GIB ? `${(bytes / GIB).toFixed(1)} GiB` : `${Math.round(bytes / 2 ** 20)} MiB`;
}
