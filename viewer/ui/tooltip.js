// @ts-check
/**
 * What is under the mouse, in a few lines beside it.
 */

import { duration, instant } from '../format.js';
import { h, swatch } from './dom.js';

/** @typedef {import('../types').Details} Details */
/** @typedef {import('../types').Schema} Schema */
/** @typedef {import('../timeline/paint.js').Paint} Paint */
/** @typedef {{x: number, y: number}} Point */

/** Frames of a stack that are shown. */
const FRAMES = 3;

export class Tooltip {
  #root;
  #schema;

  /** @param {HTMLElement} root @param {Schema} schema */
  constructor(root, schema) {
    this.#root = root;
    this.#schema = schema;
  }

  hide() {
    this.#root.hidden = true;
  }

  /**
   * @param {Details} details @param {Paint} paint @param {Point} point @param {HTMLElement} over
   */
  show(details, paint, point, over) {
    const { looks, classes } = this.#schema;
    const colours = details.look === looks.named ? paint.palette : paint.classes;
    const colour = details.class === undefined ? null : colours[details.class];
    const stack = details.stacks[0];
    this.#root.replaceChildren(
      h('div', { class: 'title' }, colour ? swatch(colour) : null, h('strong', {}, details.title)),
      ...(details.counts ?? []).map(({ class: cls, count }) => {
        const own = paint.classes[cls];
        return h('div', { class: 'count' }, own ? swatch(own) : null, `${count} ${classes[cls]?.label ?? ''}`);
      }),
      ...(details.counts ? [] : this.#lines(details)),
      ...(stack?.frames.filter((frame) => !frame.machinery).slice(0, FRAMES).map((frame) => h('div', { class: 'frame' }, frame.function)) ?? []),
    );
    this.#root.hidden = false;
    this.move(point, over);
  }

  /** @param {Details} details */
  #lines(details) {
    const lines = [];
    if (details.end > details.begin) {
      lines.push(h('div', {}, h('b', {}, duration(details.end - details.begin)), ` from ${instant(details.begin, 1000)}`));
    }
    if (details.subtitle) lines.push(h('div', { class: 'faint' }, details.subtitle));
    const value = details.facts.find((fact) => fact.name === 'value');
    if (value?.text) lines.push(h('div', {}, h('b', {}, value.text)));
    return lines;
  }

  /** @param {Point} point @param {HTMLElement} over */
  move({ x, y }, over) {
    const box = over.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.#root;
    const left = Math.min(box.left + x + 14, innerWidth - width - 8);
    const below = box.top + y + 18;
    const top = below + height > innerHeight - 8 ? box.top + y - height - 12 : below;
    this.#root.style.transform = `translate(${Math.max(8, left)}px, ${Math.max(8, top)}px)`;
  }
}
