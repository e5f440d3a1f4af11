/**
 * The fields of a message: of a JSON object, or of logfmt. Each knows the text that stands for it in the message, so
 * that a filter for it is a filter for that text. Pure.
 *
 * @typedef {{name: string, value: string, text: string}} Field
 */

const MOST = 200;
const STRING = /"(?:[^"\\]|\\.)*"/y;
const SPACE = /\s*/y;
const SCALAR = /[^\s,{}[\]"]+/y;
// Pairs stand apart, which also keeps this linear: what is long has one place only at which a pair can begin.
const PAIR = /(?<!\S)([A-Za-z_][\w.@-]*)=("(?:[^"\\]|\\.)*"|[^\s"]*)(?=\s|$)/g;

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
    found.push({ name, value: value.startsWith('"') ? unquoted(value) : value, text });
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
      text: text.slice(begin, end),
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
