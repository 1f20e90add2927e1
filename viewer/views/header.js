// @ts-check
/**
 * The top line: which trace, how much is in it, what it lost; and whatever is wrong, said where it is seen.
 */

import { clock, count, counted, duration } from '../format.js';
import { h } from '../ui/dom.js';

/** @typedef {import('../types').State} State */
/** @typedef {import('../types').Summary} Summary */

/** @param {HTMLSelectElement} select @param {State} state */
export function fillTraces(select, { session, summary }) {
  const traces = session?.traces ?? [];
  select.hidden = traces.length === 0;
  select.replaceChildren(...traces.map(({ id, name }) => h('option', { value: id, selected: id === summary?.id }, name)));
}

/** @param {HTMLElement} root @param {Summary | null} summary */
export function fillCounts(root, summary) {
  if (!summary) return root.replaceChildren();
  root.replaceChildren(
    h('span', {}, `${count(summary.events)} events`),
    h('span', {}, duration(summary.duration_ns)),
    h('span', {}, counted(summary.threads, 'thread')),
    h('span', {}, counted(summary.tasks, 'task')),
  );
}

/** @param {HTMLButtonElement} button @param {Summary | null} summary */
export function fillLoss(button, summary) {
  const faults = summary ? summary.problems.length + (summary.lost > 0 ? 1 : 0) : 0;
  button.classList.toggle('warns', faults > 0);
  const lost = summary && summary.lost > 0 ? `${count(summary.lost)} lost` : 'nothing lost';
  const damaged = summary && summary.problems.length > 0 ? `, ${counted(summary.problems.length, 'problem')}` : '';
  button.textContent = summary ? `${faults > 0 ? '⚠ ' : ''}${lost}${damaged}` : '';
  button.hidden = !summary;
}

/** What the trace says of itself. @param {HTMLDialogElement} dialog @param {Summary | null} summary */
export function fillAbout(dialog, summary) {
  if (!summary) return;
  const rows = (/** @type {[string, string][]} */ pairs) => pairs.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]);
  const section = (/** @type {string} */ title, /** @type {Node[]} */ content) => h('section', {}, h('h3', {}, title), ...content);
  const losses = summary.losses.map((loss) => /** @type {[string, string]} */ ([loss.thread, `${count(loss.count)} (${loss.reason})`]));
  dialog.replaceChildren(
    h('header', {}, h('h2', {}, summary.name), h('button', { type: 'button', class: 'close', 'aria-label': 'close', onclick: () => dialog.close() }, '×')),
    section('Trace', [
      h('dl', {}, ...rows([
        ['program', `${summary.program} (pid ${summary.pid})`],
        ['recorded', clock(summary.start_realtime_ns)],
        ['by', summary.writer],
        ['complete', summary.complete ? 'yes' : 'no: the writer did not finish'],
        ...summary.notes,
      ])),
    ]),
    section('Lost events', [losses.length > 0 ? h('dl', {}, ...rows(losses)) : h('p', { class: 'none' }, 'none')]),
    section('Problems', [summary.problems.length > 0 ? h('ul', {}, ...summary.problems.map((text) => h('li', {}, text))) : h('p', { class: 'none' }, 'none')]),
    section('Sources', [h('dl', {}, ...rows(summary.sources))]),
    section('Events', [h('dl', { class: 'numbers' }, ...rows(Object.entries(summary.kinds).map(([kind, n]) => /** @type {[string, string]} */ ([kind, count(n)]))))]),
  );
}

/** @param {HTMLElement} root @param {State} state @param {() => void} close */
export function fillNotice(root, { error, busy }, close) {
  root.hidden = !error && !busy;
  root.className = error ? 'notice error' : 'notice';
  root.replaceChildren(h('span', {}, error ?? busy ?? ''), error ? h('button', { type: 'button', class: 'close', 'aria-label': 'close', onclick: close }, '×') : '');
}
