/** Lines over time by stream, above the lines; a drag over it is a range. */
import { counted, h, svg } from "./dom.js";
import { full, rfc3339 } from "./times.js";

const HEIGHT = 40;
const BARS = 90;
const S = 1000;
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 604_800];

/** The step in s that gives a range a good many bars. @param {number} ms */
export function stepFor(ms) {
  return STEPS.find((step) => ms / (step * S) <= BARS) ?? Math.ceil(ms / S / BARS / 604_800) * 604_800;
}

export class Plot {
  /** The range in Unix ms. */
  #from = 0;
  #to = 1;
  /** @type {Map<number, {stdout: number, stderr: number}>} by Unix ms */
  #bars = new Map();
  /** s of a bar. */
  #step = 1;
  /** Where a drag began, in px. */
  #begun = NaN;

  /** @param {() => import("./times.js").TimeForm} form of times @param {(since: string, until: string) => void} zoom */
  constructor(form, zoom) {
    this.form = form;
    this.zoom = zoom;
    const looks = { role: "img", "aria-label": "Lines over time", preserveAspectRatio: "none" };
    this.svg = /** @type {SVGSVGElement} */ (svg("svg", looks));
    this.range = h("div", { class: "drag", hidden: true });
    this.most = h("span", { class: "most" });
    this.ends = h("div", { class: "ends" });
    this.element = h("div", { class: "plot", part: "plot" }, h("div", { class: "bars" }, this.range, this.most), this.ends);
    this.range.before(this.svg);
    this.svg.addEventListener("pointerdown", (event) => this.#down(event));
    this.svg.addEventListener("pointermove", (event) => this.#move(event));
    this.svg.addEventListener("pointerup", (event) => this.#up(event));
    this.svg.addEventListener("pointercancel", () => this.#cancel());
  }

  /**
   * @param {{time: string, stream: string, lines: number}[]} buckets @param {number} step s
   * @param {number} from Unix ms @param {number} to
   */
  show(buckets, step, from, to) {
    this.#from = Math.floor(from / (step * S)) * step * S;
    this.#to = Math.max(to, this.#from + step * S);
    /** @type {Map<number, {stdout: number, stderr: number}>} */
    const bars = new Map();
    for (const { time, stream, lines } of buckets) {
      const at = Date.parse(time);
      const bar = bars.get(at) ?? { stdout: 0, stderr: 0 };
      bar[stream === "stderr" ? "stderr" : "stdout"] += lines;
      bars.set(at, bar);
    }
    this.#bars = bars;
    this.#step = step;
    this.draw();
  }

  draw() {
    const bars = this.#bars;
    const step = this.#step;
    if (!bars.size && !this.svg.firstChild) return;
    const time = (/** @type {number} */ at) => full(rfc3339(at), this.form());
    const span = this.#to - this.#from;
    const most = Math.max(1, ...[...bars.values()].map((bar) => bar.stdout + bar.stderr));
    const sum = { stdout: 0, stderr: 0 };
    const width = Math.max(1, (step * S * 1000) / span - 0.8);
    this.svg.setAttribute("viewBox", `0 0 1000 ${HEIGHT}`);
    const shapes = [];
    for (const [at, bar] of bars) {
      const x = ((at - this.#from) / span) * 1000;
      const high = (bar.stdout / most) * HEIGHT;
      const more = (bar.stderr / most) * HEIGHT;
      sum.stdout += bar.stdout;
      sum.stderr += bar.stderr;
      const title = `${time(at)}: ${counted(bar.stdout)} stdout, ${counted(bar.stderr)} stderr`;
      const place = { x: x.toFixed(2), width: width.toFixed(2) };
      shapes.push(
        svg(
          "g",
          {},
          svg("title", {}, title),
          svg("rect", { ...place, y: HEIGHT - high, height: high, class: "stdout" }),
          svg("rect", { ...place, y: HEIGHT - high - more, height: more, class: "stderr" }),
        ),
      );
    }
    this.svg.replaceChildren(...shapes);
    const words = `${counted(sum.stdout + sum.stderr)} lines, ${counted(sum.stderr)} of them stderr`;
    this.svg.setAttribute("aria-label", `Lines over time: ${words}, at most ${counted(most)} in ${step} s`);
    this.most.textContent = `${words} · highest bar ${counted(most)}`;
    // Without fractions of a second.
    const ends = [this.#from, this.#to].map((at) => time(at).replace(/\.\d+/, ""));
    this.ends.replaceChildren(...ends.map((end) => h("span", {}, end)));
  }

  /** @param {PointerEvent} event @returns {number} px in the plot */
  #x(event) {
    return event.clientX - this.svg.getBoundingClientRect().left;
  }

  /** @param {number} x px in the plot */
  #time(x) {
    const { width } = this.svg.getBoundingClientRect();
    return this.#from + (Math.min(Math.max(0, x), width) / width) * (this.#to - this.#from);
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (event.button) return;
    this.#begun = this.#x(event);
    this.svg.setPointerCapture(event.pointerId);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (Number.isNaN(this.#begun)) return;
    const [from, to] = [this.#begun, this.#x(event)].sort((one, other) => one - other);
    this.range.hidden = to - from < 4;
    this.range.style.left = `${from}px`;
    this.range.style.width = `${to - from}px`;
  }

  /** @param {PointerEvent} event */
  #up(event) {
    const [from, to] = [this.#begun, this.#x(event)].sort((one, other) => one - other);
    this.#cancel();
    if (to - from >= 4) this.zoom(rfc3339(this.#time(from)), rfc3339(this.#time(to)));
  }

  #cancel() {
    this.#begun = NaN;
    this.range.hidden = true;
  }
}
