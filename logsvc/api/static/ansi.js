/**
 * A message to runs of text with the colours it brings (ECMA-48, SGR), and nothing hidden: other control sequences are
 * taken out, control characters, right-to-left overrides and what has no width become visible. Pure.
 *
 * @typedef {object} Style
 * @property {string} [fg] `0` to `15`, or `#rrggbb`
 * @property {string} [bg]
 * @property {boolean} [bold]
 * @property {boolean} [dim]
 * @property {boolean} [italic]
 * @property {boolean} [underline]
 * @property {boolean} [inverse]
 * @property {boolean} [strike]
 *
 * @typedef {object} Run
 * @property {string} text
 * @property {Style} style
 * @property {string} [hidden] `U+202E`: what `text` stands for
 */

// The same sequences as logsvc/formats/terminal.py.
const SEQUENCE =
  // eslint-disable-next-line no-control-regex
  /\x1b\[([0-9;:]*)m|(?:\x1b[P\]X^_]|[\x90\x9d\x98\x9e\x9f])[^\x07\x18\x1a\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b[ -/]*[0-~]?|([\x00-\x08\x0a-\x1f\x7f-\x9f]|[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb]|\ud82f[\udca0-\udca3]|\ud834[\udd73-\udd7a]|\udb40[\udc00-\udfff])/g;

/** Behind letters of these scripts, and between emoji, joiners are how one writes; anywhere else they hide. */
const SCRIPTS =
  /[\p{scx=Arab}\p{scx=Syrc}\p{scx=Mong}\p{scx=Deva}\p{scx=Beng}\p{scx=Guru}\p{scx=Gujr}\p{scx=Orya}\p{scx=Taml}\p{scx=Telu}\p{scx=Knda}\p{scx=Mlym}\p{scx=Sinh}\p{scx=Mymr}\p{scx=Khmr}]$/u;
const EMOJI = /\p{ExtPict}(?:\ufe0f|\p{EMod})?$/u;

/** @param {string} message @param {number} most runs at most; the last one has the rest without its colours */
export function runs(message, most = Infinity) {
  /** @type {Run[]} */
  const made = [];
  /** @type {Style} */
  let style = {};
  let at = 0;
  let text = "";
  const flush = () => {
    if (text) made.push({ text, style });
    text = "";
  };
  SEQUENCE.lastIndex = 0;
  for (let match = SEQUENCE.exec(message); match; match = SEQUENCE.exec(message)) {
    text += message.slice(at, match.index);
    at = SEQUENCE.lastIndex;
    const full = made.length >= most;
    if (match[1] !== undefined) {
      if (full) continue;
      const next = styled(style, match[1]);
      if (next !== style) flush();
      style = next;
    } else if (match[2] !== undefined) {
      if (joins(message, match.index)) text += match[2];
      else if (full) text += symbol(match[2]);
      else {
        flush();
        made.push({ text: symbol(match[2]), style, hidden: name(match[2]) });
      }
    }
  }
  text += message.slice(at);
  flush();
  return made;
}

/** Whether what has no width belongs where it stands. @param {string} message @param {number} at */
function joins(message, at) {
  const before = message.slice(Math.max(0, at - 4), at);
  const joiner = message[at];
  if (joiner === "\u200c") return SCRIPTS.test(before);
  if (joiner === "\u200d") return SCRIPTS.test(before) || (EMOJI.test(before) && /^\p{ExtPict}/u.test(message.slice(at + 1, at + 3)));
  return (joiner === "\ufe0e" || joiner === "\ufe0f") && /\p{ExtPict}$/u.test(before);
}

/** A text without its colours, and nothing hidden in it. @param {string} text */
export function plain(text) {
  return runs(text)
    .map((run) => run.text)
    .join("");
}

/** @param {string} character */
function name(character) {
  return `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** @param {string} character */
function symbol(character) {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  return code === 0x7f ? "\u2421" : `⟨${name(character)}⟩`;
}

/** @param {Style} style @param {string} parameters of one SGR @returns {Style} */
export function styled(style, parameters) {
  const groups = parameters.split(";");
  const codes = groups.map(Number);
  let next = style;
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at];
    if (groups[at].includes(":")) next = { ...next, ...grouped(groups[at].split(":").map(Number)) };
    else if (code === 38 || code === 48) {
      const [colour, used] = extended(codes, at + 1);
      at += used;
      if (colour !== undefined) next = { ...next, [code === 38 ? "fg" : "bg"]: colour };
    } else {
      next = code === 0 ? {} : { ...next, ...simple(code) };
    }
  }
  return next;
}

/** A code with its parts behind colons: `4:3`, `38:5:n`, `38:2:r:g:b`, `38:2:space:r:g:b`. @param {number[]} parts @returns {Style} */
function grouped([code, kind, ...rest]) {
  if (code === 4) return { underline: kind !== 0 };
  if (code !== 38 && code !== 48) return {};
  const colour = kind === 5 ? indexed(rest[0]) : kind === 2 ? hex(...(rest.length > 3 ? rest.slice(1, 4) : rest)) : undefined;
  return colour === undefined ? {} : { [code === 38 ? "fg" : "bg"]: colour };
}

/** @param {number} code @returns {Style} */
function simple(code) {
  if (code >= 30 && code <= 37) return { fg: String(code - 30) };
  if (code >= 40 && code <= 47) return { bg: String(code - 40) };
  if (code >= 90 && code <= 97) return { fg: String(code - 82) };
  if (code >= 100 && code <= 107) return { bg: String(code - 92) };
  return CODES[code] ?? {};
}

/** @type {Record<number, Style>} */
const CODES = {
  1: { bold: true },
  2: { dim: true },
  3: { italic: true },
  4: { underline: true },
  7: { inverse: true },
  9: { strike: true },
  21: { underline: true },
  22: { bold: false, dim: false },
  23: { italic: false },
  24: { underline: false },
  27: { inverse: false },
  29: { strike: false },
  39: { fg: undefined },
  49: { bg: undefined },
};

/**
 * `5;n` or `2;r;g;b`.
 * @param {number[]} codes @param {number} at @returns {[string | undefined, number]} the colour, and how many codes
 */
function extended(codes, at) {
  if (codes[at] === 5) return [indexed(codes[at + 1]), 2];
  if (codes[at] === 2) return [hex(codes[at + 1], codes[at + 2], codes[at + 3]), 4];
  return [undefined, 0];
}

/** @param {number} index of xterm's 256 @returns {string | undefined} */
function indexed(index) {
  if (!(index >= 0 && index <= 255)) return undefined;
  if (index < 16) return String(index);
  if (index >= 232) return hex(8 + 10 * (index - 232), 8 + 10 * (index - 232), 8 + 10 * (index - 232));
  const level = (/** @type {number} */ step) => (step ? 55 + 40 * step : 0);
  const cube = index - 16;
  return hex(level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6));
}

/** @param {...number} parts */
function hex(...parts) {
  if (!parts.every((part) => part >= 0 && part <= 255)) return undefined;
  return `#${parts.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}
