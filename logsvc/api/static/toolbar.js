/** The controls above the lines: search, range, looks, download. */
import { button, counted, h } from "./dom.js";
import { asField, instant, ofField, rfc3339 } from "./times.js";

const RANGES = { "": "All times", "5m": "5 min", "15m": "15 min", "1h": "1 hour", "6h": "6 hours", "1d": "1 day", "7d": "7 days" };
const FORMS = { local: "Local time", utc: "UTC", relative: "Time ago" };

/** ms without a key after which a search begins. */
const TYPED = 300;

/**
 * @typedef {import("./view.js").View} View
 * @typedef {object} Commands
 * @property {(change: (view: View) => void) => void} change
 * @property {() => void} pause
 * @property {() => void} next
 * @property {() => void} previous
 * @property {() => void} wrap
 * @property {(form: import("./times.js").TimeForm) => void} timeForm
 * @property {(form: "text" | "json") => void} save
 * @property {() => void} help
 * @property {() => void} full
 */

export class Toolbar {
  #typing = 0;
  /** @type {import("./times.js").TimeForm} */
  #form = "local";

  /** @param {() => View} view @param {Commands} commands */
  constructor(view, commands) {
    this.view = view;
    this.commands = commands;
    this.pill = button("", commands.pause, { class: "pill", part: "state" });
    this.search = h("input", {
      type: "search",
      placeholder: "Search",
      "aria-label": "Search the log",
      spellcheck: "false",
      autocomplete: "off",
      enterkeyhint: "search",
    });
    this.found = h("output", { class: "found" });
    this.flags = {
      re: this.#flag("re", ".*", "Regular expression (RE2)"),
      case: this.#flag("case", "Aa", "Upper and lower case differ"),
      only: this.#flag("only", "Filter", "Show only lines that match"),
    };
    this.ranges = select("Range of time", { ...RANGES, between: "Between…" });
    this.forms = select("How times are shown", FORMS);
    this.wrap = button("Wrap", commands.wrap, { title: "Wrap long lines (w)" });
    this.since = h("input", { type: "datetime-local", step: "1", "aria-label": "From" });
    this.until = h("input", { type: "datetime-local", step: "1", "aria-label": "Up to" });
    this.zone = h("span");
    this.between = h("span", { class: "between", hidden: true }, this.since, " to ", this.until, this.zone);
    this.more = button("⋯", () => this.#unfold(), { class: "unfold", title: "More controls", "aria-label": "More controls" });
    this.more.setAttribute("aria-expanded", "false");
    this.saving = h("span", { class: "saving", hidden: true });
    this.element = this.#build();
    this.#listen();
  }

  /** @param {"re" | "case" | "only"} name @param {string} label @param {string} title */
  #flag(name, label, title) {
    const toggle = () =>
      this.commands.change((view) => {
        view.q = this.search.value;
        view[name] = !view[name];
      });
    return button(label, toggle, { class: "flag", title, "aria-label": label === "Filter" ? label : title });
  }

  #build() {
    const { commands } = this;
    const finding = h("span", { class: "finding", role: "search" }, this.search);
    finding.append(
      button("↑", commands.previous, { title: "Previous match (p)", "aria-label": "Previous match" }),
      button("↓", commands.next, { title: "Next match (n)", "aria-label": "Next match" }),
      this.found,
    );
    const save = select("Download all lines of this view", { "": "Download", text: "as text", json: "as JSON" });
    save.addEventListener("change", () => {
      const form = save.value;
      save.value = "";
      if (form === "text" || form === "json") commands.save(form);
    });
    const looks = h("span", { class: "looks folds" }, this.forms, this.wrap, save);
    looks.append(
      button("⤢", commands.full, { title: "Full screen", "aria-label": "Full screen" }),
      button("?", commands.help, { title: "Keys (?)", "aria-label": "Keys" }),
    );
    const group = { class: "flags folds", role: "group", "aria-label": "How it is searched" };
    const flags = h("span", group, ...Object.values(this.flags));
    const range = h("span", { class: "range folds" }, this.ranges, this.between);
    const bar = h("div", { class: "toolbar", part: "toolbar" }, this.pill, finding, this.more, flags, range, looks);
    bar.append(this.saving);
    return bar;
  }

  /** Show the controls that a narrow pane folds away, or fold them away again. */
  #unfold() {
    const open = this.element.classList.toggle("open");
    this.more.setAttribute("aria-expanded", String(open));
  }

  #listen() {
    const { commands, search } = this;
    const apply = () => {
      clearTimeout(this.#typing);
      if (this.view().q !== search.value) {
        commands.change((view) => {
          view.q = search.value;
        });
      }
    };
    search.addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = window.setTimeout(apply, TYPED);
    });
    search.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      apply();
      if (event.shiftKey) commands.next();
      else commands.previous();
    });
    this.forms.addEventListener("change", () => commands.timeForm(/** @type {"utc"} */ (this.forms.value)));
    this.ranges.addEventListener("change", () => this.#ranged());
    for (const field of [this.since, this.until]) field.addEventListener("change", () => this.#betweened());
  }

  #ranged() {
    const { value } = this.ranges;
    if (value === "between") {
      const now = Date.now();
      this.between.hidden = false;
      this.since.value = asField(now - 3_600_000, this.#form);
      this.until.value = asField(now, this.#form);
      this.since.focus();
      return;
    }
    this.commands.change((view) => {
      view.since = value;
      view.until = "";
    });
  }

  #betweened() {
    const time = (/** @type {HTMLInputElement} */ field) => (field.value ? rfc3339(ofField(field.value, this.#form)) : "");
    const [since, until] = [time(this.since), time(this.until)];
    const mixed = since !== "" && until !== "" && since > until;
    this.until.setCustomValidity(mixed ? "The end is before the beginning." : "");
    if (mixed) {
      this.until.reportValidity();
      return;
    }
    this.commands.change((view) => {
      view.since = since;
      view.until = until;
    });
  }

  /** Show what the view is. @param {import("./looks.js").Looks} looks */
  show(looks) {
    const view = this.view();
    const root = /** @type {ShadowRoot} */ (this.element.getRootNode());
    if (root.activeElement !== this.search) this.search.value = view.q;
    for (const [name, flag] of Object.entries(this.flags)) {
      flag.setAttribute("aria-pressed", String(view[/** @type {"re"} */ (name)]));
    }
    // What is set shows, also where it is folded away.
    this.more.classList.toggle("set", view.re || view.case || view.only || view.since !== "" || view.until !== "");
    this.forms.value = this.#form = looks.time;
    this.zone.textContent = looks.time === "utc" ? "UTC" : "local time";
    this.wrap.setAttribute("aria-pressed", String(looks.wrap));
    const listed = view.until === "" && view.since in RANGES;
    this.ranges.value = listed ? view.since : "between";
    this.between.hidden = listed;
    if (!listed && root.activeElement !== this.since && root.activeElement !== this.until) {
      const now = Date.now();
      this.since.value = field(instant(view.since, now), looks.time);
      this.until.value = field(instant(view.until, now), looks.time);
    }
  }

  /** Show how far a download is. @param {string} text @param {(() => void) | null} cancel */
  progress(text, cancel) {
    this.saving.hidden = text === "";
    const parts = cancel ? [" ", button("Cancel", cancel)] : [];
    if (cancel && this.saving.firstChild instanceof Text && this.saving.childElementCount) {
      this.saving.firstChild.data = text;
    } else {
      this.saving.replaceChildren(text, ...parts);
    }
  }
}

/** @param {number} ms NaN for none @param {import("./times.js").TimeForm} form */
function field(ms, form) {
  return Number.isNaN(ms) ? "" : asField(ms, form);
}

/** @param {string} label @param {Record<string, string>} options */
function select(label, options) {
  const made = h("select", { "aria-label": label, title: label });
  for (const [value, text] of Object.entries(options)) made.append(h("option", { value }, text));
  return made;
}

/** @param {number} lines @param {number} total as far as it is known */
export function saved(lines, total) {
  const of = total > lines ? ` of ${counted(total)}` : "";
  return `${counted(lines)}${of} lines`;
}
