/** Chips: which processes, dynos, sources and streams there are, how many lines each has, and what is chosen. */
import { plain } from "./ansi.js";
import { button, counted, h, short } from "./dom.js";
import { told } from "./fields.js";
import { FACETS } from "./view.js";

/** Values of a facet that are shown until somebody asks for all, and at most. */
const FEW = 6;
const MOST = 200;

/**
 * @typedef {import("./view.js").Facet} Facet
 * @typedef {import("./view.js").View} View
 * @typedef {Record<Facet, string> & {lines: number}} Count
 */

export class Facets {
  /** @type {Count[]} */
  #counts = [];
  /** @type {Set<Facet>} */
  #all = new Set();

  /**
   * @param {import("./colours.js").Palette} palette @param {() => View} view
   * @param {(change: (view: View) => void) => void} change
   */
  constructor(palette, view, change) {
    this.palette = palette;
    this.view = view;
    this.change = change;
    this.element = h("div", { class: "facets", part: "facets" });
  }

  /** @param {Count[]} counts */
  show(counts) {
    this.#counts = counts;
    this.draw();
  }

  draw() {
    const root = /** @type {ShadowRoot} */ (this.element.getRootNode());
    const focused = root.activeElement instanceof HTMLElement ? root.activeElement.dataset.key : undefined;
    this.element.replaceChildren(...this.#tokens(), ...FACETS.flatMap((facet) => this.#group(facet)));
    if (focused) {
      const again = [...this.element.querySelectorAll("button")].find((each) => each.dataset.key === focused);
      again?.focus();
    }
  }

  /** How many lines each value has, of those that pass what is chosen of the other facets. @param {Facet} facet */
  #tally(facet) {
    const view = this.view();
    /** @type {Map<string, number>} */
    const tally = new Map();
    for (const count of this.#counts) {
      const passes = FACETS.every((other) => other === facet || view.takes(other, count[other]));
      tally.set(count[facet], (tally.get(count[facet]) ?? 0) + (passes ? count.lines : 0));
    }
    for (const value of this.#named(facet)) if (!tally.has(value)) tally.set(value, 0);
    return new Map([...tally].sort((one, other) => other[1] - one[1] || (one[0] < other[0] ? -1 : 1)));
  }

  /** Values of a facet that the view names. @param {Facet} facet */
  #named(facet) {
    const { chosen, hidden } = this.view();
    return [...chosen[facet], ...hidden[facet]];
  }

  /** @param {Facet} facet */
  #group(facet) {
    const tally = this.#tally(facet);
    const named = this.#named(facet);
    if (!tally.size) return [];
    const values = [...tally].filter(
      ([value], number) => number < (this.#all.has(facet) ? MOST : FEW) || named.includes(value),
    );
    const group = h("div", { class: "facet", role: "group", "aria-label": facet, title: facet });
    for (const [value, lines] of values) group.append(this.#chip(facet, value, lines));
    if (tally.size > values.length) {
      group.append(
        button(`${tally.size - values.length} more`, () => {
          this.#all.add(facet);
          this.draw();
        }),
      );
    }
    return [group];
  }

  /** @param {Facet} facet @param {string} value @param {number} lines */
  #chip(facet, value, lines) {
    const view = this.view();
    const hidden = view.hidden[facet].includes(value);
    const click = hidden ? "Click: show these again" : "Click: only these; with Shift: all but these";
    const made = h(
      "button",
      {
        type: "button",
        class: `chip${facet === "process" || facet === "dyno" ? ` p${this.palette.number(value)}` : ""}${hidden ? " out" : ""}`,
        "aria-pressed": String(view.chosen[facet].includes(value)),
        title: `${counted(lines)} lines. ${click}`,
        "data-key": `${facet} ${value}`,
      },
      h("span", { class: "name" }, hidden ? `not ${plain(value)}` : plain(value)),
      " ",
      h("span", { class: "count" }, short(lines)),
    );
    made.addEventListener("click", (event) =>
      this.change((changed) => (event.shiftKey ? changed.hide(facet, value) : changed.toggle(facet, value))),
    );
    return made;
  }

  /** Texts that lines must have or must not have. */
  #tokens() {
    const view = this.view();
    /** @type {HTMLElement[]} */
    const made = [];
    for (const [name, says, tells] of /** @type {const} */ ([
      ["grep", "has", ""],
      ["grep_re", "matches", "has"],
      ["exclude", "without", ""],
      ["exclude_re", "does not match", "without"],
    ])) {
      for (const text of view[name]) {
        const remove = () =>
          this.change((changed) => {
            changed[name] = changed[name].filter((each) => each !== text);
          });
        const field = tells && told(text)?.text;
        const words = field || text;
        const label = `${field ? tells : says} ${plain(words.slice(0, 60))}${words.length > 60 ? "…" : ""}`;
        made.push(
          button(h("span", {}, label, " ×"), remove, {
            class: `chip token ${name}`,
            "aria-label": `Remove the filter: ${label}`,
          }),
        );
      }
    }
    return made;
  }
}
