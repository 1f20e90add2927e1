// @ts-check
/**
 * The part of the state that an address holds, so that a reload or a colleague sees the same: trace, window, selection,
 * opened groups, and how far the rows are scrolled.
 */

/** @typedef {import('./types').Window} Window */
/** @typedef {import('./types').Selection} Selection */
/** @typedef {{trace: string | null, window: Window | null, selection: Selection | null, open: string[] | null, top: number}} Address */

/**
 * @param {Address} address
 * @returns {string} what stands behind the `#`
 */
export function written({ trace, window, selection, open, top }) {
  const parts = [];
  if (trace) parts.push(`t=${encodeURIComponent(trace)}`);
  if (window) parts.push(`w=${Math.round(window.begin)}-${Math.round(window.end)}`);
  if (selection) parts.push(`s=${encodeURIComponent(selection.row)}@${Math.round(selection.at)}`);
  if (open) parts.push(`o=${open.map(encodeURIComponent).join(',')}`);
  if (top > 0) parts.push(`y=${Math.round(top)}`);
  return parts.join('&');
}

/**
 * What an address says; what it says wrongly counts as not said.
 * @param {string} hash with or without its `#`
 * @returns {Address}
 */
export function read(hash) {
  /** @type {Map<string, string>} */
  const parts = new Map();
  for (const part of hash.replace(/^#/, '').split('&')) {
    const at = part.indexOf('=');
    if (at > 0) parts.set(part.slice(0, at), part.slice(at + 1));
  }
  const trace = parts.get('t');
  const window = /^(\d+)-(\d+)$/.exec(parts.get('w') ?? '');
  const selection = /^([^@]+)@(\d+)$/.exec(parts.get('s') ?? '');
  const open = parts.get('o');
  const [begin, end] = [Number(window?.[1]), Number(window?.[2])];
  return {
    trace: trace ? decoded(trace) : null,
    window: window && begin < end ? { begin, end } : null,
    selection: selection ? { row: decoded(selection[1] ?? ''), at: Number(selection[2]) } : null,
    top: Number(/^\d+$/.exec(parts.get('y') ?? '')?.[0] ?? 0),
    open: open === undefined ? null : open.split(',').filter(Boolean).map(decoded),
  };
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
