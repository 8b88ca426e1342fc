// Numbers, sizes and times as a person reads them. Pure.

const integers = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/**
 * A whole number with thousands separators.
 * @param {number} value
 */
export function whole(value) {
  return integers.format(Math.round(value));
}

/**
 * A rate: whole above 10, with one digit below.
 * @param {number | null} value
 */
export function rate(value) {
  if (value === null) return '–';
  return value > 0 && value < 10 ? value.toFixed(1) : whole(value);
}

/**
 * A number with k, M or G, for axes.
 * @param {number} value
 */
export function short(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${trim(value / 1e9)}G`;
  if (size >= 1e6) return `${trim(value / 1e6)}M`;
  if (size >= 1e3) return `${trim(value / 1e3)}k`;
  return trim(value);
}

/** @param {number} value */
function trim(value) {
  const size = Math.abs(value);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3;
  return value
    .toFixed(digits)
    .replace(/(\.\d*?)0+$/, '$1')
    .replace(/\.$/, '');
}

/**
 * A size in binary units.
 * @param {number | null} value
 */
export function bytes(value) {
  if (value === null) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  let rest = value;
  while (rest >= 1024 && unit < units.length - 1) {
    rest /= 1024;
    unit++;
  }
  return `${unit === 0 ? rest : rest.toFixed(rest >= 100 ? 0 : 1)} ${units[unit]}`;
}

/**
 * A short time: µs, ms or s, then minutes, hours, days.
 * @param {number | null} value seconds
 */
export function seconds(value) {
  if (value === null) return '–';
  if (value === 0) return '0 s';
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${trim(value * 1000)} ms`;
  if (value < 60) return `${trim(value)} s`;
  return ago(value);
}

/**
 * A short time for an axis: one unit.
 * @param {number} value seconds
 */
export function axisSeconds(value) {
  if (value < 60) return seconds(value);
  if (value <= 300) return `${trim(value)} s`;
  return value < 7200 ? `${trim(value / 60)} min` : `${trim(value / 3600)} h`;
}

/**
 * How long something lasts: its two greatest units.
 * @param {number} value seconds
 */
export function ago(value) {
  const all = Math.max(0, Math.floor(value));
  const [days, hours, minutes, rest] = [
    Math.floor(all / 86_400),
    Math.floor(all / 3600) % 24,
    Math.floor(all / 60) % 60,
    all % 60,
  ];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  if (minutes > 0) return `${minutes} min ${rest} s`;
  return `${rest} s`;
}

/**
 * Time of day in UTC.
 * @param {number} ms since 1970
 */
export function timeOfDay(ms) {
  return new Date(ms).toISOString().slice(11, 19);
}

/**
 * `count` of something, with its plural.
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export function counted(count, one, many = `${one}s`) {
  return `${whole(count)} ${count === 1 ? one : many}`;
}
