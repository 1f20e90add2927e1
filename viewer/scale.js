// @ts-check
/**
 * Time and pixels: pure functions between a window of the trace and a width on the screen.
 *
 * A window is `{begin, end}` in ns from the trace's start; inside, fractions of a ns are allowed, since only drawing
 * uses them. Nothing here knows the page.
 */

/** @typedef {import('./types').Window} Window */

/** The narrowest window: below that a pixel is less than a tenth of a ns. */
export const NARROWEST_NS = 100;

/**
 * Where an instant lies.
 * @param {Window} window @param {number} width @param {number} at
 */
export const xAt = (window, width, at) => ((at - window.begin) / (window.end - window.begin)) * width;

/**
 * The instant at a place.
 * @param {Window} window @param {number} width @param {number} x
 */
export const timeAt = (window, width, x) => window.begin + (x / width) * (window.end - window.begin);

/**
 * The window moved and stretched so that it lies in the trace.
 * @param {Window} window @param {number} duration
 * @returns {Window}
 */
export function clamped(window, duration) {
  const length = Math.min(Math.max(window.end - window.begin, NARROWEST_NS), Math.max(duration, NARROWEST_NS));
  const middle = (window.begin + window.end) / 2;
  const grown = window.end - window.begin === length ? window.begin : middle - length / 2;
  const begin = Math.min(Math.max(grown, 0), Math.max(duration - length, 0));
  return { begin, end: begin + length };
}

/**
 * The window `factor` times as long, around an instant that stays where it is.
 * @param {Window} window @param {number} factor @param {number} at @param {number} duration
 */
export function zoomed(window, factor, at, duration) {
  const most = Math.max(duration, NARROWEST_NS);
  const length = Math.min(Math.max((window.end - window.begin) * factor, NARROWEST_NS), most);
  const share = (at - window.begin) / (window.end - window.begin);
  const begin = at - share * length;
  return clamped({ begin, end: begin + length }, duration);
}

/**
 * The window moved by a share of itself.
 * @param {Window} window @param {number} share @param {number} duration
 */
export function panned(window, share, duration) {
  const by = (window.end - window.begin) * share;
  return clamped({ begin: window.begin + by, end: window.end + by }, duration);
}

/**
 * The window with some room around a stretch.
 * @param {Window} stretch @param {number} duration @param {number} room share of the stretch on each side
 */
export function around(stretch, duration, room) {
  const by = Math.max(stretch.end - stretch.begin, 1) * room;
  return clamped({ begin: stretch.begin - by, end: stretch.end + by }, duration);
}

/**
 * The level whose columns are a half to one device pixel wide: 2^z ns a column, 1 ns at least.
 * @param {Window} window @param {number} devicePixels
 */
export function level(window, devicePixels) {
  const nsPerPixel = (window.end - window.begin) / Math.max(devicePixels, 1);
  return Math.max(0, Math.floor(Math.log2(Math.max(nsPerPixel, 1))));
}

/**
 * How long a tile is.
 * @param {number} z @param {number} columns
 */
export const tileNs = (z, columns) => columns * 2 ** z;

/**
 * The numbers of the tiles that a window needs: from, and up to but without `to`.
 * @param {Window} window @param {number} z @param {number} columns @param {number} duration
 */
export function tilesIn(window, z, columns, duration) {
  const length = tileNs(z, columns);
  const last = Math.max(Math.min(window.end, duration), window.begin + 1);
  return { from: Math.max(0, Math.floor(window.begin / length)), to: Math.ceil(last / length) };
}

/**
 * The step between ticks: 1, 2 or 5 times a power of ten, ns.
 * @param {Window} window @param {number} width @param {number} apart pixels between two ticks at least
 */
export function tickStep(window, width, apart) {
  const least = ((window.end - window.begin) / Math.max(width, 1)) * apart;
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  for (const times of [1, 2, 5, 10]) {
    if (power * times >= least) return Math.max(1, power * times);
  }
  return power * 10;
}

/**
 * Instants at which ticks stand.
 * @param {Window} window @param {number} step
 * @returns {number[]}
 */
export function ticks(window, step) {
  const found = [];
  for (let n = Math.ceil(window.begin / step); n * step <= window.end; n += 1) found.push(n * step);
  return found;
}

/**
 * A window on the way from one to another: zooms look even when lengths change by their ratio.
 * @param {Window} from @param {Window} to @param {number} share 0 to 1
 * @returns {Window}
 */
export function between(from, to, share) {
  const [a, b] = [from.end - from.begin, to.end - to.begin];
  const length = a * (b / a) ** share;
  const moved = Math.abs(b - a) < 1e-6 * a ? share : (length - a) / (b - a);
  const begin = from.begin + (to.begin - from.begin) * moved;
  return { begin, end: begin + length };
}
