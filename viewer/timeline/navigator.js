// @ts-check
/**
 * Moves the window: at once for drags and wheels, in a short glide for keys and jumps, so that the eye can follow.
 */

import { between, clamped, panned, zoomed } from '../scale.js';

/** @typedef {import('../types').Window} Window */
/** @typedef {import('../state.js').Store} Store */
/** @typedef {import('../scheduler.js').Scheduler} Scheduler */

/** How long a glide takes, ms. */
const GLIDE_MS = 140;

/**
 * Whole nanoseconds, as an address has them, so that a reload shows the same pixels.
 * @param {Window} window
 * @returns {Window}
 */
const whole = ({ begin, end }) => ({ begin: Math.round(begin), end: Math.round(end) });

export class Navigator {
  #store;
  #scheduler;
  /** @type {{from: Window, to: Window, since: number | null} | null} */
  #glide = null;
  #still = matchMedia('(prefers-reduced-motion: reduce)');

  /** @param {Store} store @param {Scheduler} scheduler */
  constructor(store, scheduler) {
    this.#store = store;
    this.#scheduler = scheduler;
  }

  /** Where the window will be once a glide is over. */
  get target() {
    return this.#glide?.to ?? this.#store.state.window;
  }

  get #duration() {
    return this.#store.state.summary?.duration_ns ?? 1;
  }

  /** @param {Window} window */
  set(window) {
    this.#glide = null;
    this.#store.set({ window: whole(clamped(window, this.#duration)) });
  }

  /** @param {Window} window */
  glide(window) {
    const to = whole(clamped(window, this.#duration));
    if (this.#still.matches) return this.set(to);
    const running = this.#glide !== null;
    this.#glide = { from: this.#store.state.window, to, since: null };
    if (!running) this.#scheduler.animate((now) => this.#step(now));
  }

  /** @param {number} factor @param {number | null} at the instant that stays; without it the middle */
  zoom(factor, at) {
    const { target } = this;
    this.glide(zoomed(target, factor, at ?? (target.begin + target.end) / 2, this.#duration));
  }

  /** @param {number} share */
  pan(share) {
    this.glide(panned(this.target, share, this.#duration));
  }

  /** @param {number} now @returns {boolean} whether the glide is over */
  #step(now) {
    const glide = this.#glide;
    if (!glide) return true;
    glide.since ??= now - 8;
    const share = Math.min(1, (now - glide.since) / GLIDE_MS);
    const done = share === 1;
    if (done) this.#glide = null;
    this.#store.set({ window: done ? glide.to : between(glide.from, glide.to, 1 - (1 - share) ** 3) });
    return done;
  }
}
