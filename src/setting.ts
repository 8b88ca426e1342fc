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
}

/** A setting that is no secret. */
export function setting<T>(
  env: string,
  placeholder: string,
  fallback: string,
  parse: (text: string) => T,
  description: string,
): Setting<T> {
  return { env, placeholder, description, fallback, parse, secret: false };
}
