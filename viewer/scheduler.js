// @ts-check
/**
 * Frames: whatever changes asks for one, and each panel draws at most once in it. No input handler draws.
 */

export class Scheduler {
  /** @type {Map<string, () => void>} */
  #panels = new Map();
  /** @type {Set<string>} */
  #due = new Set();
  /** @type {((now: number) => boolean)[]} */
  #motions = [];
  #asked = false;

  /** @param {string} name @param {() => void} draw panels draw in the order in which they are added */
  add(name, draw) {
    this.#panels.set(name, draw);
  }

  /** Panels to draw in the next frame. @param {string[]} names */
  request(...names) {
    for (const name of names) this.#due.add(name);
    this.#ask();
  }

  /** Calls `step` before each frame until it says that it is done. @param {(now: number) => boolean} step */
  animate(step) {
    this.#motions.push(step);
    this.#ask();
  }

  /** Whether a frame is due. */
  get busy() {
    return this.#asked;
  }

  #ask() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame((now) => this.#run(now));
  }

  /** @param {number} now */
  #run(now) {
    this.#asked = false;
    this.#motions = this.#motions.filter((step) => !step(now));
    const due = this.#due;
    this.#due = new Set();
    for (const [name, draw] of this.#panels) if (due.has(name)) draw();
    if (this.#motions.length > 0) this.#ask();
  }
}
