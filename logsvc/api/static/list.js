/**
 * A virtual list: of all rows only those in view, and a few around them, are in the document.
 *
 * What stays in place when rows come, go or change height is the row at the top of the view (the anchor), or the end
 * where the list follows it.
 */
import { Heights } from "./heights.js";
import { h } from "./dom.js";

/** px above and below the view in which rows are made as well, and where they all are new with each drawing. */
const MARGIN = { still: 300, following: 100 };
/** px from the end at which one is at the end. */
const NEAR = 4;
/** ms between drawings where there is too much to draw. */
const SLOW = 250;

export class List {
  /** The line at the top of the view, and how far it is scrolled off. */
  #anchor = 0;
  #offset = 0;
  /** Where the list was put by itself, so that what scrolls it else is the user. */
  #put = 0;
  #scheduled = 0;
  #timer = 0;
  /** @type {Map<object, HTMLElement>} */
  #made = new Map();
  /** The first row in the document, and behind the last: of them as they were drawn, whatever came or went since. */
  first = 0;
  last = 0;
  following = true;
  /** Whether it draws seldom. */
  slow = false;
  /** How often it drew. */
  drawn = 0;
  /** When the last drawing was done, and what it took: ms. */
  #done = 0;
  #took = 0;

  /**
   * @param {HTMLElement} scroller @param {() => readonly object[]} items
   * @param {(index: number) => HTMLElement} render @param {(user: boolean) => void} scrolled by the user,
   *   or drawn
   */
  constructor(scroller, items, render, scrolled) {
    this.scroller = scroller;
    this.items = items;
    this.render = render;
    this.scrolled = scrolled;
    this.rows = h("div", { class: "rows", part: "rows" });
    this.sizer = h("div", { class: "sizer" }, this.rows);
    scroller.append(this.sizer);
    this.heights = new Heights(20);
    scroller.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    this.observer = new ResizeObserver(() => this.resized());
    this.observer.observe(scroller);
  }

  disconnect() {
    this.observer.disconnect();
    cancelAnimationFrame(this.#scheduled);
    clearTimeout(this.#timer);
    this.#scheduled = this.#timer = 0;
  }

  /** @param {import("./log.js").Change} change @param {number} count */
  changed(change, count) {
    const { heights } = this;
    if (change === "append") heights.append(count);
    else if (change === "dropLast") heights.dropLast(count);
    else if (change === "prepend") {
      heights.prepend(count);
      this.#anchor += count;
      this.#moved(count);
    } else if (change === "dropFirst") {
      heights.dropFirst(count);
      this.#anchor -= count;
      this.#moved(-count);
      if (this.#anchor < 0) this.#anchor = this.#offset = 0;
    } else {
      heights.clear();
      this.#anchor = this.#offset = 0;
      this.first = this.last = 0;
      this.#forget();
    }
    this.schedule();
  }

  /** The rows of the document are others now. @param {number} by */
  #moved(by) {
    this.first = Math.max(0, this.first + by);
    this.last = Math.max(0, this.last + by);
  }

  /** Make all rows anew: they look different now. */
  refresh() {
    this.#forget();
    this.schedule();
  }

  /** Measure all rows anew. */
  resized() {
    this.heights.reset();
    // The browser put a view that grew elsewhere, and the event that comes of it isn't the user's.
    if (this.following) {
      this.scroller.scrollTop = this.scroller.scrollHeight;
      this.#put = this.scroller.scrollTop;
    }
    this.schedule();
  }

  /** Make the row of an item anew. @param {object} item */
  remake(item) {
    this.#made.get(item)?.remove();
    this.#made.delete(item);
    this.schedule();
  }

  /** The element of an item, where it is in the document. @param {object} item */
  element(item) {
    return this.#made.get(item);
  }

  follow() {
    this.following = true;
    this.schedule();
  }

  stay() {
    this.following = false;
  }

  /** Bring a row into view. @param {number} index @param {"middle" | "nearest"} where */
  show(index, where = "middle") {
    const view = this.scroller.clientHeight;
    const top = this.heights.top(index);
    const high = this.heights.top(index + 1) - top;
    const at = this.scroller.scrollTop;
    if (where === "nearest" && top >= at && top + high <= at + view) return;
    this.following = false;
    this.#anchor = index;
    if (where === "middle") this.#offset = -view / 2.5;
    else this.#offset = top < at ? 0 : -Math.max(0, view - high);
    this.draw();
  }

  get atEnd() {
    return this.scroller.scrollTop + this.scroller.clientHeight >= this.scroller.scrollHeight - NEAR;
  }

  /** Rows in view: the first, and behind the last. */
  get view() {
    const at = this.scroller.scrollTop;
    return [this.heights.at(at), this.heights.at(at + this.scroller.clientHeight) + 1];
  }

  /** Draw with the next frame, or after a rest. @param {boolean} [rests] */
  schedule(rests = true) {
    if (this.#scheduled || (this.#timer && rests)) return;
    clearTimeout(this.#timer);
    const frame = () => {
      this.#timer = 0;
      this.#scheduled = requestAnimationFrame(() => {
        this.#scheduled = 0;
        this.draw();
      });
    };
    // Half of the time is for whatever else the page does, and for what the browser makes of a drawing.
    const rest = this.slow ? SLOW : this.#done + this.#took - performance.now();
    if (rests && rest > 0) this.#timer = window.setTimeout(frame, rest);
    else frame();
  }

  draw() {
    const begun = performance.now();
    this.drawn += 1;
    // A row is as high as it is only once it is in the document, and then others may come into view.
    for (let turn = 0; turn < 4; turn++) {
      this.#layOut();
      if (!this.#measure()) break;
    }
    this.scrolled(false);
    this.#done = performance.now();
    this.#took = this.#done - begun;
  }

  #layOut() {
    const { heights, scroller } = this;
    const count = heights.count;
    const view = scroller.clientHeight;
    const total = heights.total;
    const most = Math.max(0, total - view);
    let top = this.following ? most : heights.top(Math.min(this.#anchor, count)) + this.#offset;
    top = Math.min(Math.max(0, top), most);
    if (this.following) this.#anchorAt(top);
    const margin = this.following ? MARGIN.following : MARGIN.still;
    this.first = count ? heights.at(top - margin) : 0;
    this.last = count ? heights.at(top + view + margin) + 1 : 0;
    this.sizer.style.height = `${total}px`;
    this.rows.style.transform = `translateY(${heights.top(this.first)}px)`;
    this.#reconcile();
    if (Math.abs(scroller.scrollTop - top) >= 0.5) scroller.scrollTop = top;
    this.#put = scroller.scrollTop;
  }

  #reconcile() {
    const items = this.items();
    /** @type {Map<object, HTMLElement>} */
    const kept = new Map();
    for (let index = this.first; index < this.last; index++) {
      const item = items[index];
      kept.set(item, this.#made.get(item) ?? this.render(index));
    }
    for (const [item, element] of this.#made) if (kept.get(item) !== element) this.#remove(element);
    let next = this.rows.firstElementChild;
    for (const element of kept.values()) {
      if (element === next) next = next.nextElementSibling;
      else this.rows.insertBefore(element, next);
    }
    this.#made = kept;
  }

  /** @param {HTMLElement} element */
  #remove(element) {
    // The focus of a row that goes would fall out of the pane.
    if (element.contains(/** @type {ShadowRoot} */ (element.getRootNode()).activeElement)) {
      this.scroller.focus({ preventScroll: true });
    }
    element.remove();
  }

  #measure() {
    let news = false;
    let index = this.first;
    for (const element of this.#made.values()) {
      news = this.heights.set(index, element.getBoundingClientRect().height) || news;
      index += 1;
    }
    return news;
  }

  #forget() {
    for (const element of this.#made.values()) this.#remove(element);
    this.#made.clear();
  }

  /** @param {number} top */
  #anchorAt(top) {
    this.#anchor = this.heights.at(top);
    this.#offset = top - this.heights.top(this.#anchor);
  }

  #onScroll() {
    const { scrollTop } = this.scroller;
    if (Math.abs(scrollTop - this.#put) < 1) return;
    // A view that grew is put back by the browser, and is at the end still.
    if (scrollTop < this.#put && !this.atEnd) this.following = false;
    this.#put = scrollTop;
    this.#anchorAt(scrollTop);
    this.scrolled(true);
    this.schedule(false);
  }
}
