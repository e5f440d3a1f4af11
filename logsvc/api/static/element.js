/**
 * `<log-pane app="my-app">`: a window on the log of an app (docs/pane.md).
 *
 * This is where the parts are put together; each knows nothing of the others.
 */
import sheet from "./pane.css" with { type: "css" };
import { Palette } from "./colours.js";
import { Counts } from "./counts.js";
import { h } from "./dom.js";
import { Facets } from "./facets.js";
import { Finder } from "./finder.js";
import { help, listen } from "./keys.js";
import { List } from "./list.js";
import { Log } from "./log.js";
import { Looks } from "./looks.js";
import { Plot } from "./plot.js";
import { Rows } from "./rows.js";
import { Said } from "./said.js";
import { Service } from "./source.js";
import { failure } from "./status.js";
import { copy, link, save } from "./taking.js";
import { Toolbar } from "./toolbar.js";
import { View } from "./view.js";

/** ms between two looks at what changes by itself. */
const TICK = 250;

const SERVICE = new URL("../", import.meta.url).href;

export class LogPane extends HTMLElement {
  static observedAttributes = ["app", "service"];

  /** Who is asking: a bearer token, or what gives one. @type {string | import("./source.js").Token | undefined} */
  #token;
  #looks = new Looks();
  #view = new View();
  #dialog = h("dialog");
  #ticking = 0;
  #telling = 0;
  /** Looks for the first lines, from which the counts begin, until they are counted without any. */
  #uncounted = 0;
  #ready = false;

  constructor() {
    super();
    const service = new Service(SERVICE, () => (typeof this.#token === "function" ? this.#token() : (this.#token ?? "")));
    const seen = () => /** @type {[number, number]} */ ([this.list.first, this.list.last]);
    this.log = new Log(service, "", seen, (change, count) => this.#changed(change, count), () => this.#told());
    this.finder = new Finder(this.log, (word) => (this.toolbar.found.textContent = word));
    this.scroller = h("div", { class: "scroller", part: "log", role: "log", tabindex: "0", "aria-live": "off" });
    this.list = new List(this.scroller, () => this.log.lines, (index) => this.rows.make(index), (user) => this.#scrolled(user));
    const palette = new Palette();
    this.rows = new Rows(this.log, this.list, palette, this.#looks, {
      stay: () => this.#stay(),
      speak: (text) => this.said.speak(text),
      facet: (facet, value, include, line) =>
        this.#change((view) => (include ? view.choose(facet, value) : view.hide(facet, value)), line),
      pattern: (pattern, include, line) =>
        this.#change((view) => view[include ? "grep_re" : "exclude_re"].push(pattern), line),
      copy: (line, what) => void copy(this.#taken(line, what), this.said),
    });
    this.facets = new Facets(palette, () => this.#view, (change) => this.#change(change));
    const zoom = (/** @type {string} */ since, /** @type {string} */ until) =>
      this.#change((view) => Object.assign(view, { since, until }));
    this.plot = new Plot(() => this.#looks.time, zoom);
    this.counts = new Counts(service, () => this.app, () => this.#view, this.plot, this.facets, () => this.#oldest());
    this.toolbar = new Toolbar(() => this.#view, this.#commands());
    this.said = new Said(this.log, this.list, this.toolbar, {
      live: () => this.#live(),
      show: (line) => void this.#seek(line),
      expired: () => this.dispatchEvent(new CustomEvent("sessionexpired", { bubbles: true, composed: true })),
    });
    this.pane = h("div", { class: "pane", part: "pane" });
    this.#build();
  }

  #build() {
    const root = this.attachShadow({ mode: "open", delegatesFocus: false });
    root.adoptedStyleSheets = [sheet];
    const { pane, said } = this;
    const main = h("div", { class: "main" }, this.scroller, said.edge, said.back);
    pane.append(this.toolbar.element, this.facets.element, this.plot.element, said.bar, said.banner, main, said.spoken);
    this.#dialog = help();
    root.append(pane, this.#dialog);
    listen(pane, this.#keys());
    pane.addEventListener("keyup", () => pane.classList.add("keyed"));
    pane.addEventListener("pointerdown", () => pane.classList.remove("keyed"));
    this.#wrapped();
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
    this.scroller.focus(options);
  }

  connectedCallback() {
    this.#upgrade();
    if (this.#inUrl) this.#view = View.parse(new URLSearchParams(location.search));
    this.#ready = true;
    this.#ticking = window.setInterval(() => this.#tick(), TICK);
    addEventListener("popstate", this.#popped);
    addEventListener("online", this.#online);
    this.list.observer.observe(this.scroller);
    this.#light();
    this.#open();
  }

  /** Take what a page has set before this module was there. */
  #upgrade() {
    for (const name of /** @type {const} */ (["app", "token", "view"])) {
      if (!Object.hasOwn(this, name)) continue;
      const value = /** @type {any} */ (this[name]);
      delete (/** @type {any} */ (this)[name]);
      this[name] = value;
    }
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

  /** Where a link to this log leads: here, or to the service's own page. */
  get #page() {
    return this.#inUrl ? location.href : `${this.log.service.base}apps/${encodeURIComponent(this.app)}`;
  }

  #popped = () => {
    if (!this.#inUrl) return;
    this.#view = View.parse(new URLSearchParams(location.search));
    this.#open();
  };

  #online = () => this.log.retry();

  /** @param {(view: View) => void} change @param {import("./line.js").Line} [line] that stays in view if it can */
  #change(change, line = this.#read()) {
    const before = this.#view.filter().toString();
    const range = this.#view.range;
    change(this.#view);
    this.#view.at = "";
    this.#publish();
    if (this.#view.filter().toString() === before) this.#remark();
    // Another range may not have that place.
    else this.#open(this.#view.range === range ? line?.cursor : "");
  }

  /** The first line in view, where somebody reads that; none while the pane follows. */
  #read() {
    const { following, lines } = this.log;
    return following ? undefined : lines[this.list.view[0]];
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
    this.toolbar.show(this.#looks);
    this.rows.remark(this.#view);
  }

  /** @param {string} [place] cursor of a line to be around, where none is linked to */
  #open(place = "") {
    if (!this.app) return;
    this.log.app = this.app;
    this.scroller.setAttribute("aria-label", `Log of ${this.app}`);
    this.#remark();
    this.facets.draw();
    const { at } = this.#view;
    this.list.following = !at && !place;
    this.said.clear();
    void this.log.open(this.#view.filter(), at || place).then(() => at && this.#view.at === at && this.#goto(at));
    this.counts.stop();
    this.#uncounted = 4;
  }

  /** @param {string} cursor */
  #goto(cursor) {
    const index = this.log.lines.findIndex((line) => line.cursor === cursor);
    if (index < 0) {
      this.said.tell("The line of this link isn't there any more.");
      return;
    }
    this.log.lines[index].open = true;
    this.#show(index);
  }

  /** Go to a line, from which the search goes on. @param {number} index */
  #show(index) {
    this.finder.current = this.log.lines[index] ?? null;
    this.rows.show(index);
  }

  /** Go to a notice, which may have been forgotten. @param {import("./line.js").Line} notice */
  async #seek(notice) {
    const held = () => this.log.lines.findIndex((line) => line.raw === notice.raw);
    if (held() < 0) await this.log.around(notice.cursor);
    this.#show(held());
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
    }
    this.list.changed(change, count);
  }

  /** @param {boolean} user */
  #scrolled(user) {
    const { log, list } = this;
    if (user) {
      if (list.atEnd && (log.bottom === "live" || log.bottom === "done")) this.#follow();
      else if (log.following && !list.following) this.#stay();
    }
    log.ahead();
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

  /** Say it once a frame: what is said makes the view of the lines higher or lower. */
  #told() {
    this.#telling ||= requestAnimationFrame(() => this.#tell());
  }

  #tell() {
    cancelAnimationFrame(this.#telling);
    this.#telling = 0;
    if (this.#ready) this.pane.dataset.state = this.said.show(this.#view.filtered);
  }

  /** Have the colours that can be read on the background: the page's, or what it gives the pane. */
  #light() {
    const parts = getComputedStyle(this).outlineColor.match(/[\d.]+(?:e-?\d+)?/g) ?? [];
    const [r, g, b, alpha = 1] = parts.map(Number);
    const scheme = 0.2126 * r + 0.7152 * g + 0.0722 * b < 0.18 ? "dark" : "light";
    for (const { style } of [this.pane, this.#dialog]) style.colorScheme = alpha > 0.5 ? scheme : "inherit";
  }

  #tick() {
    this.#light();
    this.said.tick();
    if (this.#uncounted && (this.log.lines.length || this.log.connection.state === "live")) {
      this.#uncounted = this.log.lines.length ? 0 : this.#uncounted - 1;
      if (!this.#uncounted) void this.counts.refresh();
    }
    if (this.#looks.time === "relative") this.rows.retime();
    this.#tell();
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
      save: (/** @type {"text" | "json"} */ form) =>
        void save(this.log, this.#view.filter(), form, this.toolbar),
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
      down: () => this.rows.move(1),
      up: () => this.rows.move(-1),
      unfold: () => this.rows.fold(),
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
    } catch (error) {
      // Who has gone elsewhere doesn't look for it any more.
      const left = error instanceof DOMException && error.name === "AbortError";
      this.toolbar.found.textContent = left ? "" : `the search failed. ${failure(error)}`;
    }
  }

  #escape() {
    const open = this.rows.unfolded;
    const root = /** @type {ShadowRoot} */ (this.shadowRoot);
    if (root.activeElement === this.toolbar.search) this.scroller.focus();
    else if (open) this.rows.fold(open);
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
    this.plot.draw();
    this.#wrapped();
    this.list.refresh();
    this.list.resized();
  }

  #wrapped() {
    this.scroller.classList.toggle("nowrap", !this.#looks.wrap);
  }

  /** @param {import("./line.js").Line} line @param {"text" | "json" | "link" | "trace"} what */
  #taken(line, what) {
    if (what === "json") return line.raw;
    if (what === "link") return link(this.#page, line, this.#view);
    return (what === "trace" ? this.rows.trace(line) : [line]).map(({ text }) => text).join("\n");
  }
}

customElements.define("log-pane", LogPane);
