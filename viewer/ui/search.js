// @ts-check
/**
 * The search box: names of locks, tasks, threads, spans, counters, with the server's hits below it.
 */

import * as api from '../api.js';
import { counted } from '../format.js';
import { h } from './dom.js';

/** @typedef {import('../types').Hit} Hit */

/** How long writing rests before the question is asked, ms. */
const REST_MS = 60;

export class Search {
  #input;
  #list;
  #trace;
  #chosen;
  /** @type {Hit[]} */
  #hits = [];
  #current = 0;
  #asked = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #resting;

  /**
   * @param {HTMLInputElement} input @param {HTMLElement} list @param {() => string} trace @param {(hit: Hit) => void} chosen
   */
  constructor(input, list, trace, chosen) {
    this.#input = input;
    this.#list = list;
    this.#trace = trace;
    this.#chosen = chosen;
    input.addEventListener('input', () => {
      clearTimeout(this.#resting);
      this.#resting = setTimeout(() => void this.#ask(), REST_MS);
    });
    input.addEventListener('keydown', (event) => this.#key(event));
    input.addEventListener('focus', () => void this.#ask());
    input.addEventListener('blur', () => setTimeout(() => this.#hide(), 150));
  }

  focus() {
    this.#input.focus();
    this.#input.select();
  }

  #hide() {
    this.#list.hidden = true;
    this.#input.setAttribute('aria-expanded', 'false');
  }

  async #ask() {
    const query = this.#input.value.trim();
    this.#asked += 1;
    const mine = this.#asked;
    if (!query || !this.#trace()) return this.#hide();
    try {
      const { hits, total } = await api.search(this.#trace(), query);
      if (mine !== this.#asked) return;
      this.#hits = hits;
      this.#current = 0;
      this.#show(total);
    } catch (error) {
      this.#list.replaceChildren(h('div', { class: 'none' }, error instanceof Error ? error.message : String(error)));
      this.#list.hidden = false;
    }
  }

  /** @param {number} total */
  #show(total) {
    const rows = this.#hits.map((hit, index) =>
      h(
        'div',
        { class: 'hit', role: 'option', id: `hit-${index}`, 'aria-selected': String(index === this.#current), onmousedown: () => this.#choose(index) },
        h('span', { class: 'kind' }, hit.kind),
        h('span', { class: 'name' }, hit.label),
        h('span', { class: 'note' }, hit.note),
      ),
    );
    const more = total > this.#hits.length ? h('div', { class: 'none' }, `${counted(total - this.#hits.length, 'more name')} match`) : null;
    const none = total === 0 ? h('div', { class: 'none' }, 'nothing has that name') : null;
    this.#list.replaceChildren(...rows, ...[more, none].filter((row) => row !== null));
    this.#list.hidden = false;
    this.#input.setAttribute('aria-expanded', 'true');
    this.#mark();
  }

  #mark() {
    [...this.#list.querySelectorAll('.hit')].forEach((row, index) => {
      row.setAttribute('aria-selected', String(index === this.#current));
      if (index === this.#current) row.scrollIntoView({ block: 'nearest' });
    });
    this.#input.setAttribute('aria-activedescendant', `hit-${this.#current}`);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const by = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    if (by !== 0 && this.#hits.length > 0) {
      event.preventDefault();
      this.#current = (this.#current + by + this.#hits.length) % this.#hits.length;
      this.#mark();
    } else if (event.key === 'Enter') {
      event.preventDefault();
      void this.#enter();
    } else if (event.key === 'Escape') {
      this.#hide();
      this.#input.blur();
    }
  }

  /** Enter may come before the answer to what was written last. */
  async #enter() {
    clearTimeout(this.#resting);
    const current = this.#current;
    if (this.#list.hidden || this.#hits.length === 0) await this.#ask();
    this.#choose(current);
  }

  /** @param {number} index */
  #choose(index) {
    const hit = this.#hits[index];
    if (!hit) return;
    this.#hide();
    this.#input.blur();
    this.#chosen(hit);
  }
}
