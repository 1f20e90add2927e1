// @ts-check
/**
 * The server's answers: the only place of the page that asks for anything. Addresses are relative to the page.
 */

/** @typedef {import('./types').Selection} Selection */

export class ApiError extends Error {
  /** @param {string} message @param {number} status of the answer, 0 if there was none */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

let underway = 0;

/** How many questions wait for their answer. */
export const pending = () => underway;

/**
 * @template T
 * @param {string} path @param {RequestInit | undefined} init @param {(response: Response) => Promise<T>} read
 * @returns {Promise<T>}
 */
async function ask(path, init, read) {
  underway += 1;
  try {
    const response = await fetch(path, init);
    if (!response.ok) throw await refusal(response);
    return await read(response);
  } catch (error) {
    const is = error instanceof ApiError || (error instanceof DOMException && error.name === 'AbortError');
    throw is ? error : new ApiError('kymo does not answer: has the process ended?', 0);
  } finally {
    underway -= 1;
  }
}

/** Why there is no answer, as the server says it. @param {Response} response */
async function refusal(response) {
  const text = await response.text();
  let message = text;
  try {
    message = JSON.parse(text).error ?? text;
  } catch {
    // Not ours: its text is all there is to say.
  }
  return new ApiError(message || `${response.status} ${response.statusText}`, response.status);
}

/** @param {string} path @param {RequestInit} [init] */
const json = (path, init) => ask(path, init, (response) => response.json());

/** @param {Record<string, string | number>} pairs */
const query = (pairs) => new URLSearchParams(Object.entries(pairs).map(([key, value]) => [key, String(value)]));

/** @param {unknown} body @param {AbortSignal} [signal] @returns {RequestInit} */
const posted = (body, signal) => ({
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
  ...(signal ? { signal } : {}),
});

/** @returns {Promise<import('./types').Schema>} */
export const schema = () => json('schema.json');

/** @returns {Promise<import('./types').Session>} */
export const session = () => json('api/v1/session');

/** @param {number} seconds @returns {Promise<{id: string}>} */
export const record = (seconds) => json('api/v1/record', posted({ seconds }));

/** @param {File} file @returns {Promise<{id: string}>} */
export const open = (file) =>
  json(`api/v1/open?${query({ name: file.name })}`, { method: 'POST', headers: { 'x-kymo': '1' }, body: file });

/** @param {string} trace */
const at = (trace) => `api/v1/t/${encodeURIComponent(trace)}`;

/** @param {string} trace @returns {Promise<import('./types').Summary>} */
export const summary = (trace) => json(`${at(trace)}/summary`);

/** @param {string} trace @param {string} group @param {number} cursor @returns {Promise<import('./types').Page>} */
export const tracks = (trace, group, cursor) => json(`${at(trace)}/tracks?${query({ group, cursor })}`);

/**
 * The track of a row, and the groups that must be open for it to be seen.
 * @param {string} trace @param {string} row
 * @returns {Promise<{track: import('./types').Track, groups: string[]}>}
 */
export const trackOf = (trace, row) => json(`${at(trace)}/tracks?${query({ row })}`);

/**
 * @param {string} trace @param {number} z @param {[string, number][]} want @param {AbortSignal} signal
 * @returns {Promise<ArrayBuffer>}
 */
export const tiles = (trace, z, want, signal) =>
  ask(`${at(trace)}/tiles`, posted({ z, want }, signal), (response) => response.arrayBuffer());

/**
 * The slice at an instant, or the next or previous one; `null` if nothing is there.
 * @param {string} trace @param {Selection} place @param {{dt?: number, which?: 'next' | 'previous', signal?: AbortSignal}} [how]
 * @returns {Promise<import('./types').Details | null>}
 */
export function item(trace, { row, at: instant }, { dt, which, signal } = {}) {
  const asked = query({ row, at: Math.max(0, Math.round(instant)), ...(dt ? { dt: Math.round(dt) } : {}), ...(which ? { which } : {}) });
  return json(`${at(trace)}/item?${asked}`, signal ? { signal } : {});
}

/** @param {string} trace @param {Selection} place @returns {Promise<import('./types').Flows>} */
export const flows = (trace, { row, at: instant }) =>
  json(`${at(trace)}/flows?${query({ row, at: Math.max(0, Math.round(instant)) })}`);

/** @param {string} trace @param {string} q @returns {Promise<import('./types').Hits>} */
export const search = (trace, q) => json(`${at(trace)}/search?${query({ q })}`);
