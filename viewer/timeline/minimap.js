// @ts-check
/**
 * Draws the whole trace in a strip: how many threads are in each state, where the findings are, and the window.
 */

import { xAt } from '../scale.js';
import { drawLane } from './rows.js';

/** @typedef {import('../types').Schema} Schema */
/** @typedef {import('../types').Window} Window */
/** @typedef {import('../types').Finding} Finding */
/** @typedef {import('./paint.js').Paint} Paint */
/** @typedef {import('./renderer.js').Renderer} Renderer */
/** @typedef {import('./tiles.js').Tiles} Tiles */

/**
 * @param {Renderer} renderer @param {Tiles} tiles @param {Schema} schema @param {Paint} paint
 * @param {{width: number, height: number, ratio: number, duration: number}} port
 * @param {Window} window what the timeline shows @param {Finding[]} findings
 */
export function drawMinimap(renderer, tiles, schema, paint, port, window, findings) {
  const { width, height, ratio, duration } = port;
  const whole = { begin: 0, end: Math.max(duration, 1) };
  renderer.begin(width, height, ratio);
  const lane = { key: 'overview', look: schema.looks.steps, y: 6, height: height - 10 };
  drawLane(renderer, tiles, schema, paint, lane, { window: whole, width, height, top: 0, ratio, duration });
  for (const finding of findings) {
    const x = Math.round(xAt(whole, width, (finding.begin + finding.end) / 2));
    for (let row = 0; row < 5; row += 1) renderer.rect(paint.ink.accent, x - 4 + row, row, 9 - 2 * row, 1);
  }
  const [from, to] = [xAt(whole, width, window.begin), xAt(whole, width, window.end)];
  const right = Math.max(to, from + 3);
  const shade = paint.theme === 'light' ? 'rgba(255, 255, 255, 0.66)' : 'rgba(20, 22, 27, 0.66)';
  renderer.rect(shade, 0, 0, Math.max(0, from), height);
  renderer.rect(shade, right, 0, Math.max(0, width - right), height);
  renderer.rect(paint.ink.accent, from, 0, 2, height);
  renderer.rect(paint.ink.accent, right - 2, 0, 2, height);
  renderer.rect(paint.ink.accent, from, height - 2, right - from, 2);
}
