/** One line of the log as an element; unfolded, its fields, its details and what can be done with it. */
import { plain, runs } from "./ansi.js";
import { button, counted, h } from "./dom.js";
import { fields } from "./fields.js";
import { full, shown } from "./times.js";

/** Characters and runs of a message that a row shows, folded and unfolded. */
const FOLDED = { text: 2000, runs: 200 };
const UNFOLDED = { text: 50_000, runs: 2000 };
/** Characters of a field's name and of its value that are shown, and of both in what a button says. */
const FIELD = { name: 100, value: 1000, label: 60 };

// Who was asked to go by SIGTERM ends with 143: no fault.
const FAULT = new RegExp(
  [
    String.raw`\b(?:crash\w*|oom\w*|out of memory|killed|fail\w*|evicted|unhealthy|back-?off|can't be|stuck)\b`,
    String.raw`\b(?:error R\d+|status (?!143\b)[1-9]\d*|lines wait|\d+ lines were dropped)\b`,
  ].join("|"),
  "i",
);
const ROLLOUT = /\b(?:release\w*|roll(?:out|ed|ing)\w*|deploy\w*|scal(?:ed?|ing)|state changed|start(?:ed|ing))\b/i;

/**
 * @typedef {import("./line.js").Line} Line
 * @typedef {object} Look how rows look
 * @property {import("./times.js").TimeForm} time
 * @property {import("./colours.js").Palette} palette
 * @property {import("./marks.js").Marks} marks
 * @property {Line | null} current the match that was gone to, or the line of a link
 *
 * @typedef {object} Actions what an unfolded line offers
 * @property {(facet: import("./view.js").Facet, value: string, include: boolean, line: Line) => void} facet
 * @property {(pattern: string, include: boolean, line: Line) => void} pattern
 * @property {(line: Line, what: "text" | "json" | "link" | "trace") => void} copy
 * @property {(line: Line) => number} traced how many lines its stack trace has
 * @property {(line: Line) => void} fold
 */

/** @param {Line} line @param {Look} look @param {Actions} actions @returns {HTMLElement} */
export function row(line, look, actions) {
  if (line.notice !== undefined) {
    return h("div", { class: "row notice", tabindex: -1 }, h("strong", {}, "⚠ Notice: "), line.notice);
  }
  const { time, dyno, message, stream, partial } = line.fields;
  const element = h("div", { class: `row${kind(line)}`, tabindex: -1 });
  if (stream === "stderr") element.classList.add("stderr");
  if (line === look.current) element.classList.add("current");
  const limit = line.open ? UNFOLDED : FOLDED;
  const msg = h("span", { class: "msg" }, ...pieces(message.slice(0, limit.text), look.marks, limit.runs));
  if (message.length > limit.text) {
    msg.append(h("span", { class: "more" }, ` … ${counted(message.length - limit.text)} more characters`));
  }
  if (partial) msg.append(h("span", { class: "more" }, " ⏎ goes on in the next line"));
  element.append(
    h("time", { datetime: time, title: full(time, "local") }, shown(time, look.time, Date.now())),
    h("span", { class: `who p${look.palette.number(dyno)}`, title: line.fields.source }, dyno),
    msg,
  );
  if (line.open) element.append(details(line, actions));
  return element;
}

/** @param {Line} line */
function kind(line) {
  if (!line.platform) return "";
  const { message } = line.fields;
  // Where it comes from is over.
  const now = message.replace(/\bfrom \S+/, "");
  if (FAULT.test(now) && !/\bstatus 0\b/.test(now)) return " platform fault";
  return ROLLOUT.test(message) ? " platform rollout" : " platform";
}

/** @param {string} text @param {import("./marks.js").Marks} marks @param {number} most @returns {(Node | string)[]} */
function pieces(text, marks, most) {
  const made = runs(text, most);
  const found = marks.any ? marks.ranges(made.map((run) => run.text).join("")) : [];
  let at = 0;
  let next = 0;
  return made.map((run) => {
    /** @type {(Node | string)[]} */
    const parts = [];
    const end = at + run.text.length;
    let from = at;
    while (next < found.length && found[next][0] < end) {
      const [begin, stop] = found[next];
      if (begin > from) parts.push(run.text.slice(from - at, begin - at));
      const to = Math.min(stop, end);
      parts.push(h("mark", {}, run.text.slice(Math.max(begin, from) - at, to - at)));
      from = to;
      if (stop > end) break;
      next += 1;
    }
    if (from < end) parts.push(run.text.slice(from - at));
    at = end;
    return dressed(run, parts);
  });
}

/** @param {import("./ansi.js").Run} run @param {(Node | string)[]} parts */
function dressed(run, parts) {
  const { style, hidden } = run;
  const flags = ["bold", "dim", "italic", "underline", "strike"].filter((name) => style[/** @type {"bold"} */ (name)]);
  let { fg, bg } = style;
  if (style.inverse) [fg, bg] = [bg ?? "bg", fg ?? "fg"];
  if (!hidden && !flags.length && !fg && !bg) return parts.length === 1 ? parts[0] : h("span", {}, ...parts);
  const element = h("span", { class: flags.map((name) => `a-${name}`).join(" ") }, ...parts);
  if (hidden) {
    element.classList.add("hidden");
    element.title = hidden;
  }
  if (bg) paper(element, bg, fg);
  else if (fg) ink(element, fg);
  return element;
}

/** Colour on the pane's own paper: the style sheet keeps it readable. @param {HTMLElement} element @param {string} fg */
function ink(element, fg) {
  if (fg.startsWith("#")) {
    element.classList.add("a-fg");
    element.style.setProperty("--fg", fg);
  } else {
    element.classList.add(`a-${fg}`);
  }
}

/** The sixteen as xterm has them, where they are paper. */
const PAPER =
  "#000000 #cd0000 #00cd00 #cdcd00 #0000ee #cd00cd #00cdcd #e5e5e5 #7f7f7f #ff0000 #00ff00 #ffff00 #5c5cff #ff00ff #00ffff #ffffff".split(
    " ",
  );

/**
 * A message that brings its paper gets black or white on it, unless its own ink can be read.
 * @param {HTMLElement} element @param {string} bg @param {string | undefined} fg
 */
function paper(element, bg, fg) {
  if (bg === "fg") {
    element.classList.add("a-inverse");
    return;
  }
  const back = PAPER[Number(bg)] ?? bg;
  const front = fg === undefined || fg === "bg" ? "" : (PAPER[Number(fg)] ?? fg);
  const readable = front && contrast(front, back) >= 4.5;
  element.classList.add("a-bg");
  element.style.setProperty("--bg", back);
  element.style.setProperty("--fg", readable ? front : contrast("#000000", back) > 7 ? "#000000" : "#ffffff");
  if (!readable && contrast("#ffffff", back) < 4.5) element.style.setProperty("--fg", "#000000");
}

/** WCAG 2.2's contrast ratio. @param {string} one `#rrggbb` @param {string} other */
export function contrast(one, other) {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

/** @param {string} colour */
function luminance(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** @param {Line} line @param {Actions} actions */
function details(line, actions) {
  const { time, process, dyno, source, stream, message, cursor } = line.fields;
  const table = h("dl", {});
  const add = (/** @type {string} */ name, /** @type {string} */ value, /** @type {Node[]} */ ...buttons) =>
    table.append(h("dt", {}, cut(name, FIELD.name)), h("dd", {}, h("bdi", {}, cut(value, FIELD.value)), ...buttons));
  add("time", `${full(time, "utc")} · ${full(time, "local")}`);
  for (const [facet, value] of Object.entries({ process, dyno, source, stream })) {
    const name = /** @type {import("./view.js").Facet} */ (facet);
    add(facet, value, ...choices(`${facet} ${value}`, (include) => actions.facet(name, value, include, line)));
  }
  for (const field of fields(message)) {
    const label = cut(`${field.name.slice(0, FIELD.name)} ${field.value}`, FIELD.label);
    add(field.name, field.value, ...choices(label, (include) => actions.pattern(field.pattern, include, line)));
  }
  add("cursor", cursor);
  const trace = actions.traced(line);
  return h(
    "div",
    { class: "details", role: "group", "aria-label": "Details of the line" },
    table,
    h(
      "div",
      { class: "buttons" },
      button("Copy text", () => actions.copy(line, "text")),
      button("Copy JSON", () => actions.copy(line, "json")),
      button("Copy link", () => actions.copy(line, "link")),
      ...(trace > 1 ? [button(`Copy the trace of ${trace} lines`, () => actions.copy(line, "trace"))] : []),
      button("Close", () => actions.fold(line)),
    ),
  );
}

/** The begin of a text that may be long, nothing hidden in it. @param {string} text @param {number} most */
function cut(text, most) {
  const more = text.length - most;
  return `${plain(text.slice(0, most))}${more > 0 ? ` … ${counted(more)} more characters` : ""}`;
}

/** @param {string} label @param {(include: boolean) => void} choose */
function choices(label, choose) {
  return [
    button("only", () => choose(true), { class: "pick", "aria-label": `Only lines with ${label}` }),
    button("hide", () => choose(false), { class: "pick", "aria-label": `Hide lines with ${label}` }),
  ];
}
