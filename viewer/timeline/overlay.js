// @ts-check
/**
 * Draws what lies over the rows: the cursor, the measured stretch, the outlines of hovered and selected slices, and the
 * arrows of the selection. Hovering redraws only this.
 */

import { xAt } from '../scale.js';
import { laneOf } from './layout.js';

/** @typedef {import('../types').Entry} Entry */
/** @typedef {import('../types').Arrow} Arrow */
/** @typedef {import('../types').Place} Place */
/** @typedef {import('../types').Window} Window */
/** @typedef {import('./paint.js').Paint} Paint */
/** @typedef {import('./renderer.js').Renderer} Renderer */
/** @typedef {import('./rows.js').Viewport} Viewport */
/** @typedef {{row: string, begin: number, end: number}} Outline */

/**
 * @param {Renderer} renderer @param {Paint} paint @param {Entry[]} entries all of them @param {Viewport} port
 * @param {{cursor: number | null, area: Window | null, hovered: Outline | null, selected: Outline | null, arrows: Arrow[]}} what
 */
export function drawOverlay(renderer, paint, entries, port, { cursor, area, hovered, selected, arrows }) {
  const { window, width, height, ratio } = port;
  renderer.begin(width, height, ratio);
  if (area) {
    const [from, to] = [xAt(window, width, area.begin), xAt(window, width, area.end)];
    renderer.rect(paint.ink.wash, from, 0, to - from, height);
    renderer.rect(paint.ink.accent, from, 0, 1, height);
    renderer.rect(paint.ink.accent, to - 1, 0, 1, height);
  }
  if (cursor !== null) renderer.rect(paint.ink.faint, Math.round(cursor), 0, 1, height);
  if (hovered) outline(renderer, paint.ink.text, 1, entries, port, hovered);
  if (selected) outline(renderer, paint.ink.accent, 2, entries, port, selected);
  for (const arrow of arrows) drawArrow(renderer.context, paint, entries, port, arrow);
}

/**
 * @param {Renderer} renderer @param {string} colour @param {number} thick
 * @param {Entry[]} entries @param {Viewport} port @param {Outline} slice
 */
function outline(renderer, colour, thick, entries, { window, width, top }, slice) {
  const found = laneOf(entries, slice.row);
  if (!found) return;
  const { lane } = found;
  const left = Math.max(xAt(window, width, slice.begin), -4);
  const right = Math.min(Math.max(xAt(window, width, slice.end), left + 2), width + 4);
  const y = lane.y - top;
  if (right < 0 || left > width) return;
  renderer.rect(colour, left - thick, y - thick, right - left + 2 * thick, thick);
  renderer.rect(colour, left - thick, y + lane.height, right - left + 2 * thick, thick);
  renderer.rect(colour, left - thick, y, thick, lane.height);
  renderer.rect(colour, right, y, thick, lane.height);
}

/**
 * Where a place shows: its first row that is laid out, without one nowhere.
 * @param {Entry[]} entries @param {Viewport} port @param {Place} place
 */
function point(entries, { window, width, top }, { at, rows }) {
  for (const row of rows) {
    const found = laneOf(entries, row);
    if (found) return { x: xAt(window, width, at), y: found.lane.y - top + found.lane.height / 2 };
  }
  return null;
}

/**
 * @param {CanvasRenderingContext2D} context @param {Paint} paint @param {Entry[]} entries @param {Viewport} port
 * @param {Arrow} arrow
 */
function drawArrow(context, paint, entries, port, arrow) {
  const [from, to] = [point(entries, port, arrow.from), point(entries, port, arrow.to)];
  if (!from || !to || Math.max(from.x, to.x) < -200 || Math.min(from.x, to.x) > port.width + 200) return;
  const bend = Math.max(18, Math.min(90, Math.abs(to.x - from.x) / 2));
  context.lineCap = 'round';
  for (const [colour, width] of /** @type {[string, number][]} */ ([[paint.ink.background, 4.5], [paint.ink.arrow, 1.75]])) {
    context.strokeStyle = colour;
    context.fillStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.bezierCurveTo(from.x + bend, from.y, to.x - bend, to.y, to.x - 5, to.y);
    context.stroke();
    context.beginPath();
    context.moveTo(to.x, to.y);
    context.lineTo(to.x - 8, to.y - 4.5);
    context.lineTo(to.x - 8, to.y + 4.5);
    context.closePath();
    if (colour === paint.ink.background) context.stroke();
    context.fill();
    context.beginPath();
    context.arc(from.x, from.y, colour === paint.ink.background ? 4.5 : 3, 0, 2 * Math.PI);
    context.fill();
  }
}
