// Why a frame was refused. Codes are numbers so that the hot path returns them without allocating; 0 means
// accepted.

export const Malformed = {
  ok: 0,
  /** Shorter than the smallest frame that can hold a table. */
  too_short: 1,
  /** The root offset does not point to a table inside the frame. */
  bad_root: 2,
  /** The vtable lies outside the frame, or its size is odd or too small. */
  bad_vtable: 3,
  /** A field lies outside the frame. */
  bad_field: 4,
  /** A string lies outside the frame, or its terminating zero is missing. */
  bad_string: 5,
  /** A vector lies outside the frame. */
  bad_vector: 6,
  /** A required field is absent. */
  missing_required: 7,
  /** No topic has the frame's file identifier. */
  unknown_identifier: 8,
  /** Longer than the longest frame that is taken. */
  too_large: 9,
  /** The length prefix cannot be right; the stream ends. */
  bad_length: 10,
  /** A datagram whose counts and lengths do not fit its size. */
  bad_datagram: 11,
  /** A control message in the wrong place or with wrong content. */
  bad_control: 12,
} as const;

const names = new Map<number, string>(Object.entries(Malformed).map(([name, code]) => [code, name]));

/** Name of a code, for metrics, logs and the quarantine index. */
export function malformedName(code: number): string {
  return names.get(code) ?? 'unknown';
}
