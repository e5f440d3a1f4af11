/** What is looked at: filters, search, range and place. It lives in a URL, so that it can be shared. Pure. */
import { isCursor } from "./line.js";

/** @typedef {"process" | "dyno" | "source" | "stream"} Facet */

/** @type {readonly Facet[]} */
export const FACETS = ["process", "dyno", "source", "stream"];
const TEXTS = /** @type {const} */ (["grep", "grep_re", "exclude", "exclude_re"]);
/** The parameter that leaves out a value. @param {Facet} facet */
const not = (facet) => `not_${facet}`;
const OWN = [...FACETS, ...FACETS.map(not), ...TEXTS, "since", "until", "q", "re", "case", "only", "at"];

export class View {
  /** @type {Record<Facet, string[]>} */
  chosen = { process: [], dyno: [], source: [], stream: [] };
  /** @type {Record<Facet, string[]>} */
  hidden = { process: [], dyno: [], source: [], stream: [] };
  /** @type {string[]} */
  grep = [];
  /** @type {string[]} */
  grep_re = [];
  /** @type {string[]} */
  exclude = [];
  /** @type {string[]} */
  exclude_re = [];
  /** RFC 3339, or a length of time ago. */
  since = "";
  until = "";
  /** What is searched for. */
  q = "";
  /** Whether `q` is a pattern (RE2). */
  re = false;
  /** Whether upper and lower case differ. */
  case = false;
  /** Whether only lines that match `q` are shown. */
  only = false;
  /** Cursor of the line that a link leads to. */
  at = "";

  /** @param {URLSearchParams} params of a page; those of others are passed over */
  static parse(params) {
    const view = new View();
    for (const facet of FACETS) {
      view.chosen[facet] = params.getAll(facet).filter(Boolean);
      view.hidden[facet] = params.getAll(not(facet)).filter(Boolean);
    }
    for (const name of TEXTS) view[name] = params.getAll(name).filter(Boolean);
    view.since = params.get("since") ?? "";
    view.until = params.get("until") ?? "";
    view.q = params.get("q") ?? "";
    for (const name of /** @type {const} */ (["re", "case", "only"])) view[name] = params.get(name) === "1";
    const at = params.get("at") ?? "";
    if (isCursor(at)) view.at = at;
    return view;
  }

  /** Put it into the parameters of a page, and leave those of others. @param {URLSearchParams} params */
  write(params) {
    for (const name of OWN) params.delete(name);
    this.#append(params);
    if (this.q) params.set("q", this.q);
    for (const name of /** @type {const} */ (["re", "case", "only"])) if (this[name]) params.set(name, "1");
    if (this.at) params.set("at", this.at);
    return params;
  }

  /** Parameters of the API for the lines that are shown. */
  filter() {
    const params = new URLSearchParams();
    this.#append(params);
    if (this.only) this.#search(params);
    this.#fold(params);
    return params;
  }

  /** Parameters of the API for counts by facet: without what was chosen of the facets. */
  countable() {
    const params = this.filter();
    for (const facet of FACETS) for (const name of [facet, not(facet)]) params.delete(name);
    return params;
  }

  /** Parameters of the API for the lines that match the search. */
  matches() {
    const params = this.filter();
    if (!this.only) this.#search(params);
    this.#fold(params);
    return params;
  }

  /** Whether lines are left out. */
  get filtered() {
    return this.filter().size > 0;
  }

  /** From when to when, as one text. */
  get range() {
    return `${this.since} ${this.until}`;
  }

  /** The same lines, and a place among them. @param {string} at cursor of a line */
  to(at) {
    return Object.assign(new View(), this, { at });
  }

  /** Whether a value may be seen. @param {Facet} facet @param {string} value */
  takes(facet, value) {
    const { [facet]: chosen } = this.chosen;
    return (!chosen.length || chosen.includes(value)) && !this.hidden[facet].includes(value);
  }

  /** Show only a value. @param {Facet} facet @param {string} value */
  choose(facet, value) {
    this.chosen[facet] = [value];
    this.hidden[facet] = [];
  }

  /** Show all but a value, also those that come later. @param {Facet} facet @param {string} value */
  hide(facet, value) {
    this.chosen[facet] = without(this.chosen[facet], value);
    // Where some are chosen, the others are hidden already.
    if (!this.chosen[facet].length) this.hidden[facet] = [...without(this.hidden[facet], value), value];
  }

  /** Choose a value as well, or not any more; show it again where it is hidden. @param {Facet} facet @param {string} value */
  toggle(facet, value) {
    const chosen = this.chosen[facet];
    if (this.hidden[facet].includes(value)) this.hidden[facet] = without(this.hidden[facet], value);
    else if (chosen.includes(value)) this.chosen[facet] = without(chosen, value);
    else {
      this.chosen[facet] = [...chosen, value];
      this.hidden[facet] = [];
    }
  }

  /** @param {URLSearchParams} params */
  #append(params) {
    for (const facet of FACETS) {
      for (const value of this.chosen[facet]) params.append(facet, value);
      for (const value of this.hidden[facet]) params.append(not(facet), value);
    }
    for (const name of TEXTS) for (const value of this[name]) params.append(name, value);
    if (this.since) params.set("since", this.since);
    if (this.until) params.set("until", this.until);
  }

  /** @param {URLSearchParams} params */
  #search(params) {
    if (this.q) params.append(this.re ? "grep_re" : "grep", this.q);
  }

  /** @param {URLSearchParams} params */
  #fold(params) {
    const texts = TEXTS.some((name) => params.has(name));
    if (texts && !this.case) params.set("ignore_case", "true");
  }
}

/** @param {string[]} values @param {string} value */
function without(values, value) {
  return values.filter((each) => each !== value);
}
