// @ts-check
/**
 * The timeline: minimap, axis, labels and rows put together, and what mouse and keys do with them.
 */

import * as api from '../api.js';
import { duration } from '../format.js';
import { clamped, timeAt, zoomed } from '../scale.js';
import { drawAxis } from '../timeline/axis.js';
import { Hover } from '../timeline/hover.js';
import { listen } from '../timeline/input.js';
import { Labels } from '../timeline/labels.js';
import { laneAt, laneOf, layout, visible } from '../timeline/layout.js';
import { drawMinimap } from '../timeline/minimap.js';
import { Navigator } from '../timeline/navigator.js';
import { drawOverlay } from '../timeline/overlay.js';
import { paint } from '../timeline/paint.js';
import { Renderer } from '../timeline/renderer.js';
import { drawRows } from '../timeline/rows.js';
import { Tiles } from '../timeline/tiles.js';
import { byId } from '../ui/dom.js';

/** @typedef {import('../types').Entry} Entry */
/** @typedef {import('../types').Schema} Schema */
/** @typedef {import('../state.js').Store} Store */
/** @typedef {import('../actions.js').Actions} Actions */
/** @typedef {import('../scheduler.js').Scheduler} Scheduler */

export class Timeline {
  /** @type {Entry[]} */
  #entries = [];
  #height = 0;
  #room = 0;
  #laid = { groups: /** @type {unknown} */ (null), pages: /** @type {unknown} */ (null), open: /** @type {unknown} */ (null) };
  /** The row to scroll to, or how far, until it is laid out. @type {string | number | null} */
  #scrollTo = null;
  /** Called when the rows are scrolled. */
  scrolled = () => {};

  /** @param {Store} store @param {Actions} actions @param {Scheduler} scheduler @param {Schema} schema */
  constructor(store, actions, scheduler, schema) {
    this.store = store;
    this.actions = actions;
    this.scheduler = scheduler;
    this.schema = schema;
    this.scroller = byId('rows', HTMLDivElement);
    this.spacer = byId('spacer', HTMLDivElement);
    this.canvas = byId('rows-canvas', HTMLCanvasElement);
    this.rows = new Renderer(this.canvas);
    this.overlayCanvas = byId('overlay', HTMLCanvasElement);
    this.overlay = new Renderer(this.overlayCanvas);
    this.axisCanvas = byId('axis', HTMLCanvasElement);
    this.axis = new Renderer(this.axisCanvas);
    this.minimapCanvas = byId('minimap', HTMLCanvasElement);
    this.minimap = new Renderer(this.minimapCanvas);
    this.labels = new Labels(byId('labels', HTMLDivElement), (entry) => this.#chosen(entry));
    this.hover = new Hover(byId('tooltip', HTMLDivElement), this.overlayCanvas, schema, (point) => this.#target(point), {
      trace: () => store.state.summary?.id ?? '',
      paint: () => this.paint,
      changed: () => scheduler.request('overlay'),
      failed: (error) => actions.fail(error),
    });
    this.navigator = new Navigator(store, scheduler);
    this.tiles = new Tiles(schema, () => scheduler.request('rows', 'minimap'), (error) => actions.fail(error));
    this.paint = paint(schema, store.state.theme);
    this.#connect();
  }

  /** Whether everything that the window wants is drawn. */
  get settled() {
    return api.pending() === 0 && this.tiles.complete && !this.scheduler.busy;
  }

  #connect() {
    const { store, actions, scheduler, navigator } = this;
    actions.moveTo = (window) => navigator.glide(window);
    actions.scrollTo = (row) => {
      this.#scrollTo = row;
      scheduler.request('rows');
    };
    scheduler.add('rows', () => this.#drawRows());
    scheduler.add('minimap', () => this.#drawMinimap());
    scheduler.add('overlay', () => this.#drawOverlay());
    let shown = '';
    store.on(['summary'], ({ summary }) => {
      if (summary && summary.id !== shown) this.tiles.reset((shown = summary.id));
    });
    store.on(['summary', 'window', 'open', 'pages', 'track', 'theme'], ({ theme }) => {
      if (this.paint.theme !== theme) this.paint = paint(this.schema, theme);
      this.hover.forget();
      scheduler.request('rows', 'minimap', 'overlay');
    });
    store.on(['details', 'flows', 'area'], () => scheduler.request('overlay'));
    // The drawer may have opened over it.
    store.on(['selection'], ({ selection }) => selection && actions.scrollTo(selection.row));
    this.scroller.addEventListener('scroll', () => {
      this.hover.forget();
      this.scrolled();
      scheduler.request('rows', 'overlay');
    });
    new ResizeObserver(() => scheduler.request('rows', 'minimap', 'overlay')).observe(this.scroller);
    this.#listenRows();
    this.#listenAxis();
    this.#listenMinimap();
  }

  #listenRows() {
    const { actions } = this;
    listen(
      this.overlayCanvas,
      {
        click: (x, y) => void this.#click(x, y),
        fit: () => actions.fit(),
        pan: (dx, dy) => {
          this.#panBy(dx);
          this.scroller.scrollTop -= dy;
        },
        zoom: (factor, x) => this.#zoomAt(factor, x),
        span: (from, to, kind, done) => this.#span(from, to, kind, done),
        hover: (point) => this.hover.move(point),
      },
      { wheelZooms: false },
    );
  }

  #listenAxis() {
    listen(
      this.axisCanvas,
      {
        click: () => this.store.set({ area: null }),
        fit: () => this.actions.whole(),
        pan: (dx) => this.#panBy(dx),
        zoom: (factor, x) => this.#zoomAt(factor, x),
        span: (from, to, kind, done) => this.#span(from, to, kind, done),
        hover: (point) => this.hover.move(point && { x: point.x, y: -1 }),
      },
      { wheelZooms: true },
    );
  }

  #listenMinimap() {
    const duration = () => this.store.state.summary?.duration_ns ?? 1;
    const whole = () => ({ begin: 0, end: Math.max(duration(), 1) });
    const centre = (/** @type {number} */ x) => {
      const { begin, end } = this.navigator.target;
      const at = timeAt(whole(), this.minimapCanvas.clientWidth, x);
      this.navigator.set({ begin: at - (end - begin) / 2, end: at + (end - begin) / 2 });
    };
    listen(
      this.minimapCanvas,
      {
        click: (x) => centre(x),
        fit: () => this.actions.whole(),
        pan: (dx) => {
          const { begin, end } = this.store.state.window;
          const by = (dx / this.minimapCanvas.clientWidth) * duration();
          this.navigator.set({ begin: begin + by, end: end + by });
        },
        zoom: (factor) => {
          const { begin, end } = this.navigator.target;
          this.navigator.set(zoomed({ begin, end }, factor, (begin + end) / 2, duration()));
        },
        span: (from, to, _kind, done) => {
          if (!done) return;
          const width = this.minimapCanvas.clientWidth;
          this.navigator.glide({ begin: timeAt(whole(), width, from), end: timeAt(whole(), width, to) });
        },
        hover: () => {},
      },
      { wheelZooms: true },
    );
  }

  get #width() {
    return Math.max(1, this.canvas.clientWidth);
  }

  get #port() {
    const { window, summary } = this.store.state;
    return {
      window,
      width: this.#width,
      height: this.scroller.clientHeight,
      top: this.scroller.scrollTop,
      ratio: devicePixelRatio,
      duration: summary?.duration_ns ?? 1,
    };
  }

  /** @param {number} dx */
  #panBy(dx) {
    const { begin, end } = this.navigator.target;
    const by = (-dx / this.#width) * (end - begin);
    this.navigator.set({ begin: begin + by, end: end + by });
  }

  /** @param {number} factor @param {number} x */
  #zoomAt(factor, x) {
    const { window, summary } = this.store.state;
    this.navigator.set(zoomed(window, factor, timeAt(window, this.#width, x), summary?.duration_ns ?? 1));
  }

  /** @param {number} from @param {number} to @param {'measure' | 'box'} kind @param {boolean} done */
  #span(from, to, kind, done) {
    const { window, summary } = this.store.state;
    const total = summary?.duration_ns ?? 1;
    const at = (/** @type {number} */ x) => Math.min(Math.max(timeAt(window, this.#width, x), 0), total);
    const area = { begin: at(from), end: at(to) };
    if (kind === 'box' && done) {
      this.store.set({ area: null });
      this.navigator.glide(clamped(area, total));
    } else this.store.set({ area });
  }

  #layout() {
    const { summary, pages, open } = this.store.state;
    const groups = summary?.groups ?? [];
    if (this.#laid.groups === groups && this.#laid.pages === pages && this.#laid.open === open) return;
    this.#laid = { groups, pages, open };
    const { entries, height } = layout(groups, pages, open, this.schema);
    this.#entries = entries;
    this.#height = height;
  }

  /** Room to scroll: what the viewport does not show, and a little air. */
  #makeRoom() {
    const room = Math.max(0, this.#height - this.scroller.clientHeight + 24);
    if (room === this.#room) return;
    this.#room = room;
    this.spacer.style.height = `${room}px`;
  }

  #drawRows() {
    if (!this.store.state.summary) return;
    this.#layout();
    this.#makeRoom();
    this.#scrollNow();
    const port = this.#port;
    const shown = visible(this.#entries, port.top, port.height);
    this.tiles.begin();
    drawRows(this.rows, this.tiles, this.schema, this.paint, shown, port);
    this.#drawMinimap();
    this.tiles.end();
    this.labels.draw(shown, port.top, this.store.state.track);
    this.#drawOverlay();
  }

  /** How far the rows are scrolled, CSS pixels. */
  get top() {
    return this.scroller.scrollTop;
  }

  /** Scrolls the rows. @param {number} top */
  scroll(top) {
    this.#scrollTo = top;
    this.scheduler.request('rows');
  }

  #scrollNow() {
    if (typeof this.#scrollTo === 'number') {
      this.scroller.scrollTop = this.#scrollTo;
      this.#scrollTo = null;
      return;
    }
    const found = this.#scrollTo && laneOf(this.#entries, this.#scrollTo);
    if (!found) return;
    this.#scrollTo = null;
    const { entry } = found;
    const { scrollTop, clientHeight } = this.scroller;
    if (entry.y < scrollTop || entry.y + entry.height > scrollTop + clientHeight) {
      this.scroller.scrollTop = Math.max(0, entry.y - clientHeight / 3);
    }
  }

  #drawMinimap() {
    const { summary, window } = this.store.state;
    if (!summary) return;
    const { clientWidth: width, clientHeight: height } = this.minimapCanvas;
    const port = { width, height, ratio: devicePixelRatio, duration: summary.duration_ns };
    drawMinimap(this.minimap, this.tiles, this.schema, this.paint, port, window, summary.findings);
  }

  #drawOverlay() {
    const { area, details, flows, selection } = this.store.state;
    const port = this.#port;
    const cursor = this.hover.point?.x ?? null;
    drawOverlay(this.overlay, this.paint, this.#entries, port, {
      cursor,
      area,
      hovered: this.hover.details,
      selected: selection && details,
      arrows: flows?.arrows ?? [],
    });
    drawAxis(this.axis, this.paint, { ...port, height: this.axisCanvas.clientHeight }, cursor);
  }

  /** @param {number} y */
  #laneAt(y) {
    return laneAt(this.#entries, y + this.scroller.scrollTop);
  }

  /** @param {number} x @param {number} y */
  async #click(x, y) {
    const { entry, lane } = this.#laneAt(y);
    if (!lane) {
      this.actions.deselect();
      if (entry) this.store.set({ track: entry.key });
      return;
    }
    const { at, dt } = this.#pixel(x);
    await this.actions.select({ row: lane.key, at }, { dt });
  }

  /** @param {{x: number, y: number}} point */
  #target({ x, y }) {
    const { lane } = this.#laneAt(y);
    return lane && { row: lane.key, ...this.#pixel(x) };
  }

  /** The stretch that a pixel stands for. @param {number} x */
  #pixel(x) {
    const { window } = this.store.state;
    const ns = (window.end - window.begin) / this.#width;
    return { at: Math.max(0, timeAt(window, this.#width, x) - ns / 2), dt: ns };
  }

  /** @param {Entry} entry */
  #chosen(entry) {
    if (entry.kind === 'more' && entry.opens) void this.actions.loadPage(entry.opens).catch((error) => this.actions.fail(error));
    else if (entry.opens) void this.actions.toggle(entry.opens);
    if (entry.kind === 'track') this.store.set({ track: entry.key });
  }

  /** Moves the keyboard's track. @param {1 | -1} by */
  moveTrack(by) {
    const tracks = this.#entries.filter((entry) => entry.kind === 'track');
    const at = tracks.findIndex((entry) => entry.key === this.store.state.track);
    const next = tracks[at < 0 ? (by > 0 ? 0 : tracks.length - 1) : Math.min(Math.max(at + by, 0), tracks.length - 1)];
    if (!next) return;
    this.actions.deselect();
    this.store.set({ track: next.key });
    this.#scrollTo = next.lanes[0]?.key ?? null;
    this.scheduler.request('rows');
  }

  /** Opens or closes what the keyboard's track sums up. */
  toggleTrack() {
    const entry = this.#entries.find((candidate) => candidate.key === this.store.state.track);
    if (entry?.opens) void this.actions.toggle(entry.opens);
  }

  /** The instant under the mouse; without a mouse none. */
  get mouseTime() {
    const { point } = this.hover;
    return point ? timeAt(this.navigator.target, this.#width, point.x) : null;
  }

  /** What the window is, in words. */
  get span() {
    const { window } = this.store.state;
    return duration(window.end - window.begin);
  }
}
