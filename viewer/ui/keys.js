// @ts-check
/**
 * The keys: one table, from which the listener and the help page both come, so that help cannot lie.
 */

/** @typedef {import('../types').Binding} Binding */

/**
 * The name of a key as the table has it: `w`, `ArrowLeft`, `Shift+F`.
 * @param {KeyboardEvent} event
 */
export function nameOf(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  // A sign that needs shift on some keyboards, like ?, is named by itself.
  const isLetter = /^[a-z]$/.test(key);
  return event.shiftKey && (isLetter || key.length > 1) ? `Shift+${key}` : key;
}

/**
 * Listens for the table's keys, unless somebody writes.
 * @param {Binding[]} bindings @param {() => boolean} enabled
 */
export function bind(bindings, enabled) {
  /** @type {Map<string, Binding>} */
  const table = new Map();
  for (const binding of bindings) {
    for (const key of binding.keys) {
      if (table.has(key)) throw new Error(`the key ${key} is bound twice`);
      table.set(key, binding);
    }
  }
  document.addEventListener('keydown', (event) => {
    const writes = event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement;
    if (writes || event.ctrlKey || event.metaKey || event.altKey || !enabled()) return;
    const presses = event.target instanceof HTMLButtonElement && (event.key === 'Enter' || event.key === ' ');
    const binding = table.get(nameOf(event));
    if (!binding || presses) return;
    event.preventDefault();
    binding.run(event);
  });
}

/** A key as it stands on keyboards. @param {string} key */
export function label(key) {
  /** @type {Record<string, string>} */
  const signs = { ArrowLeft: '←', ArrowRight: '→', ArrowUp: '↑', ArrowDown: '↓', Escape: 'Esc', Enter: '↵' };
  if (key.length === 1) return key.toUpperCase();
  return key.split('+').map((part) => signs[part] ?? (/^[a-z]$/.test(part) ? part.toUpperCase() : part)).join(' ');
}
