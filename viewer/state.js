// @ts-check
/**
 * The page's state: one plain object, replaced a part at a time, and who wants to know of which part.
 *
 * Nothing is drawn here: listeners ask the scheduler for a frame.
 */

/** @typedef {import('./types').State} State */
/** @typedef {keyof State} Part */

/** @returns {State} */
export function initial() {
  return {
    session: null,
    summary: null,
    window: { begin: 0, end: 1 },
    open: new Set(),
    pages: new Map(),
    selection: null,
    details: null,
    flows: null,
    area: null,
    track: null,
    legend: false,
    theme: 'light',
    error: null,
    busy: null,
  };
}

export class Store {
  /** @type {State} */
  #state = initial();
  /** @type {{parts: Part[], tell: (state: State) => void}[]} */
  #listeners = [];

  /** What the page shows now; never changed in place. */
  get state() {
    return this.#state;
  }

  /**
   * Replaces some parts and tells those who asked for one that changed.
   * @param {Partial<State>} patch
   */
  set(patch) {
    const before = this.#state;
    const after = { ...before, ...patch };
    this.#state = after;
    const changed = /** @type {Part[]} */ (Object.keys(patch)).filter((part) => before[part] !== after[part]);
    for (const { parts, tell } of this.#listeners) {
      if (parts.some((part) => changed.includes(part))) tell(after);
    }
  }

  /**
   * Calls `tell` now and whenever one of `parts` changes.
   * @param {Part[]} parts @param {(state: State) => void} tell
   */
  on(parts, tell) {
    this.#listeners.push({ parts, tell });
    tell(this.#state);
  }
}
