// @ts-check
/**
 * Light or dark: the system's choice until somebody makes one, which this browser then remembers.
 */

/** @typedef {import('../types').Theme} Theme */

const KEY = 'kymo.theme';
const system = matchMedia('(prefers-color-scheme: dark)');

/** @returns {Theme | null} */
function chosen() {
  try {
    const theme = localStorage.getItem(KEY);
    return theme === 'light' || theme === 'dark' ? theme : null;
  } catch {
    return null;
  }
}

/** @returns {Theme} */
export const theme = () => chosen() ?? (system.matches ? 'dark' : 'light');

/** Makes the page look like it. @param {Theme} to */
export function apply(to) {
  document.documentElement.dataset['theme'] = to;
}

/** Remembers a choice. @param {Theme} to */
export function choose(to) {
  try {
    localStorage.setItem(KEY, to);
  } catch {
    // No storage here: the choice lasts as long as the page.
  }
}

/** Calls `tell` when the system changes and nobody has chosen. @param {(theme: Theme) => void} tell */
export function watch(tell) {
  system.addEventListener('change', () => {
    if (!chosen()) tell(theme());
  });
}
