// @ts-check
/**
 * Numbers for people: the only place of the page that turns a number into text.
 */

const UNITS = /** @type {const} */ ([['s', 1e9], ['ms', 1e6], ['µs', 1e3], ['ns', 1]]);

/**
 * A time span with three figures: `48.2 ms`.
 * @param {number} ns
 */
export function duration(ns) {
  const size = Math.abs(ns);
  const [unit, scale] = UNITS.find(([, least]) => size >= least * 0.9995) ?? ['ns', 1];
  const value = ns / scale;
  const digits = unit === 'ns' ? 0 : Math.abs(value) < 9.995 ? 2 : Math.abs(value) < 99.95 ? 1 : 0;
  return `${grouped(value.toFixed(digits))} ${unit}`;
}

/**
 * An instant, so finely that two of them a step apart differ: `12.301 840 s`.
 * @param {number} ns from the trace's start @param {number} step ns
 */
export function instant(ns, step) {
  const digits = Math.min(9, Math.max(0, Math.ceil(9 - Math.log10(Math.max(step, 1)))));
  return `${seconds(ns, digits)} s`;
}

/**
 * What tells an instant from the full second, millisecond, … before it: `+840 µs`.
 * @param {number} ns @param {number} step
 */
export function tick(ns, step) {
  const coarse = step >= 1e9 ? 1e9 : step >= 1e6 ? 1e6 : step >= 1e3 ? 1e3 : 1;
  const unit = { 1e9: 's', 1e6: 'ms', 1e3: 'µs', 1: 'ns' }[coarse];
  return `${grouped(Math.round(ns / coarse).toString())} ${unit}`;
}

/**
 * A number of things: `83 808`.
 * @param {number} n
 */
export const count = (n) => grouped(Math.round(n).toString());

/**
 * A number of things and their name: `1 wait`, `62 waits`.
 * @param {number} n @param {string} one
 */
export const counted = (n, one) => `${count(n)} ${one}${n === 1 ? '' : 's'}`;

/**
 * A counter's value, short: `1.2 M`.
 * @param {number} value
 */
export function short(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${(value / 1e9).toFixed(1)} G`;
  if (size >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  return grouped(String(Math.round(value * 100) / 100));
}

/**
 * A moment of the day, from nanoseconds since the epoch.
 * @param {string} epochNs
 */
export function clock(epochNs) {
  const ms = Number(BigInt(epochNs) / 1_000_000n);
  return new Date(ms).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
}

/**
 * @param {number} ns @param {number} digits
 */
function seconds(ns, digits) {
  const text = (ns / 1e9).toFixed(digits);
  const [whole = '0', part = ''] = text.split('.');
  const groups = part.match(/.{1,3}/g)?.join(' ');
  return groups ? `${grouped(whole)}.${groups}` : grouped(whole);
}

/**
 * Thin spaces between thousands.
 * @param {string} digits
 */
function grouped(digits) {
  const [whole = '', part] = digits.split('.');
  const spaced = whole.replace(/\B(?=(\d{3})+$)/g, ' ');
  return part === undefined ? spaced : `${spaced}.${part}`;
}
