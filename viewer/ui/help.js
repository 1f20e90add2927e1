// @ts-check
/**
 * The help dialog: the keys from their own table, the mouse, and what the colours mean.
 */

import { h, swatch } from './dom.js';
import { label } from './keys.js';

/** @typedef {import('../types').Binding} Binding */
/** @typedef {import('../types').Schema} Schema */
/** @typedef {import('../timeline/paint.js').Paint} Paint */

/** What the mouse does, as `timeline/input.js` has it. */
const MOUSE = [
  ['drag', 'pan'],
  ['ctrl + wheel, pinch', 'zoom at the mouse'],
  ['shift + wheel', 'pan'],
  ['wheel', 'scroll the rows; over the axis: zoom'],
  ['alt + drag', 'zoom to what is spanned'],
  ['shift + drag', 'measure; then F zooms to it'],
  ['click', 'select: details, stack, arrows'],
  ['double click', 'fit what is selected'],
];

/** @param {HTMLDialogElement} dialog @param {Binding[]} bindings */
export function fillHelp(dialog, bindings) {
  const abouts = [...new Set(bindings.map((binding) => binding.about))];
  dialog.replaceChildren(
    h('header', {}, h('h2', {}, 'Keys and mouse'), h('button', { type: 'button', class: 'close', 'aria-label': 'close', onclick: () => dialog.close() }, '×')),
    h(
      'div',
      { class: 'columns' },
      ...abouts.map((about) =>
        h(
          'section',
          {},
          h('h3', {}, about),
          ...bindings.filter((binding) => binding.about === about).map(({ keys, does }) =>
            h('div', { class: 'binding' }, h('span', { class: 'keys' }, ...keys.map((key) => h('kbd', { 'data-key': key }, label(key)))), h('span', {}, does)),
          ),
        ),
      ),
      h(
        'section',
        {},
        h('h3', {}, 'Mouse'),
        ...MOUSE.map(([gesture, does]) => h('div', { class: 'binding' }, h('span', { class: 'keys' }, gesture), h('span', {}, does))),
      ),
    ),
  );
}

/**
 * The legend: every state that a row may show.
 * @param {HTMLElement} root @param {Schema} schema @param {Paint} paint
 */
export function fillLegend(root, schema, paint) {
  root.replaceChildren(
    ...schema.classes.filter((info) => info.used).map((info) => {
      const colour = paint.classes[info.class];
      return h('div', { class: 'state', title: info.meaning }, colour ? swatch(colour) : null, h('b', {}, info.label), h('span', { class: 'faint' }, info.meaning));
    }),
  );
}
