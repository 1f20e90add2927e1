// @ts-check
/**
 * The labels beside the rows: real elements, for the keyboard and for readers, as many as the viewport shows.
 */

import { h } from '../ui/dom.js';

/** @typedef {import('../types').Entry} Entry */

/** Labels this high have two lines. CSS pixels. */
const TALL = 50;

export class Labels {
  #root;
  #chosen;
  /** @type {Map<string, {element: HTMLElement, text: string}>} */
  #shown = new Map();

  /** @param {HTMLElement} root @param {(entry: Entry) => void} chosen called when one is clicked or entered */
  constructor(root, chosen) {
    this.#root = root;
    this.#chosen = chosen;
  }

  /**
   * @param {Entry[]} entries those that are visible @param {number} top @param {string | null} current
   */
  draw(entries, top, current) {
    const seen = new Set();
    for (const entry of entries) {
      seen.add(entry.key);
      const text = `${entry.kind}|${entry.label}|${entry.note}|${entry.depth}|${entry.isOpen}|${entry.opens}|${entry.height}`;
      let shown = this.#shown.get(entry.key);
      if (!shown || shown.text !== text) {
        const fresh = this.#make(entry);
        if (shown) shown.element.replaceWith(fresh);
        else this.#root.append(fresh);
        shown = { element: fresh, text };
        this.#shown.set(entry.key, shown);
      }
      shown.element.style.transform = `translateY(${entry.y - top}px)`;
      shown.element.classList.toggle('current', entry.key === current);
    }
    for (const [key, { element }] of this.#shown) {
      if (seen.has(key)) continue;
      element.remove();
      this.#shown.delete(key);
    }
  }

  /** @param {Entry} entry */
  #make(entry) {
    const arrow = entry.opens && entry.kind !== 'more' ? (entry.isOpen ? '▾' : '▸') : '';
    const element = h(
      'button',
      {
        class: `label ${entry.kind} depth-${Math.min(entry.depth, 3)}${entry.height >= TALL ? ' tall' : ''}`,
        'data-key': entry.key,
        type: 'button',
        title: entry.note ? `${entry.label} · ${entry.note}` : entry.label,
        ...(arrow ? { 'aria-expanded': String(entry.isOpen) } : {}),
        onclick: () => this.#chosen(entry),
      },
      h('span', { class: 'arrow', 'aria-hidden': 'true' }, arrow),
      h('span', { class: 'name' }, entry.label),
      h('span', { class: 'note' }, entry.note),
    );
    element.style.height = `${entry.height}px`;
    return element;
  }
}
