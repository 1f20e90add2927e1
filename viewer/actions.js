// @ts-check
/**
 * What a person can do: each action asks the server for what it needs and replaces parts of the state.
 *
 * Knows no elements: keys, mouse, findings and search all come here.
 */

import * as api from './api.js';
import { around, clamped } from './scale.js';

/** @typedef {import('./state.js').Store} Store */
/** @typedef {import('./types').Window} Window */
/** @typedef {import('./types').Selection} Selection */
/** @typedef {import('./types').Details} Details */
/** @typedef {import('./types').Hit} Hit */
/** @typedef {import('./types').Finding} Finding */

/** Groups that are open when a trace is opened. */
const OPEN_FIRST = /^(workers\.\d+|threads|sites|locks|spans|counters)$/;

export class Actions {
  #store;
  /** Moves the window; set by the timeline. @type {(window: Window) => void} */
  moveTo = (window) => this.#store.set({ window });
  /** Scrolls a row into sight; set by the timeline. @type {(row: string) => void} */
  scrollTo = () => {};
  /** Counts selections: an answer that comes after the next one was made is dropped. */
  #selections = 0;

  /** @param {Store} store */
  constructor(store) {
    this.#store = store;
  }

  get #trace() {
    return this.#store.state.summary?.id ?? '';
  }

  get #duration() {
    return this.#store.state.summary?.duration_ns ?? 1;
  }

  /** Tells what went wrong. @param {unknown} error */
  fail(error) {
    this.#store.set({ error: error instanceof Error ? error.message : String(error), busy: null });
  }

  /** Which traces there are. */
  async loadSession() {
    this.#store.set({ session: await api.session() });
  }

  /**
   * Shows a trace.
   * @param {string} id @param {{window: Window | null, open: string[] | null}} [as]
   */
  async loadTrace(id, as = { window: null, open: null }) {
    const summary = await api.summary(id);
    const duration = summary.duration_ns;
    const groups = summary.groups.map((group) => group.key);
    const open = new Set(as.open ?? groups.filter((key) => OPEN_FIRST.test(key)));
    this.#store.set({
      summary,
      window: as.window ? clamped(as.window, duration) : { begin: 0, end: Math.max(duration, 1) },
      open,
      pages: new Map(),
      selection: null,
      details: null,
      flows: null,
      area: null,
      track: null,
      error: null,
    });
    await Promise.all([...open].map((group) => this.loadPage(group)));
  }

  /** Records the process for some seconds and shows that. @param {number} seconds */
  async record(seconds) {
    this.#store.set({ busy: `recording ${seconds} s`, error: null });
    try {
      const { id } = await api.record(seconds);
      await this.loadSession();
      await this.loadTrace(id);
      this.#store.set({ busy: null });
    } catch (error) {
      this.fail(error);
    }
  }

  /** Shows a file's trace. @param {File} file */
  async openFile(file) {
    this.#store.set({ busy: `opening ${file.name}`, error: null });
    try {
      const { id } = await api.open(file);
      await this.loadSession();
      await this.loadTrace(id);
      this.#store.set({ busy: null });
    } catch (error) {
      this.fail(error);
    }
  }

  /** Loads a group's first page, or its next one. @param {string} group */
  async loadPage(group) {
    const { pages, summary } = this.#store.state;
    const known = pages.get(group);
    if (known && known.cursor === undefined) return;
    const page = await api.tracks(summary?.id ?? '', group, known?.cursor ?? 0);
    // Another trace may have come, or the same page, while this one was on its way.
    const now = this.#store.state;
    if (now.summary !== summary || now.pages.get(group) !== known) return;
    const tracks = [...(known?.tracks ?? []), ...page.tracks];
    this.#store.set({ pages: new Map(now.pages).set(group, { ...page, tracks }) });
  }

  /** Opens or closes a group. @param {string} group */
  async toggle(group) {
    const open = new Set(this.#store.state.open);
    if (!open.delete(group)) open.add(group);
    this.#store.set({ open });
    if (open.has(group) && !this.#store.state.pages.has(group)) await this.loadPage(group).catch((error) => this.fail(error));
  }

  /**
   * Selects the slice at a place: its details, then its arrows.
   * @param {Selection} place @param {{dt?: number, which?: 'next' | 'previous'}} [how]
   * @returns {Promise<Details | null>}
   */
  async select(place, how = {}) {
    this.#selections += 1;
    const mine = this.#selections;
    try {
      const details = await api.item(this.#trace, place, how);
      if (mine !== this.#selections) return null;
      if (!details) {
        if (!how.which) this.deselect();
        return null;
      }
      const selection = { row: details.row, at: details.begin };
      this.#store.set({ selection, details, flows: null, track: details.track ?? this.#store.state.track });
      const flows = await api.flows(this.#trace, selection);
      if (mine === this.#selections) this.#store.set({ flows });
      return details;
    } catch (error) {
      this.fail(error);
      return null;
    }
  }

  deselect() {
    this.#selections += 1;
    this.#store.set({ selection: null, details: null, flows: null, area: null });
  }

  /** Selects the next or previous slice of the selected row, or of the current track's last row. @param {'next' | 'previous'} which */
  async step(which) {
    const { selection, window, track, pages } = this.#store.state;
    let place = selection;
    if (!place && track) {
      const lanes = [...pages.values()].flatMap((page) => page.tracks).find((entry) => entry.key === track)?.lanes;
      const row = lanes?.[0]?.key;
      if (row) place = { row, at: which === 'next' ? window.begin : window.end };
    }
    if (!place) return;
    const details = await this.select(place, { which });
    if (details) this.show(details);
  }

  /** Moves the window so that a stretch is in it, its length unchanged if possible. @param {Window} stretch */
  show({ begin, end }) {
    const { window } = this.#store.state;
    const length = window.end - window.begin;
    if (begin >= window.begin && end <= window.end) return;
    const longer = end - begin > length;
    const target = longer ? { begin: begin - length / 10, end: begin + length * 0.9 } : around({ begin, end }, this.#duration, 0);
    const middle = (target.begin + target.end) / 2;
    this.moveTo(clamped({ begin: middle - length / 2, end: middle + length / 2 }, this.#duration));
  }

  /** Fits the selection, or the measured stretch, or the whole trace. */
  fit() {
    const { details, area } = this.#store.state;
    const stretch = area ?? details;
    if (!stretch || stretch.end <= stretch.begin) return this.whole();
    this.moveTo(around(stretch, this.#duration, 0.2));
  }

  whole() {
    this.moveTo({ begin: 0, end: this.#duration });
  }

  /** Opens the groups that a row is in, so that it is laid out. @param {string} row */
  async reveal(row) {
    if (row === 'overview') return;
    const { track, groups } = await api.trackOf(this.#trace, row);
    const open = new Set([...this.#store.state.open, ...groups]);
    this.#store.set({ open, track: track.key });
    for (const group of groups) {
      // Page after page until the track is there: a row that somebody asked for is worth them.
      while (!this.#store.state.pages.get(group)?.tracks.some((known) => known.key === track.key)) {
        const before = this.#store.state.pages.get(group);
        await this.loadPage(group);
        const after = this.#store.state.pages.get(group);
        if (after === before || after?.cursor === undefined) break;
      }
    }
    this.scrollTo(row);
  }

  /**
   * Goes to a place: opens its groups, moves the window, selects.
   * @param {Selection} place @param {Window | null} stretch what to fit; without it the window only moves
   */
  async goTo(place, stretch) {
    try {
      await this.reveal(place.row);
      if (stretch) this.moveTo(around(stretch, this.#duration, 0.6));
      const details = await this.select(place, stretch ? { dt: stretch.end - stretch.begin } : {});
      if (!stretch) this.show(details ?? { begin: place.at, end: place.at });
    } catch (error) {
      this.fail(error);
    }
  }

  /** Goes where a finding shows best: the longest wait, with who waited selected. @param {Finding} finding */
  goToFinding(finding) {
    return this.goTo({ row: finding.row.replace(/^lock\.(\d+)$/, 'waiters.$1.0'), at: finding.begin }, finding);
  }

  /** Goes to what a search found. @param {Hit} hit */
  async goToHit({ row, begin, end, kind }) {
    if (kind === 'lock') return this.goTo({ row, at: begin }, { begin, end });
    try {
      await this.reveal(row);
      const { window } = this.#store.state;
      if (end <= window.begin || begin >= window.end) this.show({ begin, end });
    } catch (error) {
      this.fail(error);
    }
  }
}
