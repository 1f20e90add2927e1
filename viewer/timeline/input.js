// @ts-check
/**
 * Mouse and wheel over the timeline: each gesture becomes one of the callbacks. Draws nothing.
 *
 * Drag pans, alt+drag zooms to what it spans, shift+drag measures; ctrl+wheel (and pinch) zooms, shift+wheel pans; over
 * the axis a plain wheel zooms as well.
 */

/**
 * @typedef {object} Gestures
 * @property {(x: number, y: number) => void} click
 * @property {() => void} fit a double click
 * @property {(dx: number, dy: number) => void} pan pixels
 * @property {(factor: number, x: number) => void} zoom
 * @property {(from: number, to: number, kind: 'measure' | 'box', done: boolean) => void} span pixels
 * @property {(point: {x: number, y: number} | null) => void} hover
 */

/** Pixels that a press may move and still be a click. */
const STILL = 4;

/** @param {WheelEvent} event @returns {number} pixels */
const wheelPixels = (event) => (event.deltaY || event.deltaX) * (event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1);

/** @param {number} pixels */
const wheelFactor = (pixels) => Math.exp(Math.max(-240, Math.min(240, pixels)) / 300);

/**
 * @param {HTMLElement} element @param {Gestures} gestures @param {{wheelZooms: boolean}} options
 */
export function listen(element, gestures, { wheelZooms }) {
  /** @type {{x: number, y: number, lastX: number, lastY: number, kind: 'press' | 'pan' | 'measure' | 'box', id: number} | null} */
  let press = null;
  const at = (/** @type {MouseEvent} */ event) => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  element.addEventListener('pointerdown', (event) => {
    if (event.button > 1) return;
    const { x, y } = at(event);
    press = { x, y, lastX: x, lastY: y, kind: 'press', id: event.pointerId };
    element.setPointerCapture(event.pointerId);
    if (event.button === 1) event.preventDefault();
  });
  element.addEventListener('pointermove', (event) => {
    const { x, y } = at(event);
    if (!press) return gestures.hover({ x, y });
    if (press.kind === 'press' && Math.hypot(x - press.x, y - press.y) > STILL) {
      press.kind = event.altKey ? 'box' : event.shiftKey ? 'measure' : 'pan';
      element.classList.toggle('panning', press.kind === 'pan');
    }
    if (press.kind === 'pan') gestures.pan(x - press.lastX, y - press.lastY);
    else if (press.kind !== 'press') gestures.span(Math.min(press.x, x), Math.max(press.x, x), press.kind, false);
    press.lastX = x;
    press.lastY = y;
  });
  const release = (/** @type {PointerEvent} */ event) => {
    if (!press) return;
    const { x, kind } = press;
    const end = at(event);
    press = null;
    element.classList.remove('panning');
    if (kind === 'press') gestures.click(end.x, end.y);
    else if (kind !== 'pan') gestures.span(Math.min(x, end.x), Math.max(x, end.x), kind, true);
  };
  element.addEventListener('pointerup', release);
  element.addEventListener('pointercancel', () => (press = null));
  element.addEventListener('pointerleave', () => gestures.hover(null));
  element.addEventListener('dblclick', () => gestures.fit());
  element.addEventListener(
    'wheel',
    (event) => {
      const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
      if (event.ctrlKey || event.metaKey || (wheelZooms && !sideways)) {
        event.preventDefault();
        gestures.zoom(wheelFactor(event.ctrlKey ? wheelPixels(event) * 2 : wheelPixels(event)), at(event).x);
      } else if (sideways) {
        event.preventDefault();
        gestures.pan(-(event.deltaX || wheelPixels(event)), 0);
      }
    },
    { passive: false },
  );
}
