/** Which parts of a message match. Pure. */

/** A pattern is tried on so many characters. The service's RE2 takes linear time, a browser's patterns may not. */
const FAR = 1000;
/** A repeated group can take exponential time; a pattern with one is not highlighted. */
const REPEATED_GROUP = /\)[*+{]/;
const MOST = 100;

export class Marks {
  /** @type {RegExp[]} */
  #patterns = [];

  /** @param {import("./view.js").View} view */
  constructor(view) {
    const flags = view.case ? "gu" : "giu";
    const literals = [...view.grep, ...(view.q && !view.re ? [view.q] : [])];
    for (const text of literals) this.#patterns.push(new RegExp(text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), flags));
    for (const text of [...view.grep_re, ...(view.q && view.re ? [view.q] : [])]) {
      const pattern = compiled(text, flags);
      if (pattern) this.#patterns.push(pattern);
    }
  }

  get any() {
    return this.#patterns.length > 0;
  }

  /** @param {string} text @returns {[number, number][]} from and to, in order, none in another */
  ranges(text) {
    /** @type {[number, number][]} */
    const found = [];
    for (const pattern of this.#patterns) {
      for (const match of text.slice(0, 20 * FAR).matchAll(pattern)) {
        if (match[0]) found.push([match.index, match.index + match[0].length]);
        if (found.length > MOST) break;
      }
    }
    found.sort((one, other) => one[0] - other[0]);
    /** @type {[number, number][]} */
    const apart = [];
    for (const [from, to] of found) {
      const last = apart[apart.length - 1];
      if (last && from <= last[1]) last[1] = Math.max(last[1], to);
      else apart.push([from, to]);
    }
    return apart;
  }
}

/** @param {string} text RE2 @param {string} flags @returns {RegExp | null} the same for the browser, if it may be tried */
function compiled(text, flags) {
  if (REPEATED_GROUP.test(text)) return null;
  try {
    return bounded(new RegExp(text, flags));
  } catch {
    return null;
  }
}

/** Patterns see the begin of a long message only. @param {RegExp} pattern */
function bounded(pattern) {
  const all = pattern[Symbol.matchAll].bind(pattern);
  Object.defineProperty(pattern, Symbol.matchAll, { value: (/** @type {string} */ text) => all(text.slice(0, FAR)) });
  return pattern;
}

/** Whether a message matches the search of a view. @param {import("./view.js").View} view */
export function searcher(view) {
  const alone = Object.assign(Object.create(Object.getPrototypeOf(view)), view, { grep: [], grep_re: [] });
  const marks = new Marks(alone);
  return marks.any ? (/** @type {string} */ text) => marks.ranges(text).length > 0 : null;
}
