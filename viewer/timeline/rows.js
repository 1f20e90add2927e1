// @ts-check
/**
 * Draws the rows of a window: copies tile images, then writes on the slices that are wide enough.
 *
 * Reads state, never changes it; what is missing is asked for by `Tiles` once the frame is done.
 */

import { level, tileNs, tilesIn, xAt } from '../scale.js';
import { solids } from './decode.js';

/** @typedef {import('../types').Entry} Entry */
/** @typedef {import('../types').Schema} Schema */
/** @typedef {import('../types').Solid} Solid */
/** @typedef {import('../types').Window} Window */
/** @typedef {import('./paint.js').Paint} Paint */
/** @typedef {import('./renderer.js').Renderer} Renderer */
/** @typedef {import('./tiles.js').Tiles} Tiles */
/** @typedef {{window: Window, width: number, height: number, top: number, ratio: number, duration: number}} Viewport */

const FONT = '11px system-ui, sans-serif';

/** Slices narrower than this bear no text; narrower than the second get no edge. CSS pixels. */
const TEXT_FROM = 24;
const EDGE_FROM = 4;

/**
 * @param {Renderer} renderer @param {Tiles} tiles @param {Schema} schema @param {Paint} paint
 * @param {Entry[]} entries those that are visible @param {Viewport} port
 */
export function drawRows(renderer, tiles, schema, paint, entries, port) {
  const { window, width, height, top, ratio } = port;
  renderer.begin(width, height, ratio);
  for (const entry of entries) {
    const y = entry.y - top;
    if (entry.kind === 'group') renderer.rect(paint.ink.band, 0, y, width, entry.height);
    renderer.rect(paint.ink.grid, 0, y + entry.height - 1, width, 1);
    for (const lane of entry.lanes) {
      drawLane(renderer, tiles, schema, paint, lane, port);
    }
  }
  const end = xAt(window, width, port.duration);
  if (end < width) renderer.rect(paint.ink.band, end, 0, width - end, height);
}

/**
 * @param {Renderer} renderer @param {Tiles} tiles @param {Schema} schema @param {Paint} paint
 * @param {Entry['lanes'][number]} lane @param {Viewport} port
 */
export function drawLane(renderer, tiles, schema, paint, lane, port) {
  const { window, width, top, ratio, duration } = port;
  const z = level(window, width * ratio);
  const length = tileNs(z, schema.columns);
  const perColumn = (length / (window.end - window.begin)) * (width / schema.columns);
  const { from, to } = tilesIn(window, z, schema.columns, duration);
  const y = lane.y - top;
  const pixels = Math.round(lane.height * ratio);
  const writer = new Writer(renderer, lane.look === schema.looks.named ? paint.palette : paint.classes, paint, y, lane.height, width);
  for (let i = from; i < to; i += 1) {
    const x = xAt(window, width, i * length);
    const kept = tiles.want(lane.key, z, i);
    if (kept) {
      renderer.image(tiles.image(kept, paint, pixels), 0, 1, x, y, perColumn * schema.columns, lane.height);
      const least = Math.max(1, Math.floor(EDGE_FROM / perColumn / 2));
      for (const solid of solids(kept.tile, schema.looks, least)) {
        writer.add(solid, x + solid.from * perColumn, solid.columns * perColumn);
      }
      continue;
    }
    const other = tiles.standIn(lane.key, z, i);
    if (other) {
      renderer.image(tiles.image(other.kept, paint, pixels), other.from, other.share, x, y, perColumn * schema.columns, lane.height);
    }
  }
  writer.flush();
}

/** Joins a slice's runs across tiles, then draws its edge and its name. */
class Writer {
  #renderer;
  #colours;
  #paint;
  #y;
  #height;
  #width;
  /** @type {{x: number, end: number, solid: Solid, ends: boolean} | null} */
  #pending = null;

  /**
   * @param {Renderer} renderer @param {import('./paint.js').Colour[]} colours @param {Paint} paint
   * @param {number} y @param {number} height @param {number} width
   */
  constructor(renderer, colours, paint, y, height, width) {
    this.#renderer = renderer;
    this.#colours = colours;
    this.#paint = paint;
    this.#y = y;
    this.#height = height;
    this.#width = width;
  }

  /** @param {Solid} solid @param {number} x @param {number} width */
  add(solid, x, width) {
    const pending = this.#pending;
    if (pending && !pending.ends && !solid.begins && Math.abs(pending.end - x) < 0.5 && pending.solid.class === solid.class) {
      pending.end = x + width;
      pending.ends = solid.ends;
      return;
    }
    this.flush();
    this.#pending = { x, end: x + width, solid, ends: solid.ends };
  }

  flush() {
    const pending = this.#pending;
    this.#pending = null;
    if (!pending) return;
    const { x, end, solid } = pending;
    if (end - x >= EDGE_FROM && solid.begins) this.#renderer.rect(this.#paint.ink.background, x, this.#y, 1, this.#height);
    const left = Math.max(x, 0) + 5;
    const right = Math.min(end, this.#width) - 3;
    const colour = this.#colours[solid.class];
    if (!solid.name || !colour || right - left < TEXT_FROM || this.#height < 12) return;
    const y = this.#y + this.#height / 2 + 0.5;
    if (colour.pattern === 'hatch') {
      // Stripes make letters hard to read: they stand on a plain patch.
      this.#renderer.patch(solid.name, colour.css, FONT, left - 3, this.#y + 2, right - left, this.#height - 4);
    }
    this.#renderer.text(solid.name, colour.ink, FONT, left, y, right - left);
  }
}
