// @ts-check
/**
 * What stands where in the timeline: groups, tracks and their lanes as one list from top to bottom. Pure.
 */

/** @typedef {import('../types').Entry} Entry */
/** @typedef {import('../types').Track} Track */
/** @typedef {import('../types').Page} Page */
/** @typedef {import('../types').Group} Group */
/** @typedef {import('../types').Schema} Schema */

/** Heights, CSS pixels. */
const HEIGHT = { group: 30, more: 28, slices: 18, waiters: 12, area: 30, lane: 2, pad: 5 };

/**
 * @param {Group[]} groups @param {ReadonlyMap<string, Page>} pages @param {ReadonlySet<string>} open @param {Schema} schema
 * @returns {{entries: Entry[], height: number}}
 */
export function layout(groups, pages, open, schema) {
  /** @type {Entry[]} */
  const entries = [];
  let y = 0;
  /** @param {Omit<Entry, 'y'>} entry */
  const add = (entry) => {
    entries.push({ ...entry, y, lanes: entry.lanes.map((lane) => ({ ...lane, y: lane.y + y })) });
    y += entry.height;
  };
  /** @param {string} group @param {number} depth */
  const addTracks = (group, depth) => {
    const page = pages.get(group);
    for (const track of page?.tracks ?? []) {
      const isOpen = track.children !== undefined && open.has(track.children);
      add({ ...placed(track, schema), kind: 'track', depth, opens: track.children ?? null, isOpen });
      if (isOpen && track.children) addTracks(track.children, depth + 1);
    }
    if (page && page.cursor === undefined) return;
    const label = page ? `${page.total - page.tracks.length} more` : 'loading …';
    add({ kind: 'more', key: `more:${group}`, label, note: '', depth, height: HEIGHT.more, lanes: [], opens: group, isOpen: false });
  };
  for (const group of groups) {
    const isOpen = open.has(group.key);
    add({
      kind: 'group', key: `group:${group.key}`, label: group.label, note: String(group.total), depth: 0,
      height: HEIGHT.group, lanes: [], opens: group.key, isOpen,
    });
    if (isOpen) addTracks(group.key, 1);
  }
  return { entries, height: y };
}

/** @param {Track} track @param {Schema} schema */
function placed({ key, label, note, lanes }, { looks }) {
  let y = HEIGHT.pad;
  const laid = lanes.map((lane, index) => {
    const isArea = lane.look === looks.steps || lane.look === looks.values;
    const isWaiter = lane.key.startsWith('waiters.');
    const height = isArea ? HEIGHT.area : isWaiter ? HEIGHT.waiters : HEIGHT.slices;
    const at = y;
    y += height + (index < lanes.length - 1 ? HEIGHT.lane : 0);
    return { ...lane, y: at, height };
  });
  return { key, label, note, height: Math.max(y + HEIGHT.pad, HEIGHT.more), lanes: laid };
}

/**
 * The entries that a viewport shows.
 * @param {Entry[]} entries from top to bottom @param {number} top @param {number} height
 */
export function visible(entries, top, height) {
  let [low, high] = [0, entries.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const entry = entries[middle];
    if (entry && entry.y + entry.height <= top) low = middle + 1;
    else high = middle;
  }
  let end = low;
  while (end < entries.length && (entries[end]?.y ?? Infinity) < top + height) end += 1;
  return entries.slice(low, end);
}

/**
 * The lane under a point; the nearest one of its track if the point lies between lanes.
 * @param {Entry[]} entries @param {number} y
 */
export function laneAt(entries, y) {
  const entry = entries.find((candidate) => y >= candidate.y && y < candidate.y + candidate.height) ?? null;
  const lane = entry?.lanes.find((candidate) => y >= candidate.y - 1 && y < candidate.y + candidate.height + 1) ?? null;
  return { entry, lane };
}

/**
 * The lane that shows a row, if it is laid out.
 * @param {Entry[]} entries @param {string} row
 */
export function laneOf(entries, row) {
  for (const entry of entries) {
    const lane = entry.lanes.find((candidate) => candidate.key === row);
    if (lane) return { entry, lane };
  }
  return null;
}
