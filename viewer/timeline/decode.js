// @ts-check
/**
 * Tiles from bytes: the layout that the head of `src/analysis/tiles.rs` describes. Pure.
 *
 * A tile keeps its runs as they came; `runs` walks over them, for the raster and for the labels alike.
 */

/** @typedef {import('../types').Tile} Tile */
/** @typedef {import('../types').Solid} Solid */
/** @typedef {import('../types').Schema} Schema */

const MAGIC = 'kyt1';

/** What a walk over a tile's runs tells. Columns count from the tile's first. */
/**
 * @typedef {object} Visitor
 * @property {(from: number, columns: number, cls: number, edges: number, name: number) => void} [solid]
 * @property {(at: number, shares: DataView, offset: number, k: number) => void} [mixed]
 * @property {(from: number, columns: number, counts: DataView, offset: number, k: number) => void} [counts]
 * @property {(from: number, columns: number, least: number, most: number, last: number) => void} [value]
 */

/**
 * @param {ArrayBuffer} buffer @param {Schema} schema
 * @returns {Tile[]} in the order asked for
 */
export function decode(buffer, schema) {
  const view = new DataView(buffer);
  const magic = new TextDecoder().decode(new Uint8Array(buffer, 0, 4));
  if (magic !== MAGIC) throw new Error(`tiles begin with ${magic}, not ${MAGIC}: reload the page`);
  const count = view.getUint16(4, true);
  /** @type {Tile[]} */
  const tiles = [];
  /** @type {string[]} */
  const names = [''];
  let at = 6;
  for (let n = 0; n < count; n += 1) {
    const length = view.getUint32(at, true);
    tiles.push(tile(new DataView(buffer, at + 4, length), schema, names));
    at += 4 + length;
  }
  readNames(view, at, names);
  return tiles;
}

/** @param {DataView} bytes @param {Schema} schema @param {string[]} names @returns {Tile} */
function tile(bytes, { looks }, names) {
  const look = bytes.getUint8(0);
  if (look === looks.steps) {
    return { look, bytes, offset: 5, most: bytes.getUint32(1, true), range: [0, 0], names };
  }
  if (look === looks.values) {
    const range = /** @type {[number, number]} */ ([bytes.getFloat64(1, true), bytes.getFloat64(9, true)]);
    return { look, bytes, offset: 17, most: 0, range, names };
  }
  return { look, bytes, offset: 1, most: 0, range: [0, 0], names };
}

/** @param {DataView} view @param {number} from @param {string[]} names */
function readNames(view, from, names) {
  const text = new TextDecoder();
  const count = view.getUint32(from, true);
  let at = from + 4;
  for (let n = 0; n < count; n += 1) {
    const length = view.getUint16(at, true);
    names.push(text.decode(new Uint8Array(view.buffer, at + 2, length)));
    at += 2 + length;
  }
}

/**
 * Walks over a tile's runs, in the order of its columns.
 * @param {Tile} tile @param {Schema['looks']} looks @param {Visitor} visit
 */
export function runs(tile, looks, visit) {
  if (tile.look === looks.steps) return stepRuns(tile, visit);
  if (tile.look === looks.values) return valueRuns(tile, visit);
  if (tile.look !== looks.missing) sliceRuns(tile, visit);
}

/** @param {Tile} tile @param {Visitor} visit */
function sliceRuns({ bytes, offset }, { solid, mixed }) {
  let column = 0;
  for (let at = offset; at < bytes.byteLength; ) {
    const op = bytes.getUint8(at);
    if (op === 2) {
      const k = bytes.getUint8(at + 1);
      mixed?.(column, bytes, at + 2, k);
      column += 1;
      at += 2 + 2 * k;
    } else {
      const columns = bytes.getUint16(at + 1, true);
      if (op === 1) {
        solid?.(column, columns, bytes.getUint8(at + 3), bytes.getUint8(at + 4), bytes.getUint32(at + 5, true));
      }
      column += columns;
      at += op === 1 ? 9 : 3;
    }
  }
}

/** @param {Tile} tile @param {Visitor} visit */
function stepRuns({ bytes, offset }, { counts }) {
  let column = 0;
  for (let at = offset; at < bytes.byteLength; ) {
    const columns = bytes.getUint16(at, true);
    const k = bytes.getUint8(at + 2);
    counts?.(column, columns, bytes, at + 3, k);
    column += columns;
    at += 3 + 3 * k;
  }
}

/** @param {Tile} tile @param {Visitor} visit */
function valueRuns({ bytes, offset }, { value }) {
  let column = 0;
  for (let at = offset; at < bytes.byteLength; ) {
    const columns = bytes.getUint16(at + 1, true);
    const full = bytes.getUint8(at) === 1;
    if (full) {
      const [least, most, last] = [3, 11, 19].map((field) => bytes.getFloat64(at + field, true));
      value?.(column, columns, least ?? 0, most ?? 0, last ?? 0);
    }
    column += columns;
    at += full ? 27 : 3;
  }
}

/**
 * The slices of a tile that are `least` columns wide or wider.
 * @param {Tile} tile @param {Schema['looks']} looks @param {number} least
 * @returns {Solid[]}
 */
export function solids(tile, looks, least) {
  /** @type {Solid[]} */
  const found = [];
  if (tile.look !== looks.states && tile.look !== looks.named) return found;
  runs(tile, looks, {
    solid: (from, columns, cls, edges, name) => {
      if (columns < least) return;
      const [begins, ends] = [(edges & 1) !== 0, (edges & 2) !== 0];
      found.push({ from, columns, class: cls, begins, ends, name: tile.names[name] ?? '' });
    },
  });
  return found;
}
