/**
 * The fields of a message: of a JSON object, or of logfmt. Each knows the pattern (RE2) of the messages that have it,
 * which ends where the value does: `status=20` isn't in `status=200`, nor `id=1` in `user_id=1`. Pure.
 *
 * @typedef {{name: string, value: string, pattern: string}} Field
 */

const MOST = 200;
const STRING = /"(?:[^"\\]|\\.)*"/y;
const SPACE = /\s*/y;
const SCALAR = /[^\s,{}[\]"]+/y;
// Pairs stand apart, which also keeps this linear: what is long has one place only at which a pair can begin.
const PAIR = /(?<!\S)([A-Za-z_][\w.@-]*)=("(?:[^"\\]|\\.)*"|[^\s"]*)(?=\s|$)/g;

/** What stands in front of a field and behind it, and between its name and its value. */
const LOGFMT = { begin: "(?:^|\\s)", end: "(?:\\s|$)", colon: "" };
const JSONS = { begin: "[{,]\\s*", end: "\\s*[,}]", colon: "\\s*:\\s*" };
/** Characters of a value that a pattern has: the service takes 1000 of a pattern. */
const LONGEST = 400;

/** @param {string} message @returns {Field[]} none where it has no fields */
export function fields(message) {
  const begin = message.search(/\S/);
  if (begin >= 0 && message[begin] === "{") {
    const found = object(message, begin);
    if (found) return found;
  }
  return logfmt(message);
}

/** @param {string} message @returns {Field[]} */
function logfmt(message) {
  /** @type {Field[]} */
  const found = [];
  for (const [text, name, value] of message.matchAll(PAIR)) {
    found.push({ name, value: value.startsWith('"') ? unquoted(value) : value, pattern: within(LOGFMT, text) });
    if (found.length === MOST) break;
  }
  // One equals sign is any text's; two pairs are somebody's format.
  return found.length > 1 ? found : [];
}

/** @param {string} text */
function unquoted(text) {
  try {
    return String(JSON.parse(text));
  } catch {
    return text.slice(1, -1);
  }
}

/** @param {string} text @param {number} at of the brace @returns {Field[] | null} null where it is no object */
function object(text, at) {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  /** @type {Field[]} */
  const found = [];
  let place = skip(SPACE, text, at + 1);
  while (text[place] === '"' && found.length < MOST) {
    const begin = place;
    const name = skip(STRING, text, place);
    const value = skip(SPACE, text, skip(SPACE, text, name) + 1);
    const end = valueEnd(text, value);
    found.push({
      name: String(JSON.parse(text.slice(begin, name))),
      value: shown(text.slice(value, end)),
      pattern: within(JSONS, text.slice(begin, name), text.slice(value, end)),
    });
    place = skip(SPACE, text, end);
    if (text[place] === ",") place = skip(SPACE, text, place + 1);
  }
  return found;
}

/** @param {RegExp} pattern @param {string} text @param {number} at */
function skip(pattern, text, at) {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex : at;
}

/** @param {string} text valid JSON @param {number} at of a value @returns {number} behind it */
function valueEnd(text, at) {
  if (text[at] === '"') return skip(STRING, text, at);
  if (text[at] !== "{" && text[at] !== "[") return skip(SCALAR, text, at);
  let depth = 0;
  for (let place = at; place < text.length; place++) {
    if (text[place] === '"') place = skip(STRING, text, place) - 1;
    else if (text[place] === "{" || text[place] === "[") depth += 1;
    else if ((text[place] === "}" || text[place] === "]") && --depth === 0) return place + 1;
  }
  return text.length;
}

/** @param {string} raw JSON @returns {string} */
function shown(raw) {
  const value = JSON.parse(raw);
  return typeof value === "string" ? value : raw;
}

/** Text as a pattern of both RE2 and a browser. @param {string} text */
export function escaped(text) {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}

/** @param {typeof JSONS} edges @param {...string} parts name and value; of a long one the begin is enough */
function within({ begin, end, colon }, ...parts) {
  const cut = parts.map((part) => part.slice(0, LONGEST).replace(/[\ud800-\udbff]$/, ""));
  const whole = cut.every((part, number) => part === parts[number]);
  // Where a name is cut, what stands behind it is not its value.
  const text = cut[0] === parts[0] ? cut : cut.slice(0, 1);
  return `${begin}${text.map(escaped).join(colon)}${whole ? end : ""}`;
}

/**
 * What a pattern of a field says without its edges.
 * @param {string} pattern @returns {{text: string, mark: string} | null} as people read it, and for what is marked in a
 *   message; null where it is somebody's own
 */
export function told(pattern) {
  for (const { begin, end, colon } of [LOGFMT, JSONS]) {
    if (!pattern.startsWith(begin)) continue;
    const inner = pattern.slice(begin.length, pattern.endsWith(end) ? -end.length : undefined);
    const text = colon ? inner.replace(colon, ":") : inner;
    // Whoever wrote more than a text wrote it by hand.
    const bare = text.replace(/\\[\\^$.*+?()[\]{}|]/g, "");
    if (/[\\^$.*+?()[\]{}|]/.test(bare)) return null;
    const behind = pattern.endsWith(end) ? `(?=${end})` : "";
    return { text: text.replace(/\\(.)/g, "$1"), mark: `(?<=${begin})${inner}${behind}` };
  }
  return null;
}
