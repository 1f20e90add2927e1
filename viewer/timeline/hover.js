// @ts-check
/**
 * What is under the mouse: asked for once it rests, shown beside it, forgotten when the rows move.
 */

import * as api from '../api.js';
import { Tooltip } from '../ui/tooltip.js';

/** @typedef {import('../types').Details} Details */
/** @typedef {import('../types').Schema} Schema */
/** @typedef {import('./paint.js').Paint} Paint */
/** @typedef {{x: number, y: number}} Point */
/** @typedef {{row: string, at: number, dt: number}} Target the row under a point, and the stretch that its pixel is */

/** How long the mouse rests before its slice is asked for, ms. */
const REST_MS = 35;

export class Hover {
  /** Where the mouse is. @type {Point | null} */
  point = null;
  /** What is there, once the server has said so. @type {Details | null} */
  details = null;
  #tooltip;
  #over;
  #target;
  #asks;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #resting;
  /** @type {AbortController | null} */
  #asking = null;

  /**
   * @param {HTMLDivElement} tooltip @param {HTMLElement} over what points are relative to @param {Schema} schema
   * @param {(point: Point) => Target | null} target
   * @param {{trace: () => string, paint: () => Paint, changed: () => void, failed: (error: unknown) => void}} asks
   */
  constructor(tooltip, over, schema, target, asks) {
    this.#tooltip = new Tooltip(tooltip, schema);
    this.#over = over;
    this.#target = target;
    this.#asks = asks;
  }

  /** The rows have moved under the mouse. */
  forget() {
    this.details = null;
    this.#tooltip.hide();
    if (this.point) this.move(this.point);
  }

  /** The mouse has moved, or left. @param {Point | null} point */
  move(point) {
    this.point = point;
    clearTimeout(this.#resting);
    const target = point && point.y >= 0 ? this.#target(point) : null;
    if (!point || !target) {
      this.#asking?.abort();
      this.details = null;
      this.#tooltip.hide();
    } else if (this.details?.row === target.row && this.details.begin <= target.at && target.at + target.dt <= this.details.end) {
      this.#tooltip.move(point, this.#over);
    } else {
      this.#resting = setTimeout(() => void this.#ask(target, point), REST_MS);
    }
    this.#asks.changed();
  }

  /** @param {Target} target @param {Point} point */
  async #ask({ row, at, dt }, point) {
    this.#asking?.abort();
    const asking = new AbortController();
    this.#asking = asking;
    try {
      const details = await api.item(this.#asks.trace(), { row, at }, { dt, signal: asking.signal });
      if (this.#asking !== asking || this.point !== point) return;
      this.details = details;
      if (details) this.#tooltip.show(details, this.#asks.paint(), point, this.#over);
      else this.#tooltip.hide();
      this.#asks.changed();
    } catch (error) {
      if (!asking.signal.aborted) this.#asks.failed(error);
    }
  }
}
