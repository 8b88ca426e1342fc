// Lines that repeat: the first few are written, the rest of ten seconds is one line that says how many. Two
// lines are alike when they differ in numbers alone: a flood of bad connections is one of a kind. Pure but
// for its timer.

/** Lines alike that are written within a window. */
const WRITTEN = 10;
const WINDOW_MS = 10_000;
/** Kinds that are remembered; more at once are no repeats. */
const MAX_KINDS = 1000;

interface Kind {
  count: number;
  last: string;
  /** Says how many were left out. */
  tell: (summary: string) => void;
  timer: ReturnType<typeof setTimeout>;
}

export class LogRepeats {
  readonly #kinds = new Map<string, Kind>();

  /**
   * Whether a line is to be written. `tell` writes another of its level: called later, once, where some were
   * left out.
   */
  admit(level: number, message: string, tell: (summary: string) => void): boolean {
    const key = `${level}:${message.replaceAll(/\d+/g, '#')}`;
    const kind = this.#kinds.get(key);
    if (kind === undefined) {
      if (this.#kinds.size >= MAX_KINDS) return true;
      const timer = setTimeout(() => this.#end(key), WINDOW_MS);
      timer.unref();
      this.#kinds.set(key, { count: 1, last: message, tell, timer });
      return true;
    }
    kind.count++;
    kind.last = message;
    kind.tell = tell;
    return kind.count <= WRITTEN;
  }

  /** Ends all windows now: what was left out is said. */
  flush(): void {
    for (const key of [...this.#kinds.keys()]) this.#end(key);
  }

  #end(key: string): void {
    const kind = this.#kinds.get(key);
    if (kind === undefined) return;
    this.#kinds.delete(key);
    clearTimeout(kind.timer);
    const left = kind.count - WRITTEN;
    if (left > 0) kind.tell(`${left} more lines like this one: ${kind.last}`);
  }
}
