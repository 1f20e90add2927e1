// The modules of the page that know no page: scale, format, url, layout, palette.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const viewer = new URL('../../viewer/', import.meta.url);
const load = (name) => import(new URL(name, viewer));
const scale = await load('scale.js');
const format = await load('format.js');
const url = await load('url.js');
const { layout, visible, laneAt, laneOf } = await load('timeline/layout.js');
const { paint, channels, packed } = await load('timeline/paint.js');
const schema = JSON.parse(readFileSync(new URL('schema.json', viewer), 'utf8'));

test('a zoom keeps the instant under the mouse where it is', () => {
  const window = { begin: 1000, end: 9000 };
  const zoomed = scale.zoomed(window, 0.5, 3000, 1e6);
  assert.equal(scale.xAt(zoomed, 800, 3000), scale.xAt(window, 800, 3000));
  assert.equal(zoomed.end - zoomed.begin, 4000);
});

test('a window never leaves the trace and is never narrower than a tenth of a microsecond', () => {
  assert.deepEqual(scale.clamped({ begin: -50_000, end: 50_000 }, 200_000), { begin: 0, end: 100_000 });
  assert.deepEqual(scale.clamped({ begin: 150_000, end: 250_000 }, 200_000), { begin: 100_000, end: 200_000 });
  assert.deepEqual(scale.zoomed({ begin: 0, end: 1000 }, 50, 500, 2000), { begin: 0, end: 2000 });
  const narrow = scale.zoomed({ begin: 0, end: 1000 }, 1e-9, 500, 2000);
  assert.equal(narrow.end - narrow.begin, scale.NARROWEST_NS);
});

test('columns are a half to one device pixel wide', () => {
  for (let length = 200; length < 1e15; length *= 1.7) {
    const z = scale.level({ begin: 0, end: length }, 1234);
    const pixels = (2 ** z * 1234) / length;
    assert.ok(z === 0 || (pixels > 0.5 && pixels <= 1), `${length}: ${pixels}`);
  }
});

test('tiles cover the window and stop at the end of the trace', () => {
  assert.deepEqual(scale.tilesIn({ begin: 1500, end: 4000 }, 0, 1024, 1e9), { from: 1, to: 4 });
  assert.deepEqual(scale.tilesIn({ begin: 0, end: 1e9 }, 10, 1024, 2_000_000), { from: 0, to: 2 });
});

test('ticks are round and far enough apart', () => {
  for (let length = 100; length < 1e13; length *= 3.1) {
    const step = scale.tickStep({ begin: 0, end: length }, 1000, 100);
    assert.ok((step / length) * 1000 >= 100 || step === 1, `${length}: ${step}`);
    assert.match(String(step), /^[125]0*$/);
  }
  assert.deepEqual(scale.ticks({ begin: 95, end: 310 }, 100), [100, 200, 300]);
});

test('times have three figures and the right unit', () => {
  const rows = [[0, '0 ns'], [999, '999 ns'], [1000, '1.00 µs'], [48_200_000, '48.2 ms'], [999_600_000, '1.00 s'], [3.1e9, '3.10 s'], [1234e9, '1 234 s']];
  for (const [ns, text] of rows) assert.equal(format.duration(ns).replaceAll(/\s/g, ' '), text);
  assert.equal(format.instant(12_301_840_000, 1000).replaceAll(/\s/g, ' '), '12.301 840 s');
  assert.equal(format.counted(1, 'wait'), '1 wait');
  assert.equal(format.counted(62, 'wait'), '62 waits');
});

test('an address says what was written to it', () => {
  const address = { trace: 'ab 1/2', window: { begin: 5, end: 900719925474 }, selection: { row: 'polls.3.0', at: 77 }, open: ['threads', 'site.1'], top: 140 };
  assert.deepEqual(url.read(`#${url.written(address)}`), address);
});

test('what an address says wrongly counts as not said', () => {
  for (const hash of ['', '#', '#w=9-1', '#w=a-b', '#s=@', '#t=%', '#=&=&&']) {
    const { window, selection } = url.read(hash);
    assert.deepEqual({ window, selection }, { window: null, selection: null }, hash);
  }
});

const track = (key, lanes) => ({ key, label: key, note: '', lanes: lanes.map((lane) => ({ key: lane, look: 0 })), begin: 0, end: 1 });

test('rows stand one below the other, none over another', () => {
  const groups = [{ key: 'threads', label: 'Threads', total: 3 }, { key: 'locks', label: 'Locks', total: 1 }];
  const pages = new Map([['threads', { tracks: [track('a', ['a']), track('b', ['b', 'c'])], total: 3, cursor: 2 }]]);
  const { entries, height } = layout(groups, pages, new Set(['threads']), schema);
  assert.deepEqual(entries.map((entry) => entry.kind), ['group', 'track', 'track', 'more', 'group']);
  let y = 0;
  for (const entry of entries) {
    assert.equal(entry.y, y);
    for (const lane of entry.lanes) assert.ok(lane.y >= y && lane.y + lane.height <= y + entry.height);
    y += entry.height;
  }
  assert.equal(height, y);
  const c = laneOf(entries, 'c');
  assert.equal(laneAt(entries, c.lane.y + 2).lane.key, 'c');
  assert.deepEqual(visible(entries, c.entry.y, 1), [c.entry]);
});

test('a colour is what the canvas shows', () => {
  const light = paint(schema, 'light');
  const blocked = schema.classes.find((info) => info.word === 'blocked');
  assert.deepEqual(channels('#A01500'), [160, 21, 0]);
  assert.equal(light.classes[blocked.class].pixel, packed(160, 21, 0));
  assert.equal(schema.order.length, schema.classes.length);
  assert.equal(new Set(schema.order).size, schema.order.length);
});

// Two states must never look alike, whoever looks: CIEDE2000 between any two, as seen by four kinds of eyes.
const EYES = {
  normal: [1, 0, 0, 0, 1, 0, 0, 0, 1],
  protanopia: [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
  deuteranopia: [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881],
  tritanopia: [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.3039],
};

const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);

function lab(css, eyes) {
  const rgb = channels(css).map((c) => linear(c / 255));
  const [r, g, b] = [0, 3, 6].map((row) => Math.min(1, Math.max(0, eyes[row] * rgb[0] + eyes[row + 1] * rgb[1] + eyes[row + 2] * rgb[2])));
  const xyz = [(0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047, 0.2126 * r + 0.7152 * g + 0.0722 * b, (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883];
  const [x, y, z] = xyz.map((t) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116));
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

function difference([l1, a1, b1], [l2, a2, b2]) {
  const rad = Math.PI / 180;
  const c = (Math.hypot(a1, b1) + Math.hypot(a2, b2)) / 2;
  const g = 0.5 * (1 - Math.sqrt(c ** 7 / (c ** 7 + 25 ** 7)));
  const [p1, p2] = [a1 * (1 + g), a2 * (1 + g)];
  const [c1, c2] = [Math.hypot(p1, b1), Math.hypot(p2, b2)];
  const hue = (b, a) => (a === 0 && b === 0 ? 0 : (Math.atan2(b, a) / rad + 360) % 360);
  const [h1, h2] = [hue(b1, p1), hue(b2, p2)];
  let dh = c1 * c2 === 0 ? 0 : h2 - h1;
  if (dh > 180) dh -= 360;
  if (dh < -180) dh += 360;
  let h = h1 + h2;
  if (c1 * c2 !== 0) h = Math.abs(h1 - h2) <= 180 ? h / 2 : h < 360 ? (h + 360) / 2 : (h - 360) / 2;
  const [dl, dc, dH] = [l2 - l1, c2 - c1, 2 * Math.sqrt(c1 * c2) * Math.sin((dh / 2) * rad)];
  const [lm, cm] = [(l1 + l2) / 2, (c1 + c2) / 2];
  const t = 1 - 0.17 * Math.cos((h - 30) * rad) + 0.24 * Math.cos(2 * h * rad) + 0.32 * Math.cos((3 * h + 6) * rad) - 0.2 * Math.cos((4 * h - 63) * rad);
  const sl = 1 + (0.015 * (lm - 50) ** 2) / Math.sqrt(20 + (lm - 50) ** 2);
  const [sc, sh] = [1 + 0.045 * cm, 1 + 0.015 * cm * t];
  const rt = -2 * Math.sqrt(cm ** 7 / (cm ** 7 + 25 ** 7)) * Math.sin(60 * Math.exp(-(((h - 275) / 25) ** 2)) * rad);
  return Math.sqrt((dl / sl) ** 2 + (dc / sc) ** 2 + (dH / sh) ** 2 + rt * (dc / sc) * (dH / sh));
}

test('any two states differ by 18 at least, for every kind of eyes, in both themes', () => {
  // "unknown" is told by its dots, not by its colour.
  const states = schema.classes.filter((info) => info.class < schema.in_poll && info.pattern === 'solid');
  assert.equal(states.length, 7);
  let compared = 0;
  for (const theme of ['light', 'dark']) {
    for (const [kind, eyes] of Object.entries(EYES)) {
      for (const a of states) {
        for (const b of states) {
          if (a.class >= b.class) continue;
          const apart = difference(lab(a[theme], eyes), lab(b[theme], eyes));
          assert.ok(apart >= 18, `${a.word} and ${b.word} in ${theme} for ${kind}: ${apart.toFixed(1)}`);
          compared += 1;
        }
      }
    }
  }
  assert.equal(compared, 2 * 4 * 21);
});
