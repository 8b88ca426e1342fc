// The health of a recorder or loader as one state with its causes. Pure: no IO, no timers, no logging.
//
// Invariants
// - The state is that of the worst condition that holds; without one it is `healthy`.
// - A condition holds until it is cleared; one of `data_loss` until somebody acknowledges it, since what is
//   lost does not come back by itself.
// - Each condition says since when it holds, why, and what to type next.
// - A change is reported once: raised, worse or better, cleared, acknowledged. Further losses under a
//   condition that holds already are reported as `more`, with what was added.

/** From good to bad. */
export const HEALTH_STATES = ['healthy', 'degraded', 'critical', 'data_loss'] as const;
export type HealthState = (typeof HEALTH_STATES)[number];
/** A state that a condition brings. */
export type Severity = Exclude<HealthState, 'healthy'>;

/** What is wrong. */
export interface Cause {
  /** Bounded and stable: 'wal_full', 'rows_shed' … */
  tag: string;
  /** What it is about where there may be several: a topic, a feed; else empty. */
  subject: string;
  message: string;
  /** What to type next. */
  command: string;
}

export interface Condition extends Cause {
  state: Severity;
  sinceMs: number;
  /** Rows, frames or sequence numbers lost under it; 0 where nothing is. */
  count: number;
}

export type ChangeKind = 'raised' | 'changed' | 'cleared' | 'acknowledged' | 'more';

/** A change, as the log, the table and the page show it. */
export interface HealthChange {
  kind: ChangeKind;
  atMs: number;
  /** State of the whole before and after. */
  from: HealthState;
  to: HealthState;
  condition: Condition;
  /** Lost since the last change of this condition. */
  added: number;
}

export interface HealthReport {
  state: HealthState;
  sinceMs: number;
  /** Worst first, then oldest first. */
  conditions: Condition[];
  /** Oldest first. */
  recent: HealthChange[];
}

const RECENT_CHANGES = 256;
const rank = (state: HealthState): number => HEALTH_STATES.indexOf(state);

export class HealthTracker {
  readonly #conditions = new Map<string, Condition>();
  readonly #recent: HealthChange[] = [];
  readonly #onChange: (change: HealthChange) => void;
  readonly #nowMs: () => number;
  /** How often each state was entered. */
  readonly transitions = new Map<HealthState, number>();
  #state: HealthState = 'healthy';
  #sinceMs: number;

  constructor(onChange: (change: HealthChange) => void, nowMs: () => number = Date.now) {
    this.#onChange = onChange;
    this.#nowMs = nowMs;
    this.#sinceMs = nowMs();
  }

  get state(): HealthState {
    return this.#state;
  }

  /** A condition holds. Said again with the same state it only renews its text, unless that `isNews`. */
  raise(state: Exclude<Severity, 'data_loss'>, cause: Cause, isNews = false): void {
    const key = keyOf(cause);
    const known = this.#conditions.get(key);
    const sinceMs = known?.sinceMs ?? this.#nowMs();
    const condition: Condition = { ...cause, state, sinceMs, count: 0 };
    this.#conditions.set(key, condition);
    if (known?.state !== state || isNews)
      this.#changed(known === undefined ? 'raised' : 'changed', condition, 0);
  }

  /** It holds no more. */
  clear(tag: string, subject = ''): void {
    const key = keyOf({ tag, subject });
    const known = this.#conditions.get(key);
    if (known === undefined || known.state === 'data_loss') return;
    this.#conditions.delete(key);
    this.#changed('cleared', known, 0);
  }

  /** `count` rows, frames or sequence numbers are lost. */
  lose(cause: Cause, count: number): void {
    const key = keyOf(cause);
    const known = this.#conditions.get(key);
    const condition: Condition = {
      ...cause,
      state: 'data_loss',
      sinceMs: known?.sinceMs ?? this.#nowMs(),
      count: (known?.count ?? 0) + count,
    };
    this.#conditions.set(key, condition);
    this.#changed(known === undefined ? 'raised' : 'more', condition, count);
  }

  /** Takes note of all losses so far; returns them. */
  acknowledge(): Condition[] {
    const losses = this.losses();
    for (const loss of losses) {
      this.#conditions.delete(keyOf(loss));
      this.#changed('acknowledged', loss, 0);
    }
    return losses;
  }

  /** Losses that nobody has acknowledged. */
  losses(): Condition[] {
    return [...this.#conditions.values()].filter(({ state }) => state === 'data_loss');
  }

  /** Takes over losses of an earlier run, which were reported then. */
  restore(losses: readonly Condition[]): void {
    for (const loss of losses) this.#conditions.set(keyOf(loss), { ...loss, state: 'data_loss' });
    this.#settle();
  }

  report(): HealthReport {
    const conditions = [...this.#conditions.values()].sort(
      (a, b) => rank(b.state) - rank(a.state) || a.sinceMs - b.sinceMs,
    );
    return { state: this.#state, sinceMs: this.#sinceMs, conditions, recent: [...this.#recent] };
  }

  #changed(kind: ChangeKind, condition: Condition, added: number): void {
    const from = this.#state;
    this.#settle();
    const change = { kind, atMs: this.#nowMs(), from, to: this.#state, condition, added };
    this.#recent.push(change);
    if (this.#recent.length > RECENT_CHANGES) this.#recent.shift();
    this.#onChange(change);
  }

  #settle(): void {
    let worst: HealthState = 'healthy';
    for (const { state } of this.#conditions.values()) if (rank(state) > rank(worst)) worst = state;
    if (worst === this.#state) return;
    this.#state = worst;
    this.transitions.set(worst, (this.transitions.get(worst) ?? 0) + 1);
    this.#sinceMs = this.#nowMs();
  }
}

function keyOf({ tag, subject }: Pick<Cause, 'tag' | 'subject'>): string {
  return `${tag}/${subject}`;
}
