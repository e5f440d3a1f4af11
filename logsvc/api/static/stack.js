/** Which lines are one stack trace. Pure. */

/** How far from a line its stack trace is looked for. */
const FAR = 400;

const GOES_ON =
  /^(?:\s+\S|Caused by:|Traceback \(most recent|During handling of|The above exception|\.\.\. \d+ more|goroutine \d+|[\w.$]+(?:Error|Exception|Warning)\b)/;

/**
 * @param {readonly import("./line.js").Line[]} lines @param {number} index
 * @returns {number[]} the indices of the lines that belong together, `index` among them; that alone where none do
 */
export function together(lines, index) {
  const { dyno, stream, source } = lines[index].fields;
  const same = (/** @type {number} */ at) => {
    const { fields } = lines[at];
    return fields.dyno === dyno && fields.stream === stream && fields.source === source;
  };
  const goesOn = (/** @type {number} */ at) => GOES_ON.test(lines[at].fields.message);
  const found = [index];
  // Up to the line that begins it, which is the first one that doesn't go on; other dynos may have written between.
  let open = goesOn(index);
  for (let at = index - 1; open && at >= Math.max(0, index - FAR); at--) {
    if (!same(at)) continue;
    found.unshift(at);
    open = goesOn(at);
  }
  for (let at = index + 1; at < Math.min(lines.length, index + FAR); at++) {
    if (!same(at)) continue;
    if (!goesOn(at)) break;
    found.push(at);
  }
  return found;
}
