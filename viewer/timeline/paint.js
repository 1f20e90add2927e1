// @ts-check
/**
 * Colours for the canvas: the schema's, for a theme, in the forms that drawing needs.
 */

/** @typedef {import('../types').Schema} Schema */
/** @typedef {{css: string, pixel: number, ink: string, pattern: string}} Colour */
/** @typedef {{text: string, faint: string, line: string, grid: string, background: string, band: string, accent: string, arrow: string, wash: string, counter: string}} Inks */
/** @typedef {{theme: string, classes: Colour[], palette: Colour[], order: number[], ink: Inks}} Paint */

/** What is no state: text, lines and the like. Kept beside the same values of `app.css`. */
const INKS = /** @type {Record<string, Inks>} */ ({
  light: {
    text: '#1b1e25', faint: '#636b7a', line: '#e1e4ea', grid: '#eceef2', background: '#ffffff', band: '#f7f8fa',
    accent: '#2f5fd0', arrow: '#1f47ad', wash: 'rgba(47, 95, 208, 0.10)', counter: '#6d86b8',
  },
  dark: {
    text: '#e7e9ee', faint: '#949cab', line: '#2b303a', grid: '#23272f', background: '#14161b', band: '#181b21',
    accent: '#8fb0ff', arrow: '#a9c3ff', wash: 'rgba(143, 176, 255, 0.13)', counter: '#6d86b8',
  },
});

/**
 * @param {Schema} schema @param {'light' | 'dark'} theme
 * @returns {Paint}
 */
export function paint(schema, theme) {
  const classes = schema.classes.map((info) => colour(info[theme], info.pattern));
  const palette = schema.palette[theme].map((css) => colour(css, 'solid'));
  const ink = /** @type {Inks} */ (INKS[theme]);
  return { theme, classes, palette, order: schema.order, ink };
}

/** @param {string} css @param {string} pattern @returns {Colour} */
function colour(css, pattern) {
  const [red, green, blue] = channels(css);
  return { css, pixel: packed(red, green, blue), ink: inkOn(red, green, blue), pattern };
}

/**
 * Red, green and blue of `#rrggbb`.
 * @param {string} css
 * @returns {[number, number, number]}
 */
export function channels(css) {
  const value = Number.parseInt(css.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

/**
 * A pixel as ImageData has it on little-endian machines: which all browsers run on.
 * @param {number} red @param {number} green @param {number} blue
 */
export const packed = (red, green, blue) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

/**
 * Black or white, whichever is easier to read on a colour.
 * @param {number} red @param {number} green @param {number} blue
 */
function inkOn(red, green, blue) {
  const linear = [red, green, blue].map((c) => (c / 255) ** 2.2);
  const light = 0.2126 * (linear[0] ?? 0) + 0.7152 * (linear[1] ?? 0) + 0.0722 * (linear[2] ?? 0);
  return light > 0.3 ? '#14161b' : '#ffffff';
}
