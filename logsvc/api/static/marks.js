/** Which parts of a message match. Pure. */
import { escaped, told } from "./fields.js";

/** A literal is looked for in so many characters. */
const FAR = 20_000;
/**
 * The service's RE2 takes linear time, a browser's patterns may not: with each part that repeats, one power more. So
 * a pattern is tried on so many characters, by how many such parts it has; one with more is not highlighted.
 */
const TRIED = [FAR, 2000, 300];
/** A repeated group can take exponential time, and so can many parts that may be absent. */
const REPEATED_GROUP = /\)[*+{]/;
const REPEATED = /(?<!\\)[*+{]/g;
const OPTIONAL = /(?<!\\)\?/g;
/** ms after which a pattern is given up all the same. */
const PATIENCE = 20;
const MOST = 100;

export class Marks {
  /** @type {{pattern: RegExp, far: number}[]} */
  #patterns = [];

  /** @param {import("./view.js").View} view */
  constructor(view) {
    const flags = view.case ? "gu" : "giu";
    const literals = [...view.grep, ...(view.q && !view.re ? [view.q] : [])];
    for (const text of literals) {
      this.#patterns.push({ pattern: new RegExp(escaped(text), flags), far: FAR });
    }
    for (const text of [...view.grep_re, ...(view.q && view.re ? [view.q] : [])]) {
      const field = told(text);
      const pattern = field ? { pattern: new RegExp(field.mark, flags), far: FAR } : compiled(text, flags);
      if (pattern) this.#patterns.push(pattern);
    }
  }

  get any() {
    return this.#patterns.length > 0;
  }

  /** Whether all of a text is looked at, so that what isn't found isn't there. @param {string} text */
  reach(text) {
    return this.#patterns.every(({ far }) => text.length <= far);
  }

  /** @param {string} text @returns {[number, number][]} from and to, in order, none in another */
  ranges(text) {
    /** @type {[number, number][]} */
    const found = [];
    for (const each of this.#patterns) {
      const begun = performance.now();
      for (const match of text.slice(0, each.far).matchAll(each.pattern)) {
        if (match[0]) found.push([match.index, match.index + match[0].length]);
        if (found.length > MOST) break;
      }
      if (performance.now() - begun > PATIENCE) each.far = 0;
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

/** @param {string} text RE2 @param {string} flags @returns {{pattern: RegExp, far: number} | null} if it may be tried */
function compiled(text, flags) {
  const far = TRIED[text.match(REPEATED)?.length ?? 0];
  if (!far || REPEATED_GROUP.test(text) || (text.match(OPTIONAL)?.length ?? 0) > 8) return null;
  try {
    return { pattern: new RegExp(text, flags), far };
  } catch {
    return null;
  }
}

/**
 * What tells whether a message matches the search of a view: undefined where only the service knows.
 * @param {import("./view.js").View} view @returns {((text: string) => boolean | undefined) | null} null: never known
 */
export function searcher(view) {
  const alone = Object.assign(Object.create(Object.getPrototypeOf(view)), view, { grep: [], grep_re: [] });
  const marks = new Marks(alone);
  return marks.any ? (text) => marks.ranges(text).length > 0 || (marks.reach(text) ? false : undefined) : null;
}
