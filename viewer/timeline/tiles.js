// @ts-check
/**
 * The tiles that are here, and those that are asked for.
 *
 * A frame says which tiles it wants; what is missing is asked for in one request when the frame is done, and the frame
 * draws the nearest coarser tile that is here meanwhile. One request runs at a time: what the next one asks for is what
 * the latest frame wanted, so that a fast zoom leaves no queue behind. Tiles looked at longest ago go first.
 */

import * as api from '../api.js';
import { decode } from './decode.js';
import { raster } from './raster.js';

/** @typedef {import('../types').Tile} Tile */
/** @typedef {import('../types').Schema} Schema */
/** @typedef {import('./paint.js').Paint} Paint */
/** @typedef {{tile: Tile, image: OffscreenCanvas | null, theme: string, height: number, used: number}} Kept */

/** Tiles kept. One of 16 px height is an image of 64 KiB. */
const MOST = 900;

/** Levels that a stand-in may be coarser. */
const COARSER = 14;

export class Tiles {
  /** @type {Map<string, Kept>} */
  #kept = new Map();
  /** @type {Map<string, {z: number, key: string, i: number}>} */
  #wanted = new Map();
  /** @type {AbortController | null} */
  #running = null;
  #frame = 0;
  #trace = '';
  #schema;
  #changed;
  #failed;

  /**
   * @param {Schema} schema @param {() => void} changed called when tiles have come
   * @param {(error: Error) => void} failed
   */
  constructor(schema, changed, failed) {
    this.#schema = schema;
    this.#changed = changed;
    this.#failed = failed;
  }

  /** Forgets everything: another trace is shown. @param {string} trace */
  reset(trace) {
    this.#running?.abort();
    this.#running = null;
    this.#kept.clear();
    this.#wanted.clear();
    this.#trace = trace;
  }

  /** Whether every tile that the latest frame wanted was here. */
  get complete() {
    return this.#wanted.size === 0 && !this.#running;
  }

  /** A frame begins: what the last one still wanted is forgotten. */
  begin() {
    this.#frame += 1;
    this.#wanted.clear();
  }

  /**
   * A tile, if it is here; otherwise it is wanted.
   * @param {string} key @param {number} z @param {number} i
   * @returns {Kept | null}
   */
  want(key, z, i) {
    const name = `${key}|${z}|${i}`;
    const kept = this.#kept.get(name);
    if (kept) {
      kept.used = this.#frame;
      return kept;
    }
    this.#wanted.set(name, { z, key, i });
    return null;
  }

  /**
   * The nearest coarser tile that is here, and the share of it that the wanted one is.
   * @param {string} key @param {number} z @param {number} i
   * @returns {{kept: Kept, from: number, share: number} | null}
   */
  standIn(key, z, i) {
    for (let up = 1; up <= COARSER; up += 1) {
      const kept = this.#kept.get(`${key}|${z + up}|${Math.floor(i / 2 ** up)}`);
      if (kept) {
        kept.used = this.#frame;
        const share = 1 / 2 ** up;
        return { kept, from: (i % 2 ** up) * share, share };
      }
    }
    return null;
  }

  /**
   * A tile as an image of a height in device pixels.
   * @param {Kept} kept @param {Paint} paint @param {number} height
   */
  image(kept, paint, height) {
    if (!kept.image || kept.theme !== paint.theme || kept.height !== height) {
      kept.image = raster(kept.tile, this.#schema, paint, height);
      kept.theme = paint.theme;
      kept.height = height;
    }
    return kept.image;
  }

  /** A frame is done: asks for what it missed. */
  end() {
    if (this.#running || this.#wanted.size === 0) return;
    const first = this.#wanted.values().next().value;
    if (!first) return;
    const batch = [...this.#wanted.values()].filter((want) => want.z === first.z).slice(0, this.#schema.limits.tiles);
    void this.#ask(first.z, batch);
  }

  /** @param {number} z @param {{key: string, i: number}[]} batch */
  async #ask(z, batch) {
    const running = new AbortController();
    this.#running = running;
    try {
      const buffer = await api.tiles(this.#trace, z, batch.map(({ key, i }) => [key, i]), running.signal);
      if (this.#running !== running) return;
      const tiles = decode(buffer, this.#schema);
      batch.forEach(({ key, i }, at) => {
        const tile = tiles[at];
        if (tile) this.#keep(`${key}|${z}|${i}`, tile);
      });
      this.#running = null;
      this.#changed();
    } catch (error) {
      if (this.#running !== running) return;
      // Not asked for again until something moves: a server that is gone is not hammered.
      this.#running = null;
      this.#wanted.clear();
      this.#failed(/** @type {Error} */ (error));
    }
  }

  /** @param {string} name @param {Tile} tile */
  #keep(name, tile) {
    this.#wanted.delete(name);
    this.#kept.set(name, { tile, image: null, theme: '', height: 0, used: this.#frame });
    if (this.#kept.size <= MOST) return;
    const oldest = [...this.#kept.entries()].sort(([, a], [, b]) => a.used - b.used).slice(0, MOST / 4);
    for (const [old] of oldest) this.#kept.delete(old);
  }
}
