// @ts-check
/**
 * The page, put together: state, actions, views and keys. Nothing is computed here.
 */

import { Actions } from './actions.js';
import * as api from './api.js';
import { Scheduler } from './scheduler.js';
import { Store } from './state.js';
import { paint } from './timeline/paint.js';
import { byId } from './ui/dom.js';
import { fillHelp, fillLegend } from './ui/help.js';
import { bind } from './ui/keys.js';
import { Search } from './ui/search.js';
import * as themes from './ui/theme.js';
import * as url from './url.js';
import { fillDrawer } from './views/drawer.js';
import { fillFindings } from './views/findings.js';
import { fillAbout, fillCounts, fillLoss, fillNotice, fillTraces } from './views/header.js';
import { Timeline } from './views/timeline.js';
import { fillWelcome } from './views/welcome.js';

/** @typedef {import('./types').Binding} Binding */

/** How long a recording from the page takes, s. */
const RECORD_SECONDS = 5;

const store = new Store();
const actions = new Actions(store);
const scheduler = new Scheduler();
const help = byId('help', HTMLDialogElement);
const about = byId('about', HTMLDialogElement);

store.set({ theme: themes.theme() });

/** @param {import('./types').Schema} schema */
function start(schema) {
  const timeline = new Timeline(store, actions, scheduler, schema);
  const search = new Search(byId('search', HTMLInputElement), byId('hits', HTMLDivElement), () => store.state.summary?.id ?? '', (hit) => void actions.goToHit(hit));
  const bindings = keys(timeline, search);
  bind(bindings, () => !help.open && !about.open);
  fillHelp(help, bindings);
  show(schema, timeline);
  buttons();
  const saysSo = followAddress(timeline);
  // For whoever drives the page: whether everything asked for has come, is drawn, and stands in the address.
  Object.defineProperty(document.documentElement, 'kymoSettled', { get: () => timeline.settled && saysSo() });
  return timeline;
}

/** @param {import('./types').Schema} schema @param {Timeline} timeline */
function show(schema, timeline) {
  const page = byId('page', HTMLDivElement);
  store.on(['theme'], ({ theme }) => {
    themes.apply(theme);
    fillLegend(byId('legend', HTMLDivElement), schema, paint(schema, theme));
  });
  store.on(['session', 'summary'], (state) => {
    page.classList.toggle('empty', state.summary === null);
    fillTraces(byId('traces', HTMLSelectElement), state);
    fillCounts(byId('counts', HTMLDivElement), state.summary);
    fillLoss(byId('loss', HTMLButtonElement), state.summary);
    fillAbout(about, state.summary);
    fillFindings(byId('findings', HTMLDivElement), state.summary, (finding) => void actions.goToFinding(finding));
    fillWelcome(byId('welcome', HTMLDivElement), state, () => void actions.record(RECORD_SECONDS));
    byId('record', HTMLButtonElement).hidden = !state.session?.can_record;
    document.title = state.summary ? `${state.summary.name} · kymo` : 'kymo';
  });
  store.on(['error', 'busy'], (state) => fillNotice(byId('notice', HTMLDivElement), state, () => store.set({ error: null })));
  store.on(['legend'], ({ legend }) => (byId('legend', HTMLDivElement).hidden = !legend));
  store.on(['details', 'flows', 'area', 'theme'], (state) => {
    fillDrawer(byId('drawer', HTMLElement), state, schema, paint(schema, state.theme), {
      goTo: (row, at) => void actions.goTo({ row, at }, null),
      fit: () => actions.fit(),
      close: () => actions.deselect(),
    });
    byId('live', HTMLDivElement).textContent = state.details ? `${state.details.title}, ${state.details.subtitle}` : '';
  });
  store.on(['window'], () => (byId('span', HTMLDivElement).textContent = timeline.span));
}

function buttons() {
  byId('traces', HTMLSelectElement).addEventListener('change', ({ target }) => {
    if (target instanceof HTMLSelectElement) void actions.loadTrace(target.value).catch((error) => actions.fail(error));
  });
  byId('record', HTMLButtonElement).addEventListener('click', () => void actions.record(RECORD_SECONDS));
  byId('loss', HTMLButtonElement).addEventListener('click', () => about.showModal());
  byId('legend-button', HTMLButtonElement).addEventListener('click', () => store.set({ legend: !store.state.legend }));
  byId('theme', HTMLButtonElement).addEventListener('click', toggleTheme);
  byId('help-button', HTMLButtonElement).addEventListener('click', () => help.showModal());
  for (const dialog of [help, about]) {
    dialog.addEventListener('click', ({ target }) => target === dialog && dialog.close());
  }
  themes.watch((theme) => store.set({ theme }));
  addEventListener('dragover', (event) => event.preventDefault());
  addEventListener('drop', (event) => {
    event.preventDefault();
    const file = event.dataTransfer?.files[0];
    if (file) void actions.openFile(file);
  });
}

function toggleTheme() {
  const theme = store.state.theme === 'light' ? 'dark' : 'light';
  themes.choose(theme);
  store.set({ theme });
}

/**
 * @param {Timeline} timeline @param {Search} search
 * @returns {Binding[]}
 */
function keys(timeline, search) {
  const { navigator } = timeline;
  const at = () => timeline.mouseTime;
  return [
    { keys: ['w', '+', '='], does: 'zoom in', about: 'Move', run: () => navigator.zoom(0.6, at()) },
    { keys: ['s', '-'], does: 'zoom out', about: 'Move', run: () => navigator.zoom(1 / 0.6, at()) },
    { keys: ['a', 'ArrowLeft'], does: 'pan left', about: 'Move', run: () => navigator.pan(-0.25) },
    { keys: ['d', 'ArrowRight'], does: 'pan right', about: 'Move', run: () => navigator.pan(0.25) },
    { keys: ['f'], does: 'fit what is selected or measured', about: 'Move', run: () => actions.fit() },
    { keys: ['0'], does: 'the whole trace', about: 'Move', run: () => actions.whole() },
    { keys: ['ArrowUp'], does: 'the track above', about: 'Select', run: () => timeline.moveTrack(-1) },
    { keys: ['ArrowDown'], does: 'the track below', about: 'Select', run: () => timeline.moveTrack(1) },
    { keys: ['.'], does: 'the next slice of the row', about: 'Select', run: () => void actions.step('next') },
    { keys: [','], does: 'the previous slice of the row', about: 'Select', run: () => void actions.step('previous') },
    { keys: ['Enter', 'c'], does: 'open or close the track', about: 'Select', run: () => timeline.toggleTrack() },
    { keys: ['Escape'], does: 'select nothing', about: 'Select', run: () => actions.deselect() },
    { keys: ['/'], does: 'search for a name', about: 'Page', run: () => search.focus() },
    { keys: ['l'], does: 'legend', about: 'Page', run: () => store.set({ legend: !store.state.legend }) },
    { keys: ['t'], does: 'light or dark', about: 'Page', run: toggleTheme },
    { keys: ['?'], does: 'this help', about: 'Page', run: () => help.showModal() },
  ];
}

/**
 * Keeps the address and the state in step.
 * @param {Timeline} timeline
 * @returns {() => boolean} whether the address says what is shown
 */
function followAddress(timeline) {
  let written = '';
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let resting;
  const current = () => {
    const { summary, selection, open } = store.state;
    if (!summary) return location.hash;
    const { target: window } = timeline.navigator;
    return `#${url.written({ trace: summary.id, window, selection, open: [...open], top: timeline.top })}`;
  };
  const write = () => {
    written = current();
    if (written !== location.hash) history.replaceState(null, '', written);
  };
  const rest = () => {
    clearTimeout(resting);
    resting = setTimeout(write, 80);
  };
  store.on(['summary', 'window', 'selection', 'open'], rest);
  timeline.scrolled = rest;
  addEventListener('hashchange', () => {
    if (location.hash !== written) void readAddress(timeline).catch((error) => actions.fail(error));
  });
  return () => current() === location.hash;
}

/** Shows what the address says, or the latest trace there is. @param {Timeline} timeline */
async function readAddress(timeline) {
  const address = url.read(location.hash);
  const traces = store.state.session?.traces ?? [];
  const wanted = traces.find(({ id }) => id === address.trace) ?? traces.at(-1);
  if (!wanted) return;
  await actions.loadTrace(wanted.id, address);
  if (address.trace && wanted.id !== address.trace) {
    store.set({ error: 'the trace of this address is not open any more: another one is shown' });
    return;
  }
  if (address.selection) {
    await actions.reveal(address.selection.row);
    await actions.select(address.selection);
  }
  if (address.top > 0) timeline.scroll(address.top);
}

/** Records what the index page's button asks for by `?record=5`; once, since a reload must not do it again. */
function recordIfAsked() {
  const seconds = Number(new URLSearchParams(location.search).get('record'));
  if (!(seconds > 0) || !store.state.session?.can_record) return;
  history.replaceState(null, '', location.pathname + location.hash);
  void actions.record(seconds);
}

try {
  const timeline = start(await api.schema());
  await actions.loadSession();
  await readAddress(timeline);
  recordIfAsked();
} catch (error) {
  actions.fail(error);
  fillNotice(byId('notice', HTMLDivElement), store.state, () => {});
}
