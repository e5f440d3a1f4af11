/** The lines as one handles them: their rows, which one is gone to or unfolded, and what belongs together. */
import { Marks } from "./marks.js";
import { row } from "./row.js";
import { together } from "./stack.js";
import { shown } from "./times.js";
import { View } from "./view.js";

/** @typedef {import("./line.js").Line} Line */

export class Rows {
  /** The line that keys move from. @type {Line | null} */
  #focused = null;
  /** The line that was gone to. @type {Line | null} */
  #current = null;
  #marks = new Marks(new View());

  /**
   * @param {import("./log.js").Log} log @param {import("./list.js").List} list
   * @param {import("./colours.js").Palette} palette @param {import("./looks.js").Looks} looks
   * @param {object} commands
   * @param {() => void} commands.stay
   * @param {(text: string) => void} commands.speak
   * @param {import("./row.js").Actions["facet"]} commands.facet
   * @param {import("./row.js").Actions["pattern"]} commands.pattern
   * @param {import("./row.js").Actions["copy"]} commands.copy
   */
  constructor(log, list, palette, looks, commands) {
    this.log = log;
    this.list = list;
    this.palette = palette;
    this.looks = looks;
    this.commands = commands;
    const { scroller } = list;
    scroller.addEventListener("click", (event) => this.#clicked(event));
    scroller.addEventListener("pointermove", ({ buttons }) => {
      // What comes would push away what somebody is about to choose.
      if (buttons === 1 && getSelection()?.type === "Range") this.commands.stay();
    });
    scroller.addEventListener("pointerover", (event) => this.#hovered(event));
    scroller.addEventListener("pointerleave", () => this.#together([]));
  }

  /** Make them anew for another search. @param {View} view */
  remark(view) {
    this.#current = null;
    this.#marks = new Marks(view);
    this.list.refresh();
  }

  /** @param {number} index */
  make(index) {
    const look = { time: this.looks.time, palette: this.palette, marks: this.#marks, current: this.#current };
    return row(this.log.lines[index], look, {
      ...this.commands,
      traced: (line) => this.trace(line).length,
      fold: (line) => this.fold(line),
    });
  }

  /** Lines of the stack trace that a line belongs to. @param {Line} line */
  trace(line) {
    const { lines } = this.log;
    return together(lines, lines.indexOf(line)).map((index) => lines[index]);
  }

  /** Go to a line and mark it. @param {number} index */
  show(index) {
    const line = this.log.lines[index];
    if (!line) return;
    const before = this.#current;
    this.#current = line;
    this.commands.stay();
    for (const each of [before, line]) if (each) this.list.remake(each);
    this.list.show(index);
  }

  /** Choose the line above or below. @param {1 | -1} way */
  move(way) {
    const { lines } = this.log;
    if (!lines.length) return;
    const [first, last] = this.list.view;
    const held = this.#focused ? lines.indexOf(this.#focused) : -1;
    const seen = held >= first - 1 && held <= last;
    const index = Math.min(lines.length - 1, Math.max(0, seen ? held + way : way > 0 ? first : last - 1));
    this.commands.stay();
    this.#focused = lines[index];
    this.list.show(index, "nearest");
    this.list.element(lines[index])?.focus({ preventScroll: true });
  }

  /** The line that Esc folds: the one chosen, else the first. */
  get unfolded() {
    return this.#focused?.open ? this.#focused : this.log.lines.find((line) => line.open);
  }

  /** Fold or unfold. @param {Line | null | undefined} [line] without one that which was chosen */
  fold(line = this.#focused) {
    if (!line) return;
    line.open = !line.open;
    this.commands.speak(line.open ? "Unfolded" : "Folded");
    this.commands.stay();
    this.#focused = line;
    this.list.remake(line);
    this.list.draw();
    this.list.show(this.log.lines.indexOf(line), "nearest");
    this.list.element(line)?.focus({ preventScroll: true });
  }

  /** Say again how long ago they were written. */
  retime() {
    for (const time of this.list.rows.querySelectorAll("time")) {
      time.textContent = shown(time.dateTime, "relative", Date.now());
    }
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
    if (getSelection()?.type === "Range") return this.commands.stay();
    const line = this.log.lines[this.#indexOf(event)];
    if (line && line.notice === undefined) this.fold(line);
  }

  /** @param {PointerEvent} event */
  #hovered(event) {
    const index = this.#indexOf(event);
    if (index >= 0) this.#together(this.trace(this.log.lines[index]));
  }

  /** Show which lines belong together. @param {Line[]} lines */
  #together(lines) {
    for (const element of this.list.rows.querySelectorAll(".together")) element.classList.remove("together");
    if (lines.length < 2) return;
    for (const line of lines) this.list.element(line)?.classList.add("together");
  }
}
