// What the doctor finds: one line each, with what to type where something is wrong.

export interface Finding {
  /** What was looked at: 'config', 'disk' … */
  check: string;
  level: 'ok' | 'warning' | 'error';
  message: string;
  /** What mends it; null where nothing is wrong. */
  command: string | null;
}

export const ok = (check: string, message: string): Finding => ({
  check,
  level: 'ok',
  message,
  command: null,
});
export const warning = (check: string, message: string, command: string): Finding => ({
  ...{ check, level: 'warning', message, command },
});
export const wrong = (check: string, message: string, command: string): Finding => ({
  ...{ check, level: 'error', message, command },
});

/** A word of a shell command. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Bytes as a person reads them. */
export function sizeText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const step = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 2 ** (10 * step);
  return `${value >= 100 || step === 0 ? Math.round(value) : value.toFixed(1)} ${units[step]}`;
}
