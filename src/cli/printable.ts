/**
 * Text for a terminal: control characters become U+FFFD. Names and messages come from producers and servers,
 * and an escape sequence in one of them must not drive the terminal of whoever looks.
 */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, '\ufffd');
}
