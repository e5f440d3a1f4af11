/** Which lines are one stack trace. Pure. */
import { plain } from "./ansi.js";

/** How many lines of the same dyno above and below a line are looked at, and how many characters of each. */
const FAR = 400;
const WIDE = 500;
/** Characters (JSON) of a line that is part of none. */
const LONG = 20_000;

/**
 * @typedef {object} Kind of trace
 * @property {RegExp} head its first line
 * @property {RegExp} [next] what its second line must be, where many a line may be the first one
 * @property {RegExp} [told] a first line whose message is the second one, whatever that says
 * @property {RegExp} on lines with which it goes on
 * @property {RegExp} [last] the line that ends it
 * @property {RegExp} [again] a sentence behind that which joins another one to it
 */

/** @type {Kind[]} */
const KINDS = [
  {
    // Python
    head: /^\s*(?:\+ Exception Group )?Traceback \(most recent call last\):/,
    on: /^\s+\S/,
    last: /^[\w.<>]+(?::|$)/,
    again: /^(?:During handling of the above|The above exception was)/,
  },
  {
    // Java, JavaScript, .NET, Ruby
    head: /^\S/,
    next: /^\s+(?:at|from)\s/,
    on: /^(?:\s+\S|Caused by: |\.\.\. \d+ more|\}$)/,
  },
  {
    // Go
    head: /^(?:panic: |fatal error: |.*\bhttp: panic serving )/,
    on: /^(?:$|\s+\S|goroutine \d+ \[|\[signal |created by |[\w.\-/()*[\]{}]+\(.*\)$)/,
  },
  {
    // Rust
    head: /^thread '.*panicked at /,
    told: /:$/,
    on: /^(?:\s+\S|stack backtrace:|note: )/,
  },
];

/**
 * @param {readonly import("./line.js").Line[]} lines @param {number} index
 * @returns {number[]} the indices of the lines that belong together, `index` among them; that alone where none do
 */
export function together(lines, index) {
  const above = strand(lines, index, -1).reverse();
  const all = [...above, index, ...strand(lines, index, 1)];
  const texts = all.map((at) => plain(lines[at].fields.message.slice(0, WIDE)));
  for (let begin = 0; begin <= above.length; begin++) {
    const end = endOf(texts, begin);
    if (end > above.length) return all.slice(begin, end);
    // What one trace has taken begins no other.
    begin = end - 1;
  }
  return [index];
}

/**
 * Lines of the same dyno and stream next to a line, the nearest first: others may have written between.
 * @param {readonly import("./line.js").Line[]} lines @param {number} index @param {1 | -1} way
 */
function strand(lines, index, way) {
  const { dyno, stream, source } = lines[index].fields;
  const found = [];
  for (let at = index + way; lines[at] && Math.abs(at - index) <= FAR && lines[at].raw.length <= LONG; at += way) {
    const { fields } = lines[at];
    if (fields.dyno === dyno && fields.stream === stream && fields.source === source) found.push(at);
  }
  return found;
}

/** @param {string[]} texts @param {number} begin @returns {number} behind the trace that begins there, or the line */
function endOf(texts, begin) {
  const starts = (/** @type {Kind} */ { head, next }) => head.test(texts[begin]) && (!next || next.test(texts[begin + 1] ?? ""));
  const kind = KINDS.find(starts);
  if (!kind) return begin + 1;
  let end = begin + (kind.told?.test(texts[begin]) ? 2 : 1);
  while (end < texts.length && kind.on.test(texts[end])) end += 1;
  if (kind.last?.test(texts[end] ?? "")) {
    end += 1;
    const joint = filled(texts, end);
    const other = filled(texts, joint + 1);
    if (kind.again?.test(texts[joint] ?? "") && kind.head.test(texts[other] ?? "")) return endOf(texts, other);
  }
  while (texts[end - 1] === "") end -= 1;
  return Math.min(end, texts.length);
}

/** The next line that isn't empty. @param {string[]} texts @param {number} at */
function filled(texts, at) {
  while (texts[at] === "") at += 1;
  return at;
}
