// @ts-check
/**
 * A tile as an image: one pixel a column, as high as its row. Drawn once for a theme and a height, then only copied.
 *
 * A column that several states share is stacked by their shares, in the schema's order; each state that is there gets
 * one pixel at least, so that what is rare and short stays to be seen.
 */

import { runs } from './decode.js';

/** @typedef {import('../types').Tile} Tile */
/** @typedef {import('../types').Schema} Schema */
/** @typedef {import('./paint.js').Paint} Paint */
/** @typedef {import('./paint.js').Colour} Colour */

/** Stripes of what holds up a worker: this often, this wide. */
const STRIPE = 6;

/**
 * @param {Tile} tile @param {Schema} schema @param {Paint} paint @param {number} height device pixels
 * @returns {OffscreenCanvas}
 */
export function raster(tile, schema, paint, height) {
  const { columns, looks } = schema;
  const canvas = new OffscreenCanvas(columns, height);
  const context = canvas.getContext('2d');
  if (!context) return canvas;
  const image = context.createImageData(columns, height);
  const pixels = new Uint32Array(image.data.buffer);
  const colours = tile.look === looks.named ? paint.palette : paint.classes;
  const target = { pixels, columns, height };
  const shares = new Float64Array(Math.max(colours.length, paint.order.length));
  const order = tile.look === looks.named ? colours.map((_, index) => index) : paint.order;
  const line = colour32(paint.ink.counter);
  runs(tile, looks, {
    solid: (from, count, cls) => fill(target, colours, cls, from, count, 0, height),
    mixed: (at, bytes, offset, k) => {
      shares.fill(0);
      for (let n = 0; n < k; n += 1) shares[bytes.getUint8(offset + 2 * n)] = bytes.getUint8(offset + 2 * n + 1) / 255;
      stack(target, colours, order, shares, at, 1);
    },
    counts: (from, count, bytes, offset, k) => {
      shares.fill(0);
      for (let n = 0; n < k; n += 1) {
        shares[bytes.getUint8(offset + 3 * n)] = bytes.getUint16(offset + 3 * n + 1, true) / 65535;
      }
      stack(target, colours, order, shares, from, count);
    },
    value: (from, count, least, most, last) => plot(target, line, tile.range, from, count, least, most, last),
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

/** @typedef {{pixels: Uint32Array, columns: number, height: number}} Target */

/** @param {string} css */
function colour32(css) {
  const value = Number.parseInt(css.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

/**
 * @param {Target} target @param {Colour[]} colours @param {number} cls
 * @param {number} from @param {number} count @param {number} top @param {number} bottom
 */
function fill({ pixels, columns }, colours, cls, from, count, top, bottom) {
  const colour = colours[cls];
  if (!colour) return;
  const plain = colour.pixel;
  const other = colour.pattern === 'solid' ? plain : striped(colour);
  for (let y = top; y < bottom; y += 1) {
    const row = y * columns;
    if (other === plain) {
      pixels.fill(plain, row + from, row + from + count);
      continue;
    }
    for (let x = from; x < from + count; x += 1) {
      pixels[row + x] = onPattern(colour.pattern, x, y) ? other : plain;
    }
  }
}

/** @param {string} pattern @param {number} x @param {number} y */
const onPattern = (pattern, x, y) =>
  pattern === 'hatch' ? (x + y * 2) % (STRIPE * 2) < STRIPE - 2 : x % 8 < 2 && y % 4 === 1;

/** The second colour of a pattern: towards the ink that is read on it. @param {Colour} colour */
function striped({ pixel, ink, pattern }) {
  const towards = ink === '#ffffff' ? 255 : 0;
  const share = pattern === 'hatch' ? 0.32 : 0.4;
  const mix = (/** @type {number} */ shift) => Math.round(((pixel >>> shift) & 255) * (1 - share) + towards * share);
  return ((255 << 24) | (mix(16) << 16) | (mix(8) << 8) | mix(0)) >>> 0;
}

/**
 * @param {Target} target @param {Colour[]} colours @param {number[]} order @param {Float64Array} shares
 * @param {number} from @param {number} count
 */
function stack(target, colours, order, shares, from, count) {
  let below = 0;
  let bottom = target.height;
  for (const cls of order) {
    const share = shares[cls] ?? 0;
    if (share <= 0) continue;
    below += share;
    const top = Math.max(0, Math.min(bottom - 1, Math.round(target.height * (1 - below))));
    fill(target, colours, cls, from, count, top, bottom);
    bottom = top;
    if (bottom === 0) return;
  }
}

/**
 * A counter: a pale area up to the greatest value, a line where it stands.
 * @param {Target} target @param {number[]} colour @param {[number, number]} range
 * @param {number} from @param {number} count @param {number} least @param {number} most @param {number} last
 */
function plot({ pixels, columns, height }, colour, [lowest, highest], from, count, least, most, last) {
  const [bottom, top] = [Math.min(0, lowest), Math.max(highest, 0)];
  const span = top - bottom || 1;
  const y = (/** @type {number} */ value) => Math.round((1 - (value - bottom) / span) * (height - 2));
  const [red = 0, green = 0, blue = 0] = colour;
  const solid = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  const pale = ((70 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  const [high, low, at] = [y(most), y(least), y(last)];
  for (let row = 0; row < height; row += 1) {
    const onLine = (row >= high && row <= low) || row === at || row === at + 1;
    const pixel = onLine ? solid : row > at ? pale : 0;
    if (pixel) pixels.fill(pixel, row * columns + from, row * columns + from + count);
  }
}
