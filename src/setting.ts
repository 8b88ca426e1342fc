/** One setting: how it is named, what it means, and how its text becomes a value. */
export interface Setting<T> {
  env: string;
  /** Metavariable in the help text. */
  placeholder: string;
  description: string;
  /** Text of the default, parsed like any other text. */
  fallback: string;
  /** Parses the text; throws ExpectedError when it is not valid. */
  parse: (text: string) => T;
  secret: boolean;
  /** A running recorder or loader takes another value over on SIGHUP. */
  reloads: boolean;
}

/** A setting that is no secret, and needs a restart. */
export function setting<T>(
  env: string,
  placeholder: string,
  fallback: string,
  parse: (text: string) => T,
  description: string,
): Setting<T> {
  return { env, placeholder, description, fallback, parse, secret: false, reloads: false };
}

/** The same where a running process takes another value over. */
export function reloadable<T>(given: Setting<T>): Setting<T> {
  return { ...given, reloads: true };
}
