// @ts-check
/**
 * The drawer: everything about what is selected, and its stacks. A name in it leads to its row.
 */

import { count, counted, duration, instant } from '../format.js';
import { h, swatch } from '../ui/dom.js';

/** @typedef {import('../types').Details} Details */
/** @typedef {import('../types').Fact} Fact */
/** @typedef {import('../types').Frame} Frame */
/** @typedef {import('../types').Schema} Schema */
/** @typedef {import('../types').State} State */
/** @typedef {import('../timeline/paint.js').Paint} Paint */
/** @typedef {{goTo: (row: string, at: number) => void, fit: () => void, close: () => void}} Deeds */

/**
 * @param {HTMLElement} root @param {State} state @param {Schema} schema @param {Paint} paint @param {Deeds} deeds
 */
export function fillDrawer(root, { details, flows, area }, schema, paint, deeds) {
  root.hidden = !details && !area;
  if (!details) {
    if (area) root.replaceChildren(h('div', { class: 'facts' }, head(`measured ${duration(area.end - area.begin)}`, `from ${instant(area.begin, 1000)} to ${instant(area.end, 1000)}`, null, deeds)));
    return;
  }
  const colours = details.look === schema.looks.named ? paint.palette : paint.classes;
  const colour = details.class === undefined ? null : (colours[details.class] ?? null);
  root.replaceChildren(
    h(
      'div',
      { class: 'facts' },
      head(details.title, details.subtitle, colour, deeds),
      h('dl', {}, ...times(details), ...(details.counts ?? []).flatMap(({ class: cls, count: number }) => pair(schema.classes[cls]?.label ?? '', count(number))), ...details.facts.flatMap((fact) => factPair(fact, deeds)), ...arrows(flows)),
    ),
    h('div', { class: 'stacks' }, ...stacks(details)),
  );
}

/** @param {string} title @param {string} subtitle @param {{css: string, pattern: string} | null} colour @param {Deeds} deeds */
const head = (title, subtitle, colour, deeds) =>
  h(
    'header',
    {},
    colour ? swatch(colour) : null,
    h('div', {}, h('h2', {}, title), h('div', { class: 'faint' }, subtitle)),
    h('span', { class: 'spring' }),
    h('button', { type: 'button', onclick: deeds.fit, title: 'zoom to it (F)' }, 'fit'),
    h('button', { type: 'button', class: 'close', 'aria-label': 'close', onclick: deeds.close, title: 'close (Esc)' }, '×'),
  );

/** @param {Details} details */
function times({ begin, end, open }) {
  if (begin === end) return pair('at', instant(begin, 1));
  const lasts = open ? `${duration(end - begin)} (began before the capture or outlasted it)` : duration(end - begin);
  return [...pair('lasts', lasts), ...pair('begins', instant(begin, 1))];
}

/** @param {string} name @param {string | Node} value */
const pair = (name, value) => [h('dt', {}, name), h('dd', {}, value)];

/** @param {Fact} fact @param {Deeds} deeds */
function factPair({ name, text, ns, at, row }, { goTo }) {
  if (ns !== undefined) return pair(name, duration(ns));
  if (row === undefined || at === undefined) return pair(name, text ?? '');
  const link = h('button', { type: 'button', class: 'link', 'data-row': row, onclick: () => goTo(row, at) }, text ?? row);
  return pair(name, link);
}

/** @param {State['flows']} flows */
function arrows(flows) {
  if (!flows || flows.total === 0) return [];
  const drawn = flows.arrows.length;
  return pair('arrows', flows.total > drawn ? `${count(drawn)} drawn of ${count(flows.total)}` : count(flows.total));
}

/** @param {Details} details */
function stacks({ stacks: given, counts }) {
  if (given.length === 0) return counts ? [] : [h('p', { class: 'none' }, 'No stack: only what lasts carries one.')];
  return given.map(({ title, frames }) =>
    h(
      'section',
      {},
      h('h3', {}, title),
      ...frameList(frames),
    ),
  );
}

/** The program's own frames; those of what it is built on are tucked away. @param {Frame[]} frames */
function frameList(frames) {
  if (frames.length === 0) return [h('p', { class: 'none' }, 'its frames could not be named')];
  const own = frames.filter((frame) => !frame.machinery);
  const machinery = frames.filter((frame) => frame.machinery);
  if (own.length === 0 || machinery.length === 0) return [h('ol', {}, ...frames.map(frameRow))];
  return [
    h('ol', {}, ...own.map(frameRow)),
    h('details', {}, h('summary', {}, `${counted(machinery.length, 'frame')} below: what it is built on`), h('ol', {}, ...machinery.map(frameRow))),
  ];
}

/** @param {Frame} frame */
const frameRow = ({ function: name, file, line, inlined }) =>
  h(
    'li',
    { class: inlined ? 'inlined' : undefined, title: file ? `${file}:${line}` : undefined },
    h('span', { class: 'function' }, name),
    file ? h('span', { class: 'place' }, `${file.split('/').slice(-2).join('/')}:${line}`) : null,
    inlined ? h('span', { class: 'note' }, 'inlined') : null,
  );
