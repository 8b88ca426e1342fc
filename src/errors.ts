// Operating errors: what can go wrong in use, as opposed to bugs, which are asserted and crash.

/** An error that a user can act on: `code` is bounded and stable, `hint` says what to do next. */
export class RecorderError extends Error {
  readonly code: string;
  readonly hint: string | undefined;

  constructor(code: string, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'RecorderError';
    this.code = code;
    this.hint = options.hint;
  }
}

/** Text of any thrown value, with the messages of its causes. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : `: ${describeError(error.cause)}`;
  const hint = error instanceof RecorderError && error.hint !== undefined ? ` (${error.hint})` : '';
  return `${error.message}${cause}${hint}`;
}

/** Asserts an invariant: a failure is a bug of this program, never of its input. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${message}`);
}
