// @ts-check
/**
 * Draws the time axis: round instants and what lies between them, and the cursor's own.
 */

import { instant, tick } from '../format.js';
import { tickStep, ticks, timeAt, xAt } from '../scale.js';

/** @typedef {import('../types').Window} Window */
/** @typedef {import('./paint.js').Paint} Paint */
/** @typedef {import('./renderer.js').Renderer} Renderer */

const FONT = '11px system-ui, sans-serif';

/**
 * @param {Renderer} renderer @param {Paint} paint
 * @param {{window: Window, width: number, height: number, ratio: number}} port @param {number | null} cursor x
 */
export function drawAxis(renderer, paint, { window, width, height, ratio }, cursor) {
  renderer.begin(width, height, ratio);
  const step = tickStep(window, width, 110);
  for (const at of ticks(window, step / 5)) renderer.rect(paint.ink.line, Math.round(xAt(window, width, at)), height - 4, 1, 4);
  for (const at of ticks(window, step)) {
    const x = Math.round(xAt(window, width, at));
    renderer.rect(paint.ink.faint, x, height - 8, 1, 8);
    if (x + 70 < width) renderer.text(tick(at, step), paint.ink.faint, FONT, x + 5, height / 2 - 1, 100);
  }
  if (cursor === null) return;
  const text = instant(timeAt(window, width, cursor), (window.end - window.begin) / width);
  const room = text.length * 6.4 + 12;
  const x = Math.min(Math.max(cursor - room / 2, 0), width - room);
  renderer.rect(paint.ink.text, x, 2, room, height - 6);
  renderer.text(text, paint.ink.background, FONT, x + 6, height / 2 - 0.5, room);
}
