/** How many lines there are, by time for the plot and by facet for the chips: asked for again now and then. */
import { stepFor } from "./plot.js";
import { instant } from "./times.js";
import { FACETS } from "./view.js";

/** ms between two looks at a live log, and a range where none is chosen. */
const AGAIN = 15_000;
const HOUR = 3_600_000;

export class Counts {
  #timer = 0;
  /** @type {AbortController} */
  #asking = new AbortController();

  /**
   * @param {import("./source.js").Service} service @param {() => string} app @param {() => import("./view.js").View} view
   * @param {import("./plot.js").Plot} plot @param {import("./facets.js").Facets} facets
   * @param {() => number} oldest Unix ms of the first line that is known
   */
  constructor(service, app, view, plot, facets, oldest) {
    this.service = service;
    this.app = app;
    this.view = view;
    this.plot = plot;
    this.facets = facets;
    this.oldest = oldest;
  }

  stop() {
    clearTimeout(this.#timer);
    this.#asking.abort();
  }

  /** Ask now, or once somebody can see the answer; and again while the log is live, or until there is an answer. */
  async refresh() {
    this.stop();
    const { signal } = (this.#asking = new AbortController());
    if (document.hidden) {
      document.addEventListener("visibilitychange", () => void this.refresh(), { once: true, signal });
      return;
    }
    let final = this.view().until !== "";
    try {
      await this.#ask(signal);
    } catch {
      // The lines say what is wrong with the service; the next look may do.
      final = false;
    }
    if (!signal.aborted && !final) this.#timer = window.setTimeout(() => void this.refresh(), AGAIN);
  }

  /** @param {AbortSignal} signal */
  async #ask(signal) {
    const now = Date.now();
    const view = this.view();
    const to = view.until ? instant(view.until, now) : now;
    const from = view.since ? instant(view.since, now) : Math.min(to - HOUR, this.oldest());
    const step = stepFor(to - from);
    const filter = view.filter();
    const facets = view.countable();
    for (const query of [filter, facets]) if (!view.since) query.set("since", new Date(from).toISOString());
    filter.set("step", `${step}s`);
    filter.set("by", "stream");
    facets.set("step", "7000w");
    for (const facet of FACETS) facets.append("by", facet);
    const [bars, chips] = await Promise.all([
      this.service.volume(this.app(), filter, signal),
      this.service.volume(this.app(), facets, signal),
    ]);
    if (signal.aborted) return;
    this.plot.show(bars.buckets, step, from, to);
    this.facets.show(chips.buckets);
  }
}
