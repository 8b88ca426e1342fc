// Exact decimal text to the integers of the wire: 64-bit, in units of 1e-9. Never through a float.

/** Decimal places of every price, quantity and fee on the wire. */
export const WIRE_SCALE = 9;

const INT64_MAX = 2n ** 63n - 1n;
const INT64_MIN = -(2n ** 63n);
const ZERO = 48;
const POWERS = Array.from({ length: 20 }, (_, exponent) => 10 ** exponent);

/** A text that is not an exact number of units. */
export class DecimalError extends Error {
  constructor(text: string, problem: string) {
    super(`"${text.length > 60 ? `${text.slice(0, 60)}…` : text}" ${problem}`);
    this.name = 'DecimalError';
  }
}

/**
 * Parses a plain decimal number (sign, digits, point; no exponent) into units of 10^-scale.
 * `"61837.63000000"` with scale 9 is 61837630000000n; a price in 1/10,000 is parsed with scale 5.
 * @throws DecimalError when the text is not a number, has digits below the unit that are not zeros, or
 * exceeds int64
 */
export function parseDecimal(text: string, scale: number = WIRE_SCALE): bigint {
  const length = text.length;
  const first = text.charCodeAt(0);
  const negative = first === 45;
  let mantissa = 0;
  let digits = 0;
  let fraction = -1;
  for (let i = negative || first === 43 ? 1 : 0; i < length; i++) {
    const code = text.charCodeAt(i) - ZERO;
    if (code >= 0 && code <= 9) {
      digits++;
      if (fraction >= 0) fraction++;
      // Digits below the unit must be zeros and change nothing.
      if (fraction > scale) {
        if (code !== 0) throw new DecimalError(text, `has digits below 1e-${scale}`);
      } else mantissa = mantissa * 10 + code;
    } else if (code === -2 && fraction < 0) fraction = 0;
    else throw new DecimalError(text, 'is not a decimal number');
  }
  if (digits === 0) throw new DecimalError(text, 'is not a decimal number');
  const missing = scale - Math.min(Math.max(fraction, 0), scale);
  const units = mantissa * POWERS[missing]!;
  // Exact as doubles below 2^53; the rare larger ones are computed again from the text.
  if (units <= Number.MAX_SAFE_INTEGER) return BigInt(negative ? -units : units);
  return largeDecimal(text, negative, missing, scale);
}

function largeDecimal(text: string, negative: boolean, missing: number, scale: number): bigint {
  const [whole = '', decimals = ''] = text.replace(/^[+-]/, '').split('.');
  const magnitude = BigInt(whole + decimals.slice(0, scale)) * 10n ** BigInt(missing);
  const units = negative ? -magnitude : magnitude;
  if (units > INT64_MAX || units < INT64_MIN)
    throw new DecimalError(text, `does not fit 64 bits in 1e-${scale}`);
  return units;
}
