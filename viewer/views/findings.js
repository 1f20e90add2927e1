// @ts-check
/**
 * What made the program wait most, on top of the page: each leads to where it shows best.
 */

import { counted, duration } from '../format.js';
import { h } from '../ui/dom.js';

/** @typedef {import('../types').Finding} Finding */
/** @typedef {import('../types').Summary} Summary */

/**
 * @param {HTMLElement} root @param {Summary | null} summary @param {(finding: Finding) => void} chosen
 */
export function fillFindings(root, summary, chosen) {
  const findings = summary?.findings ?? [];
  root.hidden = summary === null;
  if (findings.length === 0) {
    root.replaceChildren(h('p', { class: 'none' }, 'No lock made anybody wait in this trace.'));
    return;
  }
  const most = Math.max(...findings.map((finding) => finding.waited_ns), 1);
  root.replaceChildren(...findings.map((finding) => card(finding, most, chosen)));
}

/** @param {Finding} finding @param {number} most @param {(finding: Finding) => void} chosen */
function card(finding, most, chosen) {
  const { label, waited_ns: waited, waits, in_poll_ns: inPoll, waiter, holder } = finding;
  const bar = h('span', { class: 'bar', 'aria-hidden': 'true' });
  bar.style.setProperty('--share', String(waited / most));
  bar.style.setProperty('--hatched', String(inPoll / Math.max(waited, 1)));
  return h(
    'button',
    { type: 'button', class: 'finding', onclick: () => chosen(finding), title: inPoll > 0 ? `${duration(inPoll)} of it inside polls, which held up the worker too` : '' },
    h('span', { class: 'what' }, h('b', {}, label), h('span', { class: 'ns' }, duration(waited))),
    bar,
    h(
      'span',
      { class: 'who' },
      counted(waits, 'wait'),
      waiter ? h('span', {}, ' by ', h('i', {}, waiter)) : null,
      holder ? h('span', {}, ', held by ', h('i', { class: 'holder' }, holder)) : null,
    ),
  );
}
