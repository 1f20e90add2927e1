// Asks Perfetto's own importer about a trace: the WebAssembly build of trace_processor, run by Node.
//
//     ENGINE=<folder with the engine> node trace_processor.mjs TRACE < QUERIES.json
//
// QUERIES.json is a list of SQL texts. Prints {"loadError", "results": [{"columns", "rows"} or {"error"}]} as JSON;
// numbers that JavaScript can't hold exactly are printed as text. Speaks the importer's protobuf protocol
// (TraceProcessorRpc): 1 appends bytes, 2 ends the trace, 3 asks a query.

import fs from 'node:fs';
import path from 'node:path';

const folder = process.env.ENGINE;
const [tracePath] = process.argv.slice(2);
const queries = JSON.parse(fs.readFileSync(0, 'utf8'));

// ---- protobuf, as much as the protocol needs ----

function putVarint(out, value) {
  let rest = BigInt.asUintN(64, BigInt(value));
  while (rest > 127n) {
    out.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  out.push(Number(rest));
}

function numberField(field, value) {
  const out = [];
  putVarint(out, field << 3);
  putVarint(out, value);
  return Buffer.from(out);
}

function bytesField(field, bytes) {
  const head = [];
  putVarint(head, (field << 3) | 2);
  putVarint(head, bytes.length);
  return Buffer.concat([Buffer.from(head), bytes]);
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }
  get done() {
    return this.at >= this.bytes.length;
  }
  varint() {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.bytes[this.at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  }
  take(length) {
    const bytes = this.bytes.subarray(this.at, this.at + length);
    this.at += length;
    return bytes;
  }
  // [field number, value]: a bigint for a varint, bytes for everything else.
  field() {
    const tag = Number(this.varint());
    switch (tag & 7) {
      case 0: return [tag >>> 3, this.varint()];
      case 1: return [tag >>> 3, this.take(8)];
      case 2: return [tag >>> 3, this.take(Number(this.varint()))];
      case 5: return [tag >>> 3, this.take(4)];
      default: throw new Error(`wire type ${tag & 7}`);
    }
  }
}

function* fields(bytes) {
  for (const reader = new Reader(bytes); !reader.done;) yield reader.field();
}

const text = (bytes) => Buffer.from(bytes).toString('utf8');

// ---- the engine: a script for a browser's worker, given what it looks for there ----

const file = (name) => fs.readFileSync(path.join(folder, path.basename(String(name))));
const arrayBuffer = (bytes) => bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);

class WorkerRequest {
  open(_method, url) {
    this.url = url;
  }
  send() {
    this.response = arrayBuffer(file(this.url));
    this.status = 200;
  }
}

const worker = { location: { href: 'http://localhost/', protocol: 'http:', host: 'localhost' } };
const fetchFile = async (url) => ({ ok: true, arrayBuffer: async () => arrayBuffer(file(url)) });
const silent = new Proxy({}, { get: () => () => {} });
const bundle = fs.readdirSync(folder).find((name) => /^engine_bundle.*\.js$/.test(name));
const names = ['self', 'process', 'location', 'WorkerGlobalScope', 'XMLHttpRequest', 'fetch', 'console'];
const script = fs.readFileSync(path.join(folder, bundle), 'utf8').replace(/^var engine/m, 'let engine');
const values = [worker, undefined, worker.location, function () {}, WorkerRequest, fetchFile, silent];
new Function(...names, script)(...values);

// ---- the protocol: requests and answers are length-delimited messages of one stream ----

let unread = Buffer.alloc(0);
let answers = [];
let arrived = () => {};

const port = {
  onmessage: null,
  postMessage(bytes) {
    unread = Buffer.concat([unread, Buffer.from(bytes)]);
    while (unread.length) {
      const reader = new Reader(unread);
      reader.varint();
      const length = Number(reader.varint());
      if (!(reader.at + length <= unread.length)) return;
      answers.push(reader.take(length));
      unread = unread.subarray(reader.at);
    }
    arrived();
  },
};
worker.onmessage({ data: port });
// The engine loads its module from memory, so all that it still has to do are microtasks: they run before this.
await new Promise(setImmediate);

let sent = 0;
async function ask(method, body = Buffer.alloc(0)) {
  answers = [];
  const message = Buffer.concat([numberField(1, sent++), numberField(2, method), body]);
  const answered = new Promise((resolve) => {
    arrived = resolve;
  });
  port.onmessage({ data: new Uint8Array(bytesField(1, message)) });
  if (!answers.length) await answered;
  for (const answer of answers) {
    for (const [field, value] of fields(answer)) if (field === 5) throw new Error(`the importer died: ${text(value)}`);
  }
  return answers;
}

async function* parts(method, body, part) {
  for (const answer of await ask(method, body)) {
    for (const [field, value] of fields(answer)) if (field === part) yield* fields(value);
  }
}

// A batch of cells: their types, then the values of each type in order.
function cells(batch) {
  const [numbers, floats, blobs] = [[], [], []];
  let types = [];
  let texts = [];
  for (const [field, value] of fields(batch)) {
    if (field === 1) types = value;
    if (field === 2) for (const reader = new Reader(value); !reader.done;) numbers.push(BigInt.asIntN(64, reader.varint()));
    if (field === 3) for (let at = 0; at < value.length; at += 8) floats.push(Buffer.from(value).readDoubleLE(at));
    if (field === 4) blobs.push(text(value));
    if (field === 5) texts = text(value).split('\0');
  }
  const next = [() => null, () => null, () => numbers.shift(), () => floats.shift(), () => texts.shift(), () => blobs.shift()];
  return Array.from(types, (type) => next[type]());
}

async function query(sql) {
  const columns = [];
  const values = [];
  for await (const [field, value] of parts(3, bytesField(103, bytesField(1, Buffer.from(sql))), 203)) {
    if (field === 1) columns.push(text(value));
    if (field === 2) return { error: text(value), sql };
    if (field === 3) values.push(...cells(value));
  }
  const rows = [];
  while (columns.length && values.length) rows.push(values.splice(0, columns.length));
  return { columns, rows };
}

const plain = (_key, value) => {
  if (typeof value !== 'bigint') return value;
  return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
};

async function main() {
  let loadError = null;
  const trace = fs.readFileSync(tracePath);
  for (let at = 0; at < trace.length; at += 16 << 20) {
    const body = bytesField(101, trace.subarray(at, at + (16 << 20)));
    for await (const [field, value] of parts(1, body, 201)) if (field === 2) loadError ??= text(value);
  }
  for await (const [field, value] of parts(2, undefined, 212)) if (field === 1 && value.length) loadError ??= text(value);
  const results = [];
  for (const sql of queries) results.push(await query(sql));
  fs.writeSync(1, JSON.stringify({ loadError, results }, plain));
}

await main();
process.exit(0);
