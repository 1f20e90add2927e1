// The page in a real browser: rows, colours, keys, mouse, details, arrows, addresses.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';

const { KYMO_NODE_MODULES, KYMO_CHROMIUM, KYMO_PLANTED, KYMO_LIVE, KYMO_EMPTY } = process.env;
const { chromium } = createRequire(`${KYMO_NODE_MODULES}/`)('playwright-core');

const BLOCKED = { light: [160, 21, 0], dark: [227, 34, 39] };
const IDLE = { light: [222, 224, 229], dark: [69, 73, 80] };
const RUNNING = { light: [52, 116, 100], dark: [50, 183, 136] };

let browser;
before(async () => {
  const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  browser = await chromium.launch({ executablePath: KYMO_CHROMIUM, headless: true, args });
});
after(() => browser?.close());

/** Opens a page and notes everything that must not happen on it. */
async function open(address, { colorScheme = 'light', hash = '' } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme, reducedMotion: 'reduce' });
  const page = await context.newPage();
  const faults = [];
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  page.on('pageerror', (error) => faults.push(error.stack));
  page.on('request', (request) => new URL(request.url()).origin !== new URL(address).origin && !request.url().startsWith('data:') && faults.push(`asks ${request.url()}`));
  await page.goto(address + hash);
  await settled(page);
  return { page, faults, close: () => context.close() };
}

/** Everything that was asked for has come and is drawn. */
const settled = (page) => page.waitForFunction(() => document.documentElement.kymoSettled === true);

const key = async (page, ...names) => {
  for (const name of names) {
    await page.keyboard.press(name);
    await settled(page);
  }
};

/** The window and the selection, as the address has them. */
async function address(page, wanted = () => true) {
  await page.waitForFunction(() => location.hash.includes('w='));
  for (;;) {
    const hash = await page.evaluate(() => location.hash);
    const [, begin, end] = /w=(\d+)-(\d+)/.exec(hash);
    const selection = /s=([^&]+)/.exec(hash)?.[1];
    const found = { begin: Number(begin), end: Number(end), selection: selection && decodeURIComponent(selection) };
    if (wanted(found)) return found;
    await page.waitForFunction((before) => location.hash !== before, hash);
  }
}

/** How many pixels of a rectangle of a canvas have a colour. */
const pixels = (page, id, colour, box = null) =>
  page.evaluate(
    ([id, [r, g, b], box]) => {
      const canvas = document.getElementById(id);
      const { x, y, width, height } = box ?? { x: 0, y: 0, width: canvas.width, height: canvas.height };
      const { data } = canvas.getContext('2d').getImageData(x, y, width, height);
      let found = 0;
      for (let at = 0; at < data.length; at += 4) if (data[at] === r && data[at + 1] === g && data[at + 2] === b) found += 1;
      return found;
    },
    [id, colour, box],
  );

/** Where a track's label stands in the canvas' coordinates. */
async function trackBox(page, name) {
  const label = await page.locator('.label', { hasText: name }).first().boundingBox();
  const canvas = await page.locator('#overlay').boundingBox();
  return { x: canvas.x, y: label.y, width: canvas.width, height: label.height, canvas };
}

test('the page shows every group, loads from its origin only and has nothing to complain about', async () => {
  const { page, faults, close } = await open(KYMO_PLANTED);
  const groups = await page.locator('.label.group .name').allTextContents();
  assert.deepEqual(groups, ['Runtime main', 'Threads', 'Tasks by spawn site', 'Locks and channels', 'Spans', 'Counters'].slice(0, groups.length));
  assert.ok(groups.length >= 4);
  assert.equal(await page.locator('#counts').textContent().then((text) => text.includes('events')), true);
  assert.match(await page.locator('#loss').textContent(), /812 lost/);
  const answer = await page.request.get(KYMO_PLANTED);
  assert.match(answer.headers()['content-security-policy'], /default-src 'self'/);
  assert.deepEqual(faults, []);
  await close();
});

for (const colorScheme of ['light', 'dark']) {
  test(`states have their colours (${colorScheme})`, async () => {
    const { page, faults, close } = await open(KYMO_PLANTED, { colorScheme });
    const { y, height, canvas } = await trackBox(page, 'worker 0');
    const box = { x: 0, y: Math.round(y - canvas.y), width: Math.floor(canvas.width), height: Math.round(height) };
    for (const [state, colour] of Object.entries({ BLOCKED, IDLE, RUNNING })) {
      assert.ok((await pixels(page, 'rows-canvas', colour[colorScheme], box)) > 50, `${state} is not to be seen`);
    }
    assert.ok((await pixels(page, 'minimap', BLOCKED[colorScheme])) > 50, 'the minimap shows the blocked workers');
    const other = colorScheme === 'light' ? 'dark' : 'light';
    assert.equal(await pixels(page, 'rows-canvas', BLOCKED[other], box), 0);
    await key(page, 't');
    assert.ok((await pixels(page, 'rows-canvas', BLOCKED[other], box)) > 50, 'the other theme has the other colour');
    assert.deepEqual(faults, []);
    await close();
  });
}

test('the first finding names the planted lock and leads to who waits for it', async () => {
  const { page, faults, close } = await open(KYMO_PLANTED);
  const finding = page.locator('.finding').first();
  assert.match(await finding.textContent(), /mutex in Catalogue::lock.*held by pool::reaper_serialises_json/);
  await finding.click();
  await settled(page);
  await page.locator('#drawer h2', { hasText: 'waits for the mutex in Catalogue::lock' }).waitFor();
  const { begin, end, selection } = await address(page, ({ selection }) => selection?.startsWith('waiters.'));
  assert.ok(end - begin < 200e6, 'the window fits the wait');
  const frames = await page.locator('.stacks .function').allTextContents();
  assert.ok(frames.includes('shop::routes::sendjson') && frames.includes('shop::pool::reaper_serialises_json'), frames.join());
  assert.ok(selection);
  const { y, height, canvas } = await trackBox(page, 'mutex in Catalogue::lock');
  const box = { x: Math.floor(canvas.width * 0.35), y: Math.round(y - canvas.y), width: Math.floor(canvas.width * 0.3), height: Math.round(height) };
  assert.ok((await pixels(page, 'rows-canvas', BLOCKED.light, box)) > 1000, 'the wait is red');
  assert.ok((await pixels(page, 'overlay', [47, 95, 208])) > 50, 'it is outlined');
  assert.deepEqual(faults, []);
  await close();
});

test('a name that is searched for is found and shown', async () => {
  const { page, faults, close } = await open(KYMO_PLANTED);
  await page.keyboard.press('/');
  await page.keyboard.type('reaper_ser');
  await page.locator('.hit').first().waitFor();
  assert.deepEqual(await page.locator('.hit .kind').allTextContents(), ['lock', 'task']);
  await page.keyboard.press('Enter');
  await settled(page);
  await address(page, ({ selection }) => selection?.startsWith('lock.'));
  assert.match(await page.locator('.label.current').textContent(), /Catalogue::lock/);
  assert.deepEqual(faults, []);
  await close();
});

test('keys go to a poll, fit it, and show where it was woken', async () => {
  const { page, faults, close } = await open(KYMO_PLANTED);
  await key(page, 'ArrowDown', '.');
  await page.locator('#drawer h2', { hasText: 'poll of' }).waitFor();
  const first = await address(page, ({ selection }) => selection?.startsWith('polls.0.0@'));
  await key(page, '.');
  const second = await address(page, ({ selection }) => selection !== first.selection);
  await key(page, ',');
  await address(page, ({ selection }) => selection === first.selection);
  assert.notEqual(second.selection, first.selection);
  await key(page, '.', '.', 'f');
  const fitted = await address(page, ({ begin, end }) => end - begin < 5e6);
  const before = fitted.end - fitted.begin;
  await key(page, 'w');
  const zoomed = await address(page, ({ begin, end }) => end - begin < before);
  assert.ok(Math.abs((zoomed.end - zoomed.begin) / before - 0.6) < 0.01);
  await key(page, 's', '0');
  assert.deepEqual(await address(page, ({ begin }) => begin === 0).then(({ begin, end }) => [begin, end]), [0, 2e9]);
  assert.deepEqual(faults, []);
  await close();
});

test('a poll that is clicked shows its stack, and the mouse tells what lies under it', async () => {
  const { page, faults, close } = await open(KYMO_PLANTED, { hash: '#t=planted&w=400000000-460000000' });
  const { canvas, y } = await trackBox(page, 'worker 2');
  const middle = { x: canvas.x + canvas.width * 0.6, y: y + 14 };
  await page.mouse.move(middle.x, middle.y);
  await page.locator('#tooltip', { hasText: 'poll of sendjson' }).waitFor();
  await page.mouse.click(middle.x, middle.y);
  await page.locator('#drawer h2', { hasText: 'poll of sendjson' }).waitFor();
  await page.locator('.stacks .function', { hasText: 'shop::db::on_readable' }).waitFor();
  await address(page, ({ selection }) => selection?.startsWith('polls.2.0@'));
  await settled(page);
  assert.ok((await pixels(page, 'overlay', [31, 71, 173])) > 20, 'an arrow leads to it');
  // The wait inside it is a click further down.
  await page.mouse.click(middle.x, middle.y + 20);
  await page.locator('#drawer h2', { hasText: 'waits for the mutex' }).waitFor();
  await page.locator('#drawer .link', { hasText: 'reaper_serialises_json' }).first().click();
  await page.locator('#drawer h2', { hasText: 'poll of reaper_serialises_json' }).waitFor();
  assert.deepEqual(faults, []);
  await close();
});

test('wheel and drag zoom, pan and measure', async () => {
  const { page, faults, close } = await open(KYMO_PLANTED, { hash: '#t=planted&w=400000000-800000000' });
  const canvas = await page.locator('#overlay').boundingBox();
  const [x, y] = [canvas.x + canvas.width / 4, canvas.y + 100];
  await page.mouse.move(x, y);
  await page.keyboard.down('Control');
  await page.mouse.wheel(0, -100);
  await page.keyboard.up('Control');
  const zoomed = await address(page, ({ begin, end }) => end - begin < 390e6);
  assert.ok(Math.abs((500e6 - zoomed.begin) / (zoomed.end - zoomed.begin) - 0.25) < 0.01, 'the instant under the mouse stays');
  await page.mouse.down();
  await page.mouse.move(x + 200, y, { steps: 4 });
  await page.mouse.up();
  await settled(page);
  const panned = await address(page);
  const expected = zoomed.begin - (200 / canvas.width) * (zoomed.end - zoomed.begin);
  assert.ok(Math.abs(panned.begin - expected) < 0.01 * (zoomed.end - zoomed.begin));
  assert.equal(panned.selection, undefined, 'a drag is no click');
  await page.keyboard.down('Shift');
  await page.mouse.move(x, y);
  await page.mouse.down();
  await page.mouse.move(x + 100, y, { steps: 4 });
  await page.mouse.up();
  await page.keyboard.up('Shift');
  await page.locator('#drawer h2', { hasText: 'measured' }).waitFor();
  assert.deepEqual(faults, []);
  await close();
});

test('a reload shows the same window and selection, and the same pixels', async () => {
  const { page, faults, close } = await open(KYMO_PLANTED);
  await page.locator('.finding').first().click();
  await settled(page);
  const before = await address(page, ({ selection }) => selection !== undefined);
  await page.mouse.move(5, 5);
  await settled(page);
  const picture = await page.locator('#rows-canvas').evaluate((canvas) => canvas.toDataURL());
  await page.reload();
  await page.locator('#drawer h2').waitFor();
  await settled(page);
  assert.deepEqual(await address(page), before);
  assert.equal(await page.locator('#rows-canvas').evaluate((canvas) => canvas.toDataURL()) === picture, true);
  assert.deepEqual(faults, []);
  await close();
});

test('the help lists exactly the keys that are bound', async () => {
  const { page, faults, close } = await open(KYMO_PLANTED);
  // Any key that a keyboard can send: the bound ones are those that the page takes for itself.
  const bound = await page.evaluate(() => {
    const names = [...Array.from({ length: 95 }, (_, n) => String.fromCharCode(32 + n)), 'ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown', 'Enter', 'Escape', 'Tab', 'Home', 'End', 'PageUp', 'PageDown', 'Delete', 'Backspace', 'F1', 'F5'];
    return names.filter((name) => {
      if (/^[A-Z]$/.test(name)) return false;
      const event = new KeyboardEvent('keydown', { key: name, bubbles: true, cancelable: true });
      document.body.dispatchEvent(event);
      document.querySelectorAll('dialog').forEach((dialog) => dialog.close());
      document.activeElement?.blur?.();
      return event.defaultPrevented;
    });
  });
  await key(page, '?');
  const listed = await page.locator('#help kbd').evaluateAll((keys) => keys.map((key) => key.dataset.key));
  assert.deepEqual(listed.toSorted(), bound.toSorted());
  assert.ok(listed.length >= 18);
  assert.equal(await page.locator('#help').isVisible(), true);
  await page.keyboard.press('Escape');
  assert.equal(await page.locator('#help').isVisible(), false);
  assert.deepEqual(faults, []);
  await close();
});

test('a spawn site opens to its tasks, and labels stay as few as the viewport shows', async () => {
  const { page, faults, close } = await open(KYMO_PLANTED);
  await page.locator('.label', { hasText: 'sendjson · shop.rs:41' }).click();
  await settled(page);
  const labels = await page.locator('.label').allTextContents();
  assert.ok(labels.filter((label) => label.startsWith('sendjson') && !label.includes('shop.rs')).length > 3);
  assert.ok(labels.length < 60);
  await page.locator('#rows').evaluate((rows) => (rows.scrollTop = rows.scrollHeight));
  await settled(page);
  await page.locator('.label', { hasText: 'queue depth' }).waitFor();
  assert.deepEqual(faults, []);
  await close();
});

test('without a trace the page says how to get one', async () => {
  const { page, faults, close } = await open(KYMO_EMPTY);
  await page.locator('h1', { hasText: 'No trace is open' }).waitFor();
  assert.equal(await page.locator('#timeline').isVisible(), false);
  assert.deepEqual(faults, []);
  await close();
});

test('a recording from the page is shown when it is there', async () => {
  const { page, faults, close } = await open(KYMO_PLANTED);
  await page.locator('#record').click();
  await page.locator('#traces option:checked', { hasText: 'recorded 5 s' }).waitFor({ state: 'attached' });
  await page.locator('.finding', { hasText: 'live_reaper_holds' }).waitFor();
  assert.deepEqual(faults, []);
  await close();
});

test('the address of the index page\'s button records once', async () => {
  const { page, faults, close } = await open(KYMO_PLANTED);
  const asked = [];
  page.on('request', (request) => request.url().endsWith('/record') && asked.push(request.postDataJSON()));
  const recorded = page.waitForResponse((response) => response.url().endsWith('/record'));
  await page.goto(`${KYMO_PLANTED}?record=2`);
  await recorded;
  await page.locator('#traces option:checked', { hasText: 'recorded' }).waitFor({ state: 'attached' });
  assert.equal(new URL(page.url()).search, '');
  await page.reload();
  await settled(page);
  assert.deepEqual(asked, [{ seconds: 2 }]);
  assert.deepEqual(faults, []);
  await close();
});

test('a program that was really recorded shows its lock, its polls and their stacks', async () => {
  const { page, faults, close } = await open(KYMO_LIVE);
  const finding = page.locator('.finding').first();
  assert.match(await finding.textContent(), /mutex in .*live_serve_needs.*held by .*live_reaper_holds/);
  await finding.click();
  await page.locator('#drawer h2', { hasText: 'waits for the mutex' }).waitFor();
  await page.locator('.stacks .function', { hasText: 'live_serve_needs' }).first().waitFor();
  await page.locator('#drawer .link', { hasText: 'serve' }).first().waitFor();
  await settled(page);
  assert.ok((await pixels(page, 'rows-canvas', BLOCKED.light)) > 500);
  assert.deepEqual(faults, []);
  await close();
});
