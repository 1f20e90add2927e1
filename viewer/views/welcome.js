// @ts-check
/**
 * What stands there before a trace does: how to get one.
 */

import { h } from '../ui/dom.js';

/** @typedef {import('../types').State} State */

/**
 * @param {HTMLElement} root @param {State} state @param {() => void} record
 */
export function fillWelcome(root, { session, summary }, record) {
  root.hidden = summary !== null || session === null;
  if (root.hidden) return;
  if (!session?.can_record) {
    root.replaceChildren(
      h('h1', {}, 'No trace is open'),
      h('p', {}, 'Drop a .kymo file on this page, or start kymo view with one.'),
    );
    return;
  }
  root.replaceChildren(
    h('h1', {}, 'Nothing recorded yet'),
    h('p', {}, 'Record this process for five seconds and see what its threads, tasks and locks did.'),
    h('button', { type: 'button', class: 'primary', onclick: record }, '● record 5 s'),
    h('p', { class: 'faint' }, 'Or drop a .kymo file on this page.'),
  );
}
