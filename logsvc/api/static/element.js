/**
 * `<log-pane app="my-app">`: a window on the log of an app (docs/pane.md).
 *
 * This is where the parts are put together; each knows nothing of the others.
 */
import { Palette } from "./colours.js";
import { Counts } from "./counts.js";
import { h } from "./dom.js";
import { Facets } from "./facets.js";
import { Finder } from "./finder.js";
import { help, listen } from "./keys.js";
import { List } from "./list.js";
import { Log } from "./log.js";
import { Looks } from "./looks.js";
import { Marks } from "./marks.js";
import { Plot } from "./plot.js";
import { row } from "./row.js";
import { Said } from "./said.js";
import { download, offer } from "./save.js";
import { Service } from "./source.js";
import { together } from "./stack.js";
import { shown } from "./times.js";
import { saved, Toolbar } from "./toolbar.js";
import { View } from "./view.js";

/** Rows from the end of what is held at which more is loaded. */
const AHEAD = 150;
/** ms between two looks at what changes by itself. */
const TICK = 250;

const SERVICE = new URL("../../", import.meta.url).href;

export class LogPane extends HTMLElement {
  static observedAttributes = ["app", "service"];

  /** Who is asking: a bearer token, or what gives one. @type {string | import("./source.js").Token | undefined} */
  #token;
  #looks = new Looks();
  #palette = new Palette();
  #view = new View();
  #marks = new Marks(this.#view);
  #dialog = h("dialog");
  #ticking = 0;
  /** @type {import("./line.js").Line | null} */
  #focused = null;
  /** The line that was gone to. @type {import("./line.js").Line | null} */
  #current = null;
  #wantsFocus = false;
  /** Looks for the first lines, from which the counts begin, until they are counted without any. */
  #uncounted = 0;
  #ready = false;

  constructor() {
    super();
    const service = new Service(SERVICE, () => (typeof this.#token === "function" ? this.#token() : (this.#token ?? "")));
    this.log = new Log(service, "", (change, count) => this.#changed(change, count), () => this.#told());
    this.finder = new Finder(this.log, (word) => (this.toolbar.found.textContent = word));
    this.scroller = h("div", { class: "scroller", part: "log", role: "log", tabindex: "0", "aria-live": "off" });
    this.list = new List(this.scroller, () => this.log.lines, (index) => this.#row(index), (user) => this.#scrolled(user));
    this.facets = new Facets(this.#palette, () => this.#view, (change) => this.#change(change));
    this.plot = new Plot((since, until) => this.#change((view) => Object.assign(view, { since, until })));
    this.counts = new Counts(service, () => this.app, () => this.#view, this.plot, this.facets, () => this.#oldest());
    this.toolbar = new Toolbar(() => this.#view, this.#commands());
    this.said = new Said(this.log, this.list, this.toolbar, {
      live: () => this.#live(),
      show: (line) => this.#show(this.log.lines.indexOf(line)),
      expired: () => this.dispatchEvent(new CustomEvent("sessionexpired", { bubbles: true, composed: true })),
    });
    this.pane = h("div", { class: "pane", part: "pane", hidden: true });
    this.#build();
  }

  #build() {
    const root = this.attachShadow({ mode: "open", delegatesFocus: false });
    const sheet = h("link", { rel: "stylesheet", href: new URL("pane.css", import.meta.url).href });
    const { pane, said } = this;
    sheet.addEventListener("load", () => {
      pane.hidden = false;
      if (this.#wantsFocus) this.focus();
      this.list.resized();
    });
    const main = h("div", { class: "main" }, this.scroller, said.edge, said.back);
    pane.append(this.toolbar.element, this.facets.element, this.plot.element, said.gaps, said.banner, main, said.spoken);
    this.#dialog = help();
    root.append(sheet, pane, this.#dialog);
    listen(pane, this.#keys());
    this.#wrapped();
    this.scroller.addEventListener("click", (event) => this.#clicked(event));
    this.scroller.addEventListener("pointerover", (event) => this.#hovered(event));
    this.scroller.addEventListener("pointerleave", () => this.#together([]));
  }

  // what a dashboard says

  get app() {
    return this.getAttribute("app") ?? "";
  }

  set app(name) {
    this.setAttribute("app", name);
  }

  /** A bearer token, or a function that gives one (a promise of one) whenever it is needed. */
  get token() {
    return this.#token;
  }

  set token(token) {
    this.#token = token;
    this.log.retry();
  }

  /** What is looked at, as the query of a URL. */
  get view() {
    return this.#view.write(new URLSearchParams()).toString();
  }

  set view(query) {
    this.#view = View.parse(new URLSearchParams(query));
    if (this.isConnected) this.#open();
  }

  /** @param {FocusOptions} [options] */
  focus(options) {
    this.#wantsFocus = Boolean(this.pane.hidden);
    this.scroller.focus(options);
  }

  connectedCallback() {
    if (this.#inUrl) this.#view = View.parse(new URLSearchParams(location.search));
    this.#ready = true;
    this.#ticking = window.setInterval(() => this.#tick(), TICK);
    addEventListener("popstate", this.#popped);
    addEventListener("online", this.#online);
    this.list.observer.observe(this.scroller);
    this.#open();
  }

  disconnectedCallback() {
    this.#ready = false;
    clearInterval(this.#ticking);
    removeEventListener("popstate", this.#popped);
    removeEventListener("online", this.#online);
    this.log.close();
    this.counts.stop();
    this.list.disconnect();
  }

  attributeChangedCallback() {
    this.log.service.base = new URL(this.getAttribute("service") ?? SERVICE, location.href).href;
    if (this.#ready) this.#open();
  }

  // the view

  get #inUrl() {
    return this.getAttribute("state") !== "off";
  }

  #popped = () => {
    if (!this.#inUrl) return;
    this.#view = View.parse(new URLSearchParams(location.search));
    this.#open();
  };

  #online = () => this.log.retry();

  /** @param {(view: View) => void} change */
  #change(change) {
    const before = this.#view.filter().toString();
    change(this.#view);
    this.#view.at = "";
    this.#publish();
    if (this.#view.filter().toString() === before) this.#remark();
    else this.#open();
  }

  #publish() {
    if (this.#inUrl) {
      const url = new URL(location.href);
      this.#view.write(url.searchParams);
      history.replaceState(history.state, "", url);
    }
    this.dispatchEvent(new CustomEvent("viewchange", { detail: this.view, bubbles: true, composed: true }));
  }

  #remark() {
    this.finder.clear();
    this.#current = null;
    this.#marks = new Marks(this.#view);
    this.toolbar.show(this.#looks);
    this.list.refresh();
  }

  #open() {
    if (!this.app) return;
    this.log.app = this.app;
    this.scroller.setAttribute("aria-label", `Log of ${this.app}`);
    this.#remark();
    this.facets.draw();
    const { at } = this.#view;
    this.list.following = !at;
    void this.log.open(this.#view.filter(), at).then(() => at && this.#goto(at));
    this.counts.stop();
    this.#uncounted = 4;
  }

  /** @param {string} cursor */
  #goto(cursor) {
    const index = this.log.lines.findIndex((line) => line.cursor === cursor);
    if (index < 0) return;
    this.log.lines[index].open = true;
    this.#show(index);
  }

  /** Go to a line and mark it. @param {number} index */
  #show(index) {
    const line = this.log.lines[index];
    if (!line) return;
    const before = this.#current;
    this.#current = this.finder.current = line;
    this.#stay();
    for (const each of [before, line]) if (each) this.list.remake(each);
    this.list.show(index);
  }

  #oldest() {
    const line = this.log.lines.find((each) => each.fields.time);
    return line ? Date.parse(line.fields.time) : Infinity;
  }

  // the lines

  /** @param {import("./log.js").Change} change @param {number} count */
  #changed(change, count) {
    if (change === "append" || change === "prepend") {
      const { lines } = this.log;
      const added = change === "append" ? lines.slice(lines.length - count) : lines.slice(0, count);
      this.said.came(added);
    } else if (change === "clear") {
      this.said.clear();
    }
    this.list.changed(change, count);
  }

  /** @param {number} index */
  #row(index) {
    const line = this.log.lines[index];
    const look = { time: this.#looks.time, palette: this.#palette, marks: this.#marks, current: this.#current };
    return row(line, look, {
      facet: (facet, value, include) =>
        this.#change((view) => {
          if (include) view.chosen[facet] = [value];
          else this.facets.hide(view, facet, value);
        }),
      text: (text, include) => this.#change((view) => view[include ? "grep" : "exclude"].push(text)),
      copy: (each, what) => void this.#copy(each, what),
      traced: (each) => together(this.log.lines, this.log.lines.indexOf(each)).length,
      fold: (each) => this.#fold(each),
    });
  }

  /** @param {boolean} user */
  #scrolled(user) {
    const { log, list } = this;
    if (user) {
      if (list.atEnd && (log.bottom === "live" || log.bottom === "done")) this.#follow();
      else if (log.following && !list.following) this.#stay();
    }
    const { state } = log.connection;
    if (state !== "connecting" && state !== "refused") {
      if (list.first < AHEAD) void log.older();
      if (list.last > log.lines.length - AHEAD) void log.newer();
    }
    this.#told();
  }

  #follow() {
    this.log.following = this.list.following = true;
    this.log.unseen = 0;
    this.#told();
  }

  #stay() {
    this.log.following = this.list.following = false;
    this.#told();
  }

  #live() {
    this.#view.at = "";
    this.#publish();
    this.list.follow();
    void this.log.toLive();
    this.scroller.focus({ preventScroll: true });
  }

  #told() {
    if (this.#ready) this.pane.dataset.state = this.said.show(this.#view.filtered);
  }

  #tick() {
    this.said.tick();
    if (this.#uncounted && (this.log.lines.length || this.log.connection.state === "live")) {
      this.#uncounted = this.log.lines.length ? 0 : this.#uncounted - 1;
      if (!this.#uncounted) void this.counts.refresh();
    }
    if (this.#looks.time === "relative") this.#retime();
    this.#told();
  }

  #retime() {
    for (const time of this.list.rows.querySelectorAll("time")) {
      time.textContent = shown(time.dateTime, "relative", Date.now());
    }
  }

  // what a user does

  #commands() {
    return {
      change: (/** @type {(view: View) => void} */ change) => this.#change(change),
      pause: () => this.#pause(),
      next: () => void this.#find(1),
      previous: () => void this.#find(-1),
      wrap: () => this.#wrap(),
      timeForm: (/** @type {import("./times.js").TimeForm} */ form) => this.#times(form),
      save: (/** @type {"text" | "json"} */ form) => void this.#save(form),
      help: () => this.#dialog.showModal(),
      full: () => void (document.fullscreenElement ? document.exitFullscreen() : this.requestFullscreen()),
    };
  }

  /** @returns {Record<string, () => void>} */
  #keys() {
    return {
      search: () => this.toolbar.search.select(),
      only: () => this.#change((view) => (view.only = !view.only)),
      next: () => void this.#find(1),
      previous: () => void this.#find(-1),
      pause: () => this.#pause(),
      start: () => void this.#start(),
      live: () => this.#live(),
      down: () => this.#move(1),
      up: () => this.#move(-1),
      unfold: () => this.#focused && this.#fold(this.#focused),
      wrap: () => this.#wrap(),
      times: () => this.#times(this.#looks.next),
      escape: () => this.#escape(),
      help: () => this.#dialog.showModal(),
    };
  }

  #pause() {
    if (this.log.following) this.#stay();
    else this.#live();
  }

  async #start() {
    this.#stay();
    await this.log.toStart();
    this.list.show(0, "nearest");
  }

  /** @param {1 | -1} way */
  async #find(way) {
    const [first, last] = this.list.view;
    this.#stay();
    try {
      const index = await this.finder.find(this.#view, way, way > 0 ? first : last - 1);
      if (index >= 0) this.#show(index);
    } catch {
      this.toolbar.found.textContent = "the search failed";
    }
  }

  /** @param {1 | -1} way */
  #move(way) {
    const { lines } = this.log;
    if (!lines.length) return;
    const [first, last] = this.list.view;
    const held = this.#focused ? lines.indexOf(this.#focused) : -1;
    const seen = held >= first - 1 && held <= last;
    const index = Math.min(lines.length - 1, Math.max(0, seen ? held + way : way > 0 ? first : last - 1));
    this.#stay();
    this.#focused = lines[index];
    this.list.show(index, "nearest");
    this.list.element(lines[index])?.focus({ preventScroll: true });
  }

  /** Fold or unfold. @param {import("./line.js").Line} line */
  #fold(line) {
    line.open = !line.open;
    this.#stay();
    this.#focused = line;
    this.list.remake(line);
    this.list.draw();
    this.list.show(this.log.lines.indexOf(line), "nearest");
    this.list.element(line)?.focus({ preventScroll: true });
  }

  #escape() {
    const open = this.log.lines.find((line) => line.open);
    const root = /** @type {ShadowRoot} */ (this.shadowRoot);
    if (root.activeElement === this.toolbar.search) this.scroller.focus();
    else if (open) this.#fold(open);
    else if (this.#view.since || this.#view.until) this.#change((view) => Object.assign(view, { since: "", until: "" }));
    else if (this.#view.q) this.#change((view) => Object.assign(view, { q: "", only: false }));
  }

  #wrap() {
    this.#looks.wrap = !this.#looks.wrap;
    this.#relook();
  }

  /** @param {import("./times.js").TimeForm} form */
  #times(form) {
    this.#looks.time = form;
    this.#relook();
  }

  #relook() {
    this.#looks.keep();
    this.toolbar.show(this.#looks);
    this.#wrapped();
    this.list.refresh();
    this.list.resized();
  }

  #wrapped() {
    this.scroller.classList.toggle("nowrap", !this.#looks.wrap);
  }

  /** @param {Event} event @returns {number} index of the row that it is about */
  #indexOf(event) {
    const target = /** @type {Element} */ (event.target);
    const element = target.closest(".row");
    if (!element || target.closest(".details")) return -1;
    return this.log.lines.findIndex((line) => this.list.element(line) === element);
  }

  /** @param {MouseEvent} event */
  #clicked(event) {
    // Whoever chose text wants that text.
    if (getSelection()?.type === "Range") return this.#stay();
    const line = this.log.lines[this.#indexOf(event)];
    if (line && line.notice === undefined) this.#fold(line);
  }

  /** @param {PointerEvent} event */
  #hovered(event) {
    const index = this.#indexOf(event);
    if (index >= 0) this.#together(together(this.log.lines, index));
  }

  /** Show which lines belong together. @param {number[]} indices */
  #together(indices) {
    for (const element of this.list.rows.querySelectorAll(".together")) element.classList.remove("together");
    if (indices.length < 2) return;
    for (const index of indices) this.list.element(this.log.lines[index])?.classList.add("together");
  }

  /** @param {import("./line.js").Line} line @param {"text" | "json" | "link" | "trace"} what */
  async #copy(line, what) {
    const { lines } = this.log;
    let text = what === "json" ? line.raw : line.text;
    if (what === "trace") text = together(lines, lines.indexOf(line)).map((index) => lines[index].text).join("\n");
    if (what === "link") {
      const url = new URL(location.href);
      const linked = Object.assign(new View(), this.#view, { at: line.cursor });
      text = String(Object.assign(url, { search: linked.write(url.searchParams).toString() }));
    }
    try {
      await navigator.clipboard.writeText(text);
      this.said.speak("Copied");
      this.toolbar.found.textContent = "copied";
    } catch {
      this.toolbar.found.textContent = "the browser refused to copy";
    }
  }

  /** @param {"text" | "json"} form */
  async #save(form) {
    const stop = new AbortController();
    const cancel = () => stop.abort();
    this.toolbar.progress(saved(0, this.counts.total), cancel);
    try {
      const filter = this.#view.filter();
      const told = (/** @type {number} */ lines) => this.toolbar.progress(saved(lines, this.counts.total), cancel);
      const blob = await download(this.log.service, this.app, filter, form, stop.signal, told);
      offer(blob, `${this.app}.${form === "json" ? "ndjson" : "log"}`);
      this.toolbar.progress("", null);
    } catch (error) {
      const why = error instanceof Error ? error.message : "";
      this.toolbar.progress(stop.signal.aborted ? "" : `The download failed. ${why}`, null);
    }
  }
}

customElements.define("log-pane", LogPane);
